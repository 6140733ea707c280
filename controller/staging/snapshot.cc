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

Cluster Cluster::of(std::shared_ptr<const QueueSnapshot> queue, std::optional<Cluster> before) {
  Cluster cluster;
  const auto same_name = [](const auto& a, const auto& b) { return a.name == b.name; };
  const auto same_partition = [](const PartitionRecord& a, const PartitionRecord& b) {
    return a.name == b.name && a.nodes == b.nodes && a.is_default == b.is_default;
  };
  const auto* old = before ? before->queue.get() : nullptr;
  if (old != nullptr &&
      std::equal(old->nodes.begin(), old->nodes.end(), queue->nodes.begin(), queue->nodes.end(), same_name) &&
      std::equal(old->partitions.begin(), old->partitions.end(), queue->partitions.begin(), queue->partitions.end(),
                 same_partition)) {
    cluster = std::move(*before);
    for (auto& [name, record] : cluster.nodes) record = queue->nodes.data() + (record - old->nodes.data());
    cluster.queue = std::move(queue);
    return cluster;
  }
  cluster.queue = std::move(queue);
  for (const auto& partition : cluster.queue->partitions) {
    cluster.partitions[partition.name] = hosts_of(partition.nodes);
    if (partition.is_default) cluster.default_partition = partition.name;
  }
  for (const auto& node : cluster.queue->nodes) cluster.nodes[node.name] = &node;
  return cluster;
}

std::shared_ptr<const std::vector<char>> Cluster::places_in(const std::string& partition) const {
  if (const auto known = places_.find(partition); known != places_.end()) return known->second;
  std::vector<char> places(queue->nodes.size(), 0);
  bool any = false;
  for (std::size_t from = 0; from <= partition.size();) {
    const auto comma = std::min(partition.find(',', from), partition.size());
    const auto at = partitions.find(partition.substr(from, comma - from));
    from = comma + 1;
    if (at == partitions.end()) continue;
    for (const auto& name : at->second) {
      any = true;
      if (const auto node = nodes.find(name); node != nodes.end())
        places[static_cast<std::size_t>(node->second - queue->nodes.data())] = 1;
    }
  }
  if (!any) return nullptr;
  if (places_.size() >= kMostLists) places_.clear();
  return places_[partition] = std::make_shared<const std::vector<char>>(std::move(places));
}

bool Cluster::usable(const std::string& node) const {
  const auto at = nodes.find(node);
  return at != nodes.end() && at->second->usable;
}

bool in_partition(const NodeRecord& node, const JobRecord& job) {
  if (job.partition.empty()) return true;
  const std::string named = "," + job.partition + ",";  // a job may name several: "gpu,cpu"
  return std::any_of(node.partitions.begin(), node.partitions.end(),
                     [&](const std::string& one) { return named.find("," + one + ",") != std::string::npos; });
}

bool promised(const StagedJob& job) {
  return job.pending() && !job.row.array && !job.row.nodes.empty() && !job.record.held && !job.record.dependent;
}

std::uint32_t cpus_each(const JobRecord& record, std::size_t nodes) {
  const auto count = static_cast<std::uint32_t>(std::max<std::size_t>(1, nodes));
  return std::max<std::uint32_t>(1, (record.cpus_wanted + count - 1) / count);
}

std::string what_would_be_done(const Decision& decision, WarmMode warm) {
  const auto nodes = compress_hostlist(decision.nodes);
  switch (decision.action) {
    case Action::go:
      return "start now on " + nodes;
    case Action::wait:
      return "wait for " + nodes;
    case Action::warm:
      return warm == WarmMode::overlap ? "start now on " + nodes + " and warm it meanwhile"
                                       : "warm " + nodes + ", then start there";
    case Action::cold:
      break;
  }
  return "start anywhere, on the origin";
}

PlanRow plan_row(const Alternative& what) {
  return {std::string(name_of(what.action)),
          compress_hostlist(what.nodes),
          what.resident,
          what.total,
          what.start,
          what.stall};
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
  out.partition_places = cluster.places_in(out.partition);
  out.required = hosts_of(user_nodes);
  out.excluded = hosts_of(record.exc_nodes);
  out.cache = request.cache;
  out.warm = request.warm;
  out.locality = request.locality;
  return out;
}

}  // namespace atlas
