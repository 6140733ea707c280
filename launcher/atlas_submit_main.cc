// atlas-submit: sbatch with a dataset request. It parses its command line itself: what is not ours must reach sbatch
// byte for byte and in order, which no option library promises.
#include <cstdio>
#include <cstdlib>

#include "common/percent.h"
#include "launcher/atlas_submit_explain.h"
#include "launcher/atlas_submit_names.h"
#include "launcher/atlas_submit_run.h"
#include "launcher/ui_job.h"
#include "launcher/ui_json.h"

namespace atlas {
namespace {

constexpr const char* kTool = "atlas-submit";

std::string usage() {
  std::string out =
      "usage: atlas-submit [--dataset PATH|NAME[:rw]]... [--cache SIZE] [--warm[=wait|overlap]] [--locality "
      "SHARE[@MAXWAIT]]\n"
      "                    [--explain | --follow] [--json] [SBATCH OPTION...] [SCRIPT [ARGUMENT...]]\n\n"
      "Submits SCRIPT with sbatch, on nodes that hold the data it reads. All other options are sbatch's.\n"
      "Without --dataset: #SBATCH --atlas-dataset=... lines of the script, else .atlas.toml in this directory.\n\n";
  for (const auto& option : submit_options()) {
    std::string form = "  --" + std::string(option.name);
    if (option.takes == Takes::required) form += " " + std::string(option.value);
    if (option.takes == Takes::optional) form += "[=" + std::string(option.value) + "]";
    out += form + (form.size() < 29 ? std::string(29 - form.size(), ' ') : "\n" + std::string(29, ' ')) +
           std::string(option.help) + "\n";
  }
  return out + "\nExample: atlas-submit --dataset /lustre/speech --cache 200G --warm train.sh --epochs 10\n";
}

/// Submits as a child, because something is to be done with the job's id.
int submit_and_report(const Config& config, const SubmitPlan& plan, const SubmitArgs& args) {
  std::optional<std::uint32_t> job;
  int followed = kExitOk;
  const auto status = run_sbatch(plan, [&](std::string_view line) {
    const auto id = job ? std::nullopt : job_id_in(line);
    if (!args.json) print_out(std::string(line) + "\n");
    if (!id) return;
    job = id;
    if (args.json)
      print_out(dump_line({{"job_id", *id}, {"sbatch", printable(line)}, {"request", to_json(plan.request)}}));
    if (args.follow) followed = follow_job(kTool, config, *id, args.json);
  });
  if (!status) return report(kTool, status.error());
  if (*status == 0 && !job)
    print_err(std::string(kTool) + ": sbatch printed no job id (--quiet or --test-only?), so there is nothing to " +
              (args.follow ? "follow" : "report") + "\n");
  // The job is submitted: that the view of it broke off is told above and does not make the submission a failure.
  static_cast<void>(followed);
  return *status;
}

int run(const std::vector<std::string>& argv) {
  const auto args = split_submit_args(argv);
  if (!args) return report(kTool, args.error());
  if (args->help) return print_out(usage()), kExitOk;
  if (args->version) return print_out(std::string(kTool) + " " + ATLAS_VERSION + "\n"), kExitOk;
  if (args->explain && args->follow)
    return report(kTool, {Code::invalid_argument, "--explain submits nothing, so there is nothing to --follow", 0});
  auto config = load_config(args->config.empty() ? default_config_path() : std::filesystem::path(args->config));
  std::optional<Config> known;
  if (config) known = *config;
  const auto plan = plan_submit(*args, known);
  if (!plan) return report(kTool, plan.error());
  for (const auto& warning : plan->warnings) print_err(std::string(kTool) + ": warning: " + warning + "\n");
  // sbatch itself needs no atlas.toml; what talks to the controller does.
  if (!config && (args->explain || args->follow || !args->config.empty())) return report(kTool, config.error());
  if (args->explain) {
    // Before gRPC's threads start: it forks.
    SubmitPlan asked = *plan;
    asked.request = resolved(plan->request, config->submit.resolve_timeout);
    return explain(*config, asked, args->json);
  }
  if (config) {
    if (const auto names = check_names(*config, plan->request); !names) return report(kTool, names.error());
  }
  if (args->follow || args->json) return submit_and_report(known.value_or(Config{}), *plan, *args);
  return report(kTool, exec_sbatch(*plan));
}

}  // namespace
}  // namespace atlas

int main(int argc, char** argv) {
  try {
    return atlas::run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "atlas-submit: %s\n", error.what());
    return atlas::kExitFailed;
  }
}
