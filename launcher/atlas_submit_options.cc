#include "launcher/atlas_submit_options.h"

#include <algorithm>

namespace atlas {
namespace {

using enum Takes;

struct Short {
  char letter;
  std::string_view name;
};

// Only where values are matters here: it decides which word is the script. An option that one of the versions lacks is
// refused by sbatch itself.
constexpr Short kShort[] = {
    {'a', "array"},      {'b', "begin"},     {'c', "cpus-per-task"}, {'d', "dependency"},    {'e', "error"},
    {'h', "help"},       {'i', "input"},     {'k', "no-kill"},       {'m', "distribution"},  {'n', "ntasks"},
    {'o', "output"},     {'p', "partition"}, {'q', "qos"},           {'s', "oversubscribe"}, {'t', "time"},
    {'v', "verbose"},    {'w', "nodelist"},  {'x', "exclude"},       {'A', "account"},       {'B', "extra-node-info"},
    {'C', "constraint"}, {'D', "chdir"},     {'F', "nodefile"},      {'G', "gpus"},          {'H', "hold"},
    {'J', "job-name"},   {'L', "licenses"},  {'M', "clusters"},      {'N', "nodes"},         {'O', "overcommit"},
    {'Q', "quiet"},      {'S', "core-spec"}, {'V', "version"},       {'W', "wait"}};

}  // namespace

const std::vector<SbatchOption>& sbatch_options() {
  static const std::vector<SbatchOption> kOptions = [] {
    std::vector<SbatchOption> all;
    for (const auto* name :
         {"contiguous",    "external", "help",          "hold",    "ignore-pbs", "no-requeue", "overcommit",
          "oversubscribe", "parsable", "quiet",         "reboot",  "requeue",    "spread-job", "stepmgr",
          "test-only",     "usage",    "use-min-nodes", "verbose", "version",    "wait"})
      all.push_back({name, none});
    for (const auto* name :
         {"exclusive", "get-user-env", "nice", "no-kill", "oom-kill-step", "propagate", "resv-ports"})
      all.push_back({name, optional});
    for (const auto* name : {"account",
                             "acctg-freq",
                             "array",
                             "autocomplete",
                             "batch",
                             "bb",
                             "bbf",
                             "begin",
                             "chdir",
                             "cluster",
                             "cluster-constraint",
                             "clusters",
                             "comment",
                             "constraint",
                             "container",
                             "container-id",
                             "core-spec",
                             "cores-per-socket",
                             "cpu-freq",
                             "cpus-per-gpu",
                             "cpus-per-task",
                             "deadline",
                             "delay-boot",
                             "dependency",
                             "distribution",
                             "error",
                             "exclude",
                             "export",
                             "export-file",
                             "extra",
                             "extra-node-info",
                             "gid",
                             "gpu-bind",
                             "gpu-freq",
                             "gpus",
                             "gpus-per-node",
                             "gpus-per-socket",
                             "gpus-per-task",
                             "gres",
                             "gres-flags",
                             "hint",
                             "input",
                             "job-name",
                             "kill-on-invalid-dep",
                             "licenses",
                             "mail-type",
                             "mail-user",
                             "mcs-label",
                             "mem",
                             "mem-bind",
                             "mem-per-cpu",
                             "mem-per-gpu",
                             "mincpus",
                             "network",
                             "nodefile",
                             "nodelist",
                             "nodes",
                             "ntasks",
                             "ntasks-per-core",
                             "ntasks-per-gpu",
                             "ntasks-per-node",
                             "ntasks-per-socket",
                             "ntasks-per-tres",
                             "open-mode",
                             "output",
                             "partition",
                             "power",
                             "prefer",
                             "priority",
                             "profile",
                             "qos",
                             "reservation",
                             "segment",
                             "signal",
                             "sockets-per-node",
                             "switches",
                             "tasks-per-node",
                             "thread-spec",
                             "threads-per-core",
                             "time",
                             "time-min",
                             "tmp",
                             "tres-bind",
                             "tres-per-task",
                             "uid",
                             "wait-all-nodes",
                             "wckey",
                             "wrap"})
      all.push_back({name, required});
    return all;
  }();
  return kOptions;
}

std::optional<SbatchOption> find_sbatch_option(std::string_view long_name) {
  const auto& all = sbatch_options();
  const auto exact = std::find_if(all.begin(), all.end(), [&](const auto& o) { return o.name == long_name; });
  if (exact != all.end()) return *exact;
  std::optional<SbatchOption> found;
  for (const auto& option : all) {
    if (long_name.empty() || !option.name.starts_with(long_name)) continue;
    // Several: sbatch will refuse it as ambiguous unless this version knows only one of them. They mostly agree on
    // taking a value, and then where the script is does not depend on which it is.
    if (found && found->takes != option.takes) return std::nullopt;
    if (!found) found = option;
  }
  return found;
}

std::optional<SbatchOption> find_sbatch_option(char letter) {
  const auto* const found =
      std::find_if(std::begin(kShort), std::end(kShort), [letter](const Short& s) { return s.letter == letter; });
  if (found == std::end(kShort)) return std::nullopt;
  return find_sbatch_option(found->name);
}

}  // namespace atlas
