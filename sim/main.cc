#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>

#include "launcher/ui.h"
#include "sim/experiment.h"
#include "sim/generate.h"

namespace atlas::sim {
namespace {

constexpr std::string_view kTool = "atlas-sim";

struct Args {
  Site site;
  std::string cache, origin_rate, node_rate, peer_rate;
  std::vector<std::string> workloads;
  std::string csv, swf, sacct;
  std::vector<std::string> policies{"blind", "prefer", "delay", "atlas", "oracle"};
  std::uint64_t seed = 1;
  std::uint32_t seeds = 1, jobs = 0, datasets = 0;
  double zipf = -1, load = -1;
  std::string plot;
  bool json = false, noheader = false, parsable = false, quiet = false;
};

void add_options(CLI::App& app, Args& args) {
  app.add_option("--workload", args.workloads, "Generated workloads: zipf, partial, none (default: all three)")
      ->delimiter(',')
      ->group("Workload");
  app.add_option("--csv", args.csv, "Replay a trace: job,submit,nodes,cpus,runtime,limit,user,datasets")
      ->group("Workload");
  app.add_option("--swf", args.swf, "Replay a trace in the Standard Workload Format")->group("Workload");
  app.add_option("--sacct", args.sacct, "Replay what sacct -a -X -P printed")->group("Workload");
  app.add_option("--seed", args.seed, "Seed of the generator (default 1)")->group("Workload");
  app.add_option("--seeds", args.seeds, "Average over so many seeds, from --seed on (default 1)")
      ->check(CLI::Range(1, 1000))
      ->group("Workload");
  app.add_option("--jobs", args.jobs, "Jobs to generate")->check(CLI::Range(1, 1000000))->group("Workload");
  app.add_option("--datasets", args.datasets, "Datasets to generate")->check(CLI::Range(1, 100000))->group("Workload");
  app.add_option("--zipf", args.zipf, "Exponent of Zipf's law of reuse")
      ->check(CLI::Range(0.0, 5.0))
      ->group("Workload");
  app.add_option("--load", args.load, "Node time asked for / node time there is")
      ->check(CLI::Range(0.01, 10.0))
      ->group("Workload");
  app.add_option("--nodes", args.site.nodes, "Nodes (default 200)")->check(CLI::Range(1, 20000))->group("Site");
  app.add_option("--cpus", args.site.cpus, "CPUs of a node (default 64)")->check(CLI::Range(1, 4096))->group("Site");
  app.add_option("--cache", args.cache, "Cache of a node (default 1.36T)")->group("Site");
  app.add_option("--origin-rate", args.origin_rate, "Bytes per second of the origin (default 7.45G)")->group("Site");
  app.add_option("--node-rate", args.node_rate, "What a node can take in per second (default 2.33G)")->group("Site");
  app.add_option("--peer-rate", args.peer_rate, "What a node gives to others per second (default 1.16G), or 0")
      ->group("Site");
  app.add_option("--policy", args.policies,
                 "blind, prefer, delay[=TIME], atlas[,NAME=VALUE...], oracle; may be repeated")
      ->allow_extra_args(false);
  app.add_flag("--json", args.json, "JSON, times in seconds, sizes in bytes");
  app.add_flag("--noheader", args.noheader, "No line of titles");
  app.add_flag("--parsable2", args.parsable, "'|' between columns");
  app.add_option("--plot", args.plot, "Write an SVG of waits and stalls to this file");
}

Status read_site(Args& args) {
  const auto size = [](const std::string& text, Bytes& into) -> Status {
    if (text.empty()) return {};
    if (text == "0") return static_cast<void>(into = Bytes{}), Status{};
    ATLAS_ASSIGN(into, parse_size(text));
    return {};
  };
  ATLAS_TRY(size(args.cache, args.site.cache));
  ATLAS_TRY(size(args.origin_rate, args.site.origin_rate));
  ATLAS_TRY(size(args.node_rate, args.site.node_rate));
  ATLAS_TRY(size(args.peer_rate, args.site.peer_rate));
  if (args.site.origin_rate.count == 0 || args.site.node_rate.count == 0)
    return fail(Code::invalid_argument, "--origin-rate and --node-rate must be more than 0");
  return {};
}

Result<Workload> read_trace(const Args& args) {
  const auto& path = !args.csv.empty() ? args.csv : !args.swf.empty() ? args.swf : args.sacct;
  std::ifstream in(path);
  if (!in) return fail_errno(errno, "cannot read " + path);
  Catalogue catalogue;
  catalogue.seed = args.seed;
  if (args.datasets > 0) catalogue.datasets = args.datasets;
  if (args.zipf >= 0) catalogue.zipf = args.zipf;
  auto read = !args.csv.empty()   ? read_csv(in)
              : !args.swf.empty() ? read_swf(in, args.site.cpus, catalogue)
                                  : read_sacct(in, catalogue);
  if (!read) return fail(read.error().in(path));
  return read;
}

Result<std::vector<Workload>> make_workloads(const Args& args, const std::string& name) {
  std::vector<Workload> out;
  for (std::uint32_t i = 0; i < args.seeds; ++i) {
    ATLAS_ASSIGN(auto recipe, preset(name));
    recipe.seed = args.seed + i;
    if (args.jobs > 0) recipe.jobs = args.jobs;
    if (args.datasets > 0 && recipe.datasets > 0) recipe.datasets = args.datasets;
    if (args.zipf >= 0) recipe.zipf = args.zipf;
    if (args.load > 0) recipe.load = args.load;
    out.push_back(generate(recipe, args.site));
  }
  return out;
}

Result<std::vector<Row>> run(const Args& args) {
  if (!args.csv.empty() || !args.swf.empty() || !args.sacct.empty()) {
    ATLAS_ASSIGN(auto workload, read_trace(args));
    return compare(args.site, "trace", {std::move(workload)}, args.policies);
  }
  std::vector<Row> rows;
  const auto names = args.workloads.empty() ? std::vector<std::string>{"zipf", "partial", "none"} : args.workloads;
  for (const auto& name : names) {
    ATLAS_ASSIGN(const auto workloads, make_workloads(args, name));
    ATLAS_ASSIGN(auto more, compare(args.site, name, workloads, args.policies));
    rows.insert(rows.end(), more.begin(), more.end());
  }
  return rows;
}

Status show(const Args& args, const std::vector<Row>& rows) {
  if (args.json) {
    auto list = nlohmann::ordered_json::array();
    for (const auto& row : rows) list.push_back(json_of(row));
    print_out(list.dump(2) + "\n");
  } else {
    print_out(table_of(rows).render({!args.noheader, args.parsable}));
  }
  if (args.plot.empty()) return {};
  std::ofstream out(args.plot);
  out << plot(rows);
  out.close();
  if (!out) return fail_errno(errno, "cannot write " + args.plot);
  return {};
}

int main_of(int argc, char** argv) {
  CLI::App app("Replays a trace of jobs on a simulated site and compares where policies place them",
               std::string(kTool));
  app.set_version_flag("--version", "atlas-sim " ATLAS_VERSION);
  Args args;
  add_options(app, args);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error, std::cout, std::cerr);
    return code == 0 ? kExitOk : kExitUsage;
  }
  if ((!args.csv.empty()) + (!args.swf.empty()) + (!args.sacct.empty()) + (!args.workloads.empty()) > 1)
    return report(kTool, Error{Code::invalid_argument, "one of --workload, --csv, --swf and --sacct at a time"});
  if (const auto site = read_site(args); !site) return report(kTool, site.error());
  const auto rows = run(args);
  if (!rows) return report(kTool, rows.error());
  if (const auto shown = show(args, *rows); !shown) return report(kTool, shown.error());
  return kExitOk;
}

}  // namespace
}  // namespace atlas::sim

int main(int argc, char** argv) {
  return atlas::sim::main_of(argc, argv);
}
