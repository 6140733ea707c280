#include "controller/staging/snapshot.h"

#include <algorithm>

#include "common/hostlist.h"

namespace atlas {

std::chrono::milliseconds wait_of(const Request& request, std::uint32_t restarts, std::chrono::milliseconds max_wait) {
  if (restarts > 0) return {};
  std::chrono::milliseconds wait{0};
  if (request.warm == WarmMode::wait) wait = max_wait;
  if (request.locality) wait = std::max<std::chrono::milliseconds>(wait, request.locality->max_wait);
  return std::min(wait, max_wait);
}

std::vector<std::string> hosts_of(const std::string& hostlist) {
  auto names = expand_hostlist(hostlist);
  return names ? std::move(*names) : std::vector<std::string>();
}

Cluster Cluster::of(std::shared_ptr<const QueueSnapshot> queue) {
  Cluster cluster;
  cluster.queue = std::move(queue);
  for (const auto& partition : cluster.queue->partitions) {
    cluster.partitions[partition.name] = hosts_of(partition.nodes);
    if (partition.is_default) cluster.default_partition = partition.name;
  }
  for (const auto& node : cluster.queue->nodes) cluster.nodes[node.name] = &node;
  return cluster;
}

bool Cluster::usable(const std::string& node) const {
  const auto at = nodes.find(node);
  return at != nodes.end() && at->second->usable;
}

bool promised(const StagedJob& job) {
  return job.pending() && !job.row.array && !job.row.nodes.empty() && !job.record.held && !job.record.dependent;
}

std::uint32_t cpus_each(const JobRecord& record, std::size_t nodes) {
  const auto count = static_cast<std::uint32_t>(std::max<std::size_t>(1, nodes));
  return std::max<std::uint32_t>(1, (record.cpus_wanted + count - 1) / count);
}

PlanRow plan_row(const Alternative& what) {
  return {std::string(name_of(what.action)),
          compress_hostlist(what.nodes),
          what.resident,
          what.total,
          what.start,
          what.stall};
}

std::map<std::string, std::uint32_t> promised_cpus(const std::map<std::uint32_t, std::unique_ptr<StagedJob>>& jobs,
                                                   const StagedJob* except) {
  std::map<std::string, std::uint32_t> promised;
  for (const auto& [id, job] : jobs) {
    if (job.get() == except || !atlas::promised(*job)) continue;
    const auto each = cpus_each(job->record, job->record.nodes_wanted);
    for (const auto& node : job->row.nodes) promised[node] += each;
  }
  return promised;
}

PlacementRequest placement_request(const Cluster& cluster, const Registry& registry, const Request& request,
                                   const std::vector<DatasetId>& datasets, const JobRecord& record,
                                   const std::string& user_nodes) {
  PlacementRequest out;
  for (const auto& dataset : datasets) {
    const auto newest = registry.newest(dataset);
    out.datasets.push_back({dataset, newest ? std::optional(newest->bytes) : std::nullopt});
  }
  out.nodes = std::max<std::uint32_t>(1, record.nodes_wanted);
  out.cpus = std::max<std::uint32_t>(1, record.cpus_wanted);
  out.exclusive = record.exclusive;
  out.partition = record.partition.empty() ? cluster.default_partition : record.partition;
  // A job may name several partitions: "gpu,cpu".
  for (std::size_t from = 0; from <= out.partition.size();) {
    const auto comma = std::min(out.partition.find(',', from), out.partition.size());
    if (const auto at = cluster.partitions.find(out.partition.substr(from, comma - from));
        at != cluster.partitions.end())
      out.partition_nodes.insert(out.partition_nodes.end(), at->second.begin(), at->second.end());
    from = comma + 1;
  }
  out.required = hosts_of(user_nodes);
  out.excluded = hosts_of(record.exc_nodes);
  out.cache = request.cache;
  out.warm = request.warm;
  out.locality = request.locality;
  return out;
}

}  // namespace atlas
