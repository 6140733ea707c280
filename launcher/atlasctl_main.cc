// atlasctl: the command line of operators and curious users. Only this file knows CLI11; each verb is a struct of
// arguments and a function (atlasctl_verbs.h).
#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"

namespace atlas::ctl {
namespace {

using Action = std::function<Outcome(Session&)>;

/// The command line while it is being described and parsed.
struct Commands {
  CLI::App app{"Shows and steers the data cache of a Slurm cluster."};
  std::string config;
  Output output;
  bool wants_doctor = false;
  Action action;  ///< set by the verb that was typed

  DatasetCreate create;
  DatasetSet set;
  DatasetShareWith share;
  DatasetWarm warm;
  DatasetOne dataset;
  DatasetOnNodes on_nodes;
  Placement placement;
  Nodes nodes;
  LimitSet limit_set;
  LimitFor limit;
  LimitBypass limit_bypass;
  LimitExport limit_export;
  TopArgs top;
  ObservedArgs observed;
  JobList jobs;
  JobShow job;

  template <class Args>
  void run(CLI::App* verb, Outcome (*function)(Session&, const Args&), const Args& args) {
    verb->callback([this, function, &args] { action = [function, &args](Session& s) { return function(s, args); }; });
  }
};

void add_common(Commands& c) {
  c.app.name(kTool);
  c.app.require_subcommand(1);
  c.app.fallthrough();
  c.app.set_version_flag("--version", std::string(kTool) + " " + ATLAS_VERSION);
  c.app.set_help_flag("-h,--help", "print help and exit");
  c.app.add_option("--config", c.config, "atlas.toml; default: $ATLAS_CONF, else /etc/atlas/atlas.toml")
      ->type_name("FILE");
  c.app.add_flag("--json", c.output.json, "print JSON: sizes in bytes, durations in seconds, times since the epoch");
  c.app.add_flag("--noheader,-n", c.output.noheader, "print no header line");
  c.app.add_flag("--parsable2,-P", c.output.parsable, "print cells with '|' between them, sizes in bytes");
}

/// The positional DATASET and --node of several verbs.
void add_dataset(CLI::App* verb, std::string& target, bool required) {
  verb->add_option("dataset", target, "name or path of a dataset")->required(required)->type_name("DATASET");
}
void add_node(CLI::App* verb, std::string& target, const char* help) {
  verb->add_option("--node,-w", target, help)->type_name("HOSTLIST");
}

void add_settings(CLI::App* verb, SettingsText& to) {
  verb->add_option("--revalidate", to.revalidate,
                   "when the origin is walked before a job: always, ttl=DURATION, never, default")
      ->type_name("WHEN");
  verb->add_option("--exclude", to.exclude,
                   "what is not cached: '*.tmp' is left out, 'checkpoints/' stays the origin's")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  verb->add_flag("--no-exclude", to.no_exclude, "no such pattern any more");
  verb->add_option("--cache", to.cache, "the most that a node keeps of it; 0 = no limit")->type_name("SIZE");
  verb->add_option("--tier", to.tier, "medium wanted (a [[tier]]'s name); any = whichever has room")->type_name("TIER");
  verb->add_option("--ttl", to.ttl, "replicas go when unused for so long; 0s = when room is needed")
      ->type_name("DURATION");
  verb->add_option("--replicas", to.replicas, "nodes that shall hold it once somebody has warmed it; 0 = no matter")
      ->type_name("N");
}

void add_dataset_verbs(Commands& c) {
  auto* const group =
      c.app.add_subcommand("dataset", "datasets: names, sizes, warm-up")->alias("cache")->require_subcommand(1);
  auto* verb = group->add_subcommand("create", "give a directory or file below an origin a short name");
  verb->add_option("name", c.create.name, "site-wide NAME (operators), or ~USER/NAME")->required()->type_name("NAME");
  verb->add_option("path", c.create.path, "what it stands for")->required()->type_name("PATH");
  add_settings(verb, c.create.settings);
  c.run(verb, dataset_create, c.create);
  verb = group->add_subcommand("set", "settle how a dataset is cached (its owner, operators)");
  add_dataset(verb, c.set.dataset, true);
  add_settings(verb, c.set.settings);
  c.run(verb, dataset_set, c.set);
  verb = group->add_subcommand("share", "let a Unix group read the owner's replicas (its owner, operators)");
  add_dataset(verb, c.share.dataset, true);
  verb->add_option("--group", c.share.group, "the group")->required()->type_name("GROUP");
  verb->add_flag("--remove", c.share.remove, "take that back");
  c.run(verb, dataset_share, c.share);
  verb = group->add_subcommand("list", "datasets you may read: size, how much is cached, where");
  add_dataset(verb, c.dataset.dataset, false);
  c.run(verb, dataset_list, c.dataset);
  verb = group->add_subcommand("show", "all that is known about one dataset");
  add_dataset(verb, c.dataset.dataset, true);
  c.run(verb, dataset_show, c.dataset);
  verb = group->add_subcommand("warm", "copy a dataset to nodes and show how far it is");
  add_dataset(verb, c.warm.dataset, true);
  add_node(verb, c.warm.nodes, "nodes to warm; default: the one that has most of it, else most free cache");
  verb->add_option("--path", c.warm.patterns, "only files that match, or lie below a directory that does")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  verb->add_option("--files-from", c.warm.files_from, "only the files listed there, one a line; - = standard input")
      ->type_name("FILE");
  verb->add_flag("--metadata-only", c.warm.metadata_only, "names and attributes only, no data");
  c.run(verb, dataset_warm, c.warm);
  verb = group->add_subcommand("verify", "compare what is cached with its checksums; what differs is fetched again");
  add_dataset(verb, c.on_nodes.dataset, true);
  add_node(verb, c.on_nodes.nodes, "nodes to look at; default: all that hold some of it");
  c.run(verb, dataset_verify, c.on_nodes);
  verb = group->add_subcommand("delete", "remove a name; data and replicas stay");
  verb->add_option("name", c.dataset.dataset, "the name to remove")->required()->type_name("NAME");
  c.run(verb, dataset_delete, c.dataset);
}

void add_placement_verbs(Commands& c) {
  auto* verb = c.app.add_subcommand("placement", "which node holds how much of what");
  add_dataset(verb, c.placement.dataset, false);
  add_node(verb, c.placement.nodes, "only these nodes");
  verb->add_option("--job", c.placement.job_id, "only what this job holds")->type_name("JOBID");
  c.run(verb, placement, c.placement);
  verb = c.app.add_subcommand("pin", "never evict a dataset's replicas (operators)");
  add_dataset(verb, c.dataset.dataset, true);
  c.run(verb, pin, c.dataset);
  verb = c.app.add_subcommand("unpin", "let a dataset's replicas be evicted again (operators)");
  add_dataset(verb, c.dataset.dataset, true);
  c.run(verb, unpin, c.dataset);
  verb = c.app.add_subcommand("evict", "remove a dataset's replicas that no job holds");
  add_dataset(verb, c.on_nodes.dataset, true);
  add_node(verb, c.on_nodes.nodes, "only on these nodes; default: wherever it is");
  c.run(verb, evict, c.on_nodes);
}

void add_node_verbs(Commands& c) {
  auto* const group = c.app.add_subcommand("node", "nodes and their caches")->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, Outcome (*function)(Session&, const Nodes&), bool required) {
    auto* const verb = group->add_subcommand(name, help);
    verb->add_option("nodes", c.nodes.nodes, "e.g. n[001-003,7]")->required(required)->type_name("HOSTLIST");
    c.run(verb, function, c.nodes);
  };
  add("list", "state, cache size and use of every node", node_list, false);
  add("show", "tiers and replicas of nodes", node_show, true);
  add("drain", "place no more data and jobs on nodes; what is there stays (operators)", node_drain, true);
  add("resume", "use drained nodes again (operators)", node_resume, true);
}

void add_subject(CLI::App* verb, LimitFor& to) {
  verb->add_option("--user", to.user, "whose jobs and warm-ups")->type_name("NAME");
  verb->add_option("--group", to.group, "the Unix group that they run under")->type_name("NAME");
  verb->add_option("--account", to.account, "the Slurm account that they run under")->type_name("NAME");
  verb->add_option("--node", to.node, "a node, by its name in Slurm")->type_name("NAME");
  verb->add_option("--origin", to.origin, "a storage, by its name in atlas.toml: what it can give")->type_name("NAME");
}

void add_limit_verbs(Commands& c) {
  auto* const group =
      c.app.add_subcommand("limit", "what users, groups, accounts and nodes may take, and origins give")
          ->require_subcommand(1);
  auto* verb = group->add_subcommand("set", "set limits; what is not named stays as it is (operators)");
  add_subject(verb, c.limit_set.subject);
  verb->add_option("--cache", c.limit_set.cache, "cache space, on all nodes together")->type_name("SIZE");
  verb->add_option("--read", c.limit_set.read, "bytes per second from origins, on all nodes together")
      ->type_name("RATE");
  verb->add_option("--ops", c.limit_set.operations, "operations per second on origins, on all nodes together")
      ->type_name("COUNT");
  verb->add_option("--burst", c.limit_set.burst, "so much of these may come at once, default 100ms")->type_name("TIME");
  verb->add_option("--weight", c.limit_set.weight, "share beside others who want the same; default 1")
      ->type_name("COUNT");
  c.run(verb, limit_set, c.limit_set);
  verb = group->add_subcommand("show", "one limit: what is set, shared out, used, and by whom");
  add_subject(verb, c.limit);
  c.run(verb, limit_show, c.limit);
  verb = group->add_subcommand("list", "limits that hold for you (operators: all), and what is taken");
  c.run(verb, limit_list, c.limit);
  verb = group->add_subcommand("delete", "take a limit back (operators)");
  add_subject(verb, c.limit);
  c.run(verb, limit_delete, c.limit);
  verb = group->add_subcommand("bypass", "what jobs have read past Atlas, as a Lustre's servers count it");
  verb->add_option("files", c.limit_bypass.files,
                   "what 'lctl get_param obdfilter.*.job_stats' prints on them; - = stdin")
      ->type_name("FILE")
      ->required();
  c.run(verb, limit_bypass, c.limit_bypass);
  verb = group->add_subcommand("export", "limits for what reads past Atlas (operators: all)");
  verb->add_flag("--lustre-tbf", c.limit_export.lustre, "as rules of Lustre's token bucket filter, a shell script");
  verb->add_option("--rpc-size", c.limit_export.request, "bytes that one of its requests moves")
      ->type_name("SIZE")
      ->capture_default_str();
  verb->add_option("--oss-partitions", c.limit_export.data_partitions,
                   "object storage servers times the CPU partitions of each")
      ->type_name("COUNT")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--mds-partitions", c.limit_export.metadata_partitions,
                   "metadata servers times the CPU partitions of each")
      ->type_name("COUNT")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.run(verb, limit_export, c.limit_export);
}

