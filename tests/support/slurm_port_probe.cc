// Drives LibslurmPort from the cluster tests: slurm-port-probe load | job ID | patch ID [FIELD=VALUE...] | cluster.
// Prints JSON; an error prints {"code": ..., "message": ...} and exits 1. `load` reads a line per load from stdin, so
// that a test can see what a second, incremental load tells.
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "controller/slurm/libslurm_port.h"

namespace {

using nlohmann::json;

json show(const atlas::JobRecord& job) {
  static constexpr const char* kStates[] = {"pending", "configuring", "running", "suspended", "completing", "ended"};
  return {{"id", job.id},
          {"array_job_id", job.array_job_id},
          {"array_task_id", job.array_task_id ? json(*job.array_task_id) : json()},
          {"array_waiting", job.array_waiting},
          {"het_job_id", job.het_job_id},
          {"restarts", job.restarts},
          {"uid", job.uid},
          {"gid", job.gid},
          {"name", job.name},
          {"partition", job.partition},
          {"state", kStates[static_cast<int>(job.state)]},
          {"state_reason", job.state_reason},
          {"held", job.held},
          {"exclusive", job.exclusive},
          {"nodes_wanted", job.nodes_wanted},
          {"nodes_most", job.nodes_most},
          {"cpus_wanted", job.cpus_wanted},
          {"submitted", job.submitted.time_since_epoch().count()},
          {"begin", job.begin.time_since_epoch().count()},
          {"own_begin", job.own_begin ? json(job.own_begin->time_since_epoch().count()) : json()},
          {"start", job.start.time_since_epoch().count()},
          {"time_limit", job.time_limit.count()},
          {"nodes", job.nodes},
          {"predicted_nodes", job.predicted_nodes},
          {"req_nodes", job.req_nodes},
          {"exc_nodes", job.exc_nodes},
          {"features", job.features},
          {"burst_buffer", job.burst_buffer},
          {"admin_comment", job.admin_comment},
          {"comment", job.comment}};
}

json show(const atlas::QueueSnapshot& snapshot) {
  json out{{"jobs", json::array()}, {"nodes", json::array()}, {"partitions", json::array()}};
  for (const auto& job : snapshot.jobs) out["jobs"].push_back(show(job));
  for (const auto& node : snapshot.nodes)
    out["nodes"].push_back({{"name", node.name},
                            {"usable", node.usable},
                            {"state", node.state},
                            {"cpus", node.cpus},
                            {"cpus_busy", node.cpus_busy},
                            {"partitions", node.partitions}});
  for (const auto& partition : snapshot.partitions)
    out["partitions"].push_back(
        {{"name", partition.name}, {"is_default", partition.is_default}, {"nodes", partition.nodes}});
  return out;
}

int failed(const atlas::Error& error) {
  std::cout << json{{"code", atlas::name_of(error.code)}, {"message", error.message}} << std::endl;
  return 1;
}

int patch(atlas::SlurmPort& port, int argc, char** argv) {
  atlas::JobPatch out{.job_id = static_cast<std::uint32_t>(std::stoul(argv[2])),
                      .req_nodes = {},
                      .begin = {},
                      .comment = {},
                      .admin_comment = {}};
  for (int i = 3; i < argc; ++i) {
    const std::string word = argv[i];
    const auto eq = word.find('=');
    const auto key = word.substr(0, eq), value = word.substr(eq + 1);
    if (key == "req_nodes") out.req_nodes = value;
    if (key == "begin") out.begin = atlas::WallSeconds(std::chrono::seconds(std::stoll(value)));
    if (key == "comment") out.comment = value;
    if (key == "admin_comment") out.admin_comment = value;
  }
  if (auto ok = port.apply(out); !ok) return failed(ok.error());
  std::cout << "{}" << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  const auto port = atlas::LibslurmPort::create();
  if (verb == "cluster") {
    const auto name = port->cluster_name();
    if (!name) return failed(name.error());
    std::cout << json(*name) << std::endl;
    return 0;
  }
  if (verb == "job" && argc == 3) {
    const auto job = port->load_job(static_cast<std::uint32_t>(std::stoul(argv[2])));
    if (!job) return failed(job.error());
    std::cout << show(*job) << std::endl;
    return 0;
  }
  if (verb == "patch" && argc >= 3) return patch(*port, argc, argv);
  if (verb == "load") {
    for (std::string line; std::getline(std::cin, line);) {
      const auto snapshot = port->load();
      if (!snapshot) return failed(snapshot.error());
      std::cout << show(*snapshot) << std::endl;
    }
    return 0;
  }
  std::cerr << "usage: slurm-port-probe load | job ID | patch ID [FIELD=VALUE...] | cluster\n";
  return 2;
}
