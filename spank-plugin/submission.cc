#include "spank-plugin/submission.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "common/percent.h"
#include "spank-plugin/resolve.h"

namespace atlas::spank {
namespace {

/// Messages of the shared parsers speak of atlas-submit's spelling, "--cache"; Slurm's own commands have
/// "--atlas-cache".
Error respelled(Error error) {
  if (error.message.starts_with("--")) error.message.insert(2, "atlas-");
  return error;
}

bool lies_in(std::string_view path, std::string_view directory) {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

}  // namespace

Status Submission::ready() {
  if (uid_ == 0)
    return fail(
        Code::failed_precondition,
        "jobs of root cannot use Atlas: submit as the user who reads the data, or leave the --atlas options out");
  if (config_) return {};
  auto config = load_config(args_.config);
  if (!config)
    return fail(config.error().code, "the Atlas options cannot be used here: " + config.error().message +
                                         "; tell your administrator, or submit without them");
  config_ = std::move(*config);
  return {};
}

Status Submission::add(OptionKey key, std::string_view value, Client client, bool existing) {
  used_ = true;
  ATLAS_TRY(ready());
  Status done;
  if (key == OptionKey::dataset) {
    done = add_dataset(value, existing);
  } else if (key == OptionKey::cache) {
    auto size = parse_cache_option(value);
    if (size) request_.cache = *size;
    done = std::move(size).map([](auto) {});
  } else if (key == OptionKey::warm) {
    auto mode = value.empty() && client == Client::interactive ? WarmMode::overlap : parse_warm_option(value);
    if (mode) request_.warm = *mode;
    done = std::move(mode).map([](auto) {});
  } else if (key == OptionKey::io_limit) {
    auto limit = parse_io_limit_option(value);
    if (limit) request_.io_limit = *limit;
    done = std::move(limit).map([](auto) {});
  } else if (key == OptionKey::on_change) {
    auto what = parse_on_change_option(value);
    if (what) request_.on_change = *what;
    done = std::move(what).map([](auto) {});
  } else {
    auto locality = parse_locality_option(value);
    if (locality) request_.locality = *locality;
    done = std::move(locality).map([](auto) {});
  }
  if (!done) return fail(respelled(std::move(done).error()));
  return {};
}

Status Submission::add_dataset(std::string_view value, bool existing) {
  ATLAS_ASSIGN(auto asked, parse_asked_dataset(value));
  std::string& dataset = asked.dataset;
  if (dataset[0] == '/' && !existing) {
    ATLAS_ASSIGN(auto resolved, resolve_dataset(*config_, dataset));
    if (!resolved.warning.empty()) warnings_.push_back(resolved.warning);
    dataset = std::move(resolved.path);
  }
  if (asked.read_write) request_.read_write.insert(dataset);
  auto& all = request_.datasets;
  if (std::find(all.begin(), all.end(), dataset) == all.end()) all.push_back(std::move(dataset));
  if (auto encoded = encode(request_); !encoded) return fail(std::move(encoded).error());
  return {};
}

Result<std::optional<Submission::Packed>> Submission::finish(std::string_view working_directory) {
  const bool used = std::exchange(used_, false);
  const Request request = std::exchange(request_, {});
  Packed packed{"", std::exchange(warnings_, {})};
  if (!used) return std::nullopt;
  if (request.datasets.empty())
    return fail(
        Code::invalid_argument,
        "the Atlas options name no dataset: add --atlas-dataset=PATH, the directory or file that the job reads");
  ATLAS_ASSIGN(packed.request, encode(request));
  for (const auto& dataset : request.datasets)
    if (!working_directory.empty() && !request.read_write.contains(dataset) && lies_in(working_directory, dataset))
      packed.warnings.push_back("the working directory lies inside the dataset '" + printable(dataset) +
                                "', which is read-only for the job: write results elsewhere (--chdir, --output)");
  return packed;
}

bool is_inherited(std::string_view variable, bool options_only) {
  constexpr std::string_view kOption = "_SLURM_SPANK_OPTION_atlas_";
  // Slurm hands an option on as _SLURM_SPANK_OPTION_PLUGIN_NAME, and once more with SLURM_SPANK_ in front in a job.
  if (variable.starts_with(kOption) || variable.starts_with("SLURM_SPANK_" + std::string(kOption)) ||
      variable.starts_with("SPANK_" + std::string(kOption)))
    return true;
  return !options_only && (variable == "SLURM_SPANK_ATLAS_REQ" || variable == "SPANK_ATLAS_REQ" ||
                           variable == "ATLAS_CACHE_STATE" || variable == "ATLAS_ROOT");
}

void forget_inherited(bool options_only) {
  std::vector<std::string> gone;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto name = text.substr(0, text.find('='));
    if (is_inherited(name, options_only)) gone.emplace_back(name);
  }
  for (const auto& name : gone) ::unsetenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): before any thread starts
}

bool inside_allocation() {
  for (const char* name : {"SLURM_JOB_ID", "SLURM_JOBID"}) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
    if (value != nullptr && std::strtoul(value, nullptr, 10) > 0) return true;
  }
  return false;
}

}  // namespace atlas::spank