void add_top(Commands& c) {
  auto* const verb =
      c.app.add_subcommand("top", "who reads how much from origins now, where and of what (operators: all)");
  verb->add_option("table", c.top.table, "only one of nodes, users, datasets")
      ->type_name("TABLE")
      ->check(CLI::IsMember({"nodes", "users", "datasets"}));
  verb->add_flag("--once", c.top.once, "print it and end, as without a terminal");
  verb->add_option("--sort", c.top.sort, "name, origin, ops, throttled, waiting, peers or hits: the most first")
      ->type_name("COLUMN")
      ->check(CLI::IsMember({"name", "origin", "ops", "throttled", "waiting", "peers", "hits"}))
      ->capture_default_str();
  verb->add_flag("--reverse,-r", c.top.reverse, "the least first");
  c.run(verb, top, c.top);
}

void add_job_verbs(Commands& c) {
  auto* const group = c.app.add_subcommand("job", "jobs that asked for data")->require_subcommand(1);
  auto* verb = group->add_subcommand("list", "what each job waits for or runs on");
  verb->add_flag("--all,-a", c.jobs.all, "ended jobs too");
  c.run(verb, job_list, c.jobs);
  verb = group->add_subcommand("show", "one job: request, phase, warm-up, receipt");
  verb->add_option("jobid", c.job.job_id, "Slurm's job id")
      ->required()
      ->type_name("JOBID")
      ->check([](const std::string& text) {
        const bool digits = !text.empty() && text.size() <= 9 && text[0] != '0' &&
                            text.find_first_not_of("0123456789") == std::string::npos;
        return digits ? std::string()
                      : "'" + printable(text) +
                            "' is no job id: a number (of an array's tasks, squeue -r -o '%i %A' says which)";
      });
  verb->add_flag("--follow,-f", c.job.follow, "until it has ended");
  c.run(verb, job_show, c.job);
}

int run(int argc, char** argv) {
  Commands c;
  add_common(c);
  add_dataset_verbs(c);
  add_placement_verbs(c);
  add_node_verbs(c);
  add_job_verbs(c);
  add_limit_verbs(c);
  add_top(c);
  c.run(c.app.add_subcommand("observed", "what Atlas would have done with jobs that it only looked at (operators)"),
        observed, c.observed);
  c.app.add_subcommand("doctor", "check configuration, munge, origins, controller, nodes; say what to do")
      ->callback([&c] { c.wants_doctor = true; });
  try {
    c.app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return c.app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  const std::filesystem::path file = c.config.empty() ? default_config_path() : std::filesystem::path(c.config);
  if (c.wants_doctor) return doctor(file, c.output);
  auto config = load_config(file);
  if (!config) return report(kTool, config.error());
  Session session(std::move(*config), c.output);
  const auto outcome = c.action(session);
  return outcome ? *outcome : report(kTool, outcome.error());
}

}  // namespace
}  // namespace atlas::ctl

int main(int argc, char** argv) {
  try {
    return atlas::ctl::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "atlasctl: %s\n", error.what());
    return atlas::kExitFailed;
  }
}
