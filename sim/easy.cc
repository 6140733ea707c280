#include "sim/easy.h"

#include <algorithm>

namespace atlas::sim {
namespace {

constexpr std::size_t kDepth = 500;  // bf_max_job_test

using Nodes = std::vector<std::uint32_t>;

/// Where and when the first job that cannot start could.
class Reservation {
 public:
  Reservation(const Cluster& cluster, const SimJob& job)
      : cpus_(job.cpus), spare_(cluster.site().nodes, 0), reserved_(cluster.site().nodes, false) {
    std::vector<std::vector<std::pair<Time, std::uint32_t>>> ends(cluster.site().nodes);
    for (const auto& [id, running] : cluster.running())
      for (const auto node : running.nodes)
        ends[node].emplace_back(std::max(running.limit_end, cluster.now()), cluster.workload().jobs[id].cpus);
    std::vector<std::pair<Time, std::uint32_t>> ready;
    for (std::uint32_t node = 0; node < ends.size(); ++node) {
      std::sort(ends[node].begin(), ends[node].end());
      auto free = cluster.cpus_free(node);
      Time at = cluster.now();
      for (const auto& [end, cpus] : ends[node]) {
        if (free >= job.cpus) break;
        free += cpus;
        at = end;
      }
      ready.emplace_back(at, node);
    }
    std::sort(ready.begin(), ready.end());
    at_ = ready[job.nodes - 1].first;
    for (std::uint32_t i = 0; i < job.nodes; ++i) {
      const auto node = ready[i].second;
      reserved_[node] = true;
      std::uint32_t free = cluster.cpus_free(node);
      for (const auto& [end, cpus] : ends[node])
        if (end <= at_) free += cpus;
      spare_[node] = free - cpus_;
    }
  }

  [[nodiscard]] bool allows(std::uint32_t node, std::uint32_t cpus, Time end) const {
    return !reserved_[node] || end <= at_ || spare_[node] >= cpus;
  }
  void take(std::uint32_t node, std::uint32_t cpus, Time end) {
    if (reserved_[node] && end > at_) spare_[node] -= cpus;
  }

 private:
  std::uint32_t cpus_;
  Time at_{};
  std::vector<std::uint32_t> spare_;  ///< per reserved node, CPUs beyond what the first job will take
  std::vector<bool> reserved_;
};

}  // namespace

double resident_for(const Cluster& cluster, std::uint32_t job, std::uint32_t node) {
  double sum = 0;
  for (const auto dataset : cluster.workload().jobs[job].datasets) sum += cluster.resident(node, dataset);
  return sum;
}

bool holds_all_for(const Cluster& cluster, std::uint32_t job, std::uint32_t node) {
  const auto& datasets = cluster.workload().jobs[job].datasets;
  return std::all_of(datasets.begin(), datasets.end(),
                     [&](std::uint32_t dataset) { return cluster.complete(node, dataset); });
}

void EasyPolicy::schedule(Cluster& cluster) {
  std::optional<Reservation> first;
  std::uint64_t free_cpus = 0;
  for (std::uint32_t node = 0; node < cluster.site().nodes; ++node) free_cpus += cluster.cpus_free(node);
  const auto queue = cluster.queue();
  for (std::size_t i = 0; i < std::min(queue.size(), kDepth) && free_cpus > 0; ++i) {
    const auto& job = cluster.workload().jobs[queue[i]];
    const auto end = cluster.now() + job.limit;
    Nodes free;
    for (std::uint32_t node = 0; node < cluster.site().nodes; ++node)
      if (cluster.cpus_free(node) >= job.cpus && (!first || first->allows(node, job.cpus, end))) free.push_back(node);
    if (free.size() < job.nodes) {
      if (!first) first.emplace(cluster, job);
      continue;
    }
    const auto chosen = choose(cluster, queue[i], free);
    if (!chosen) continue;
    if (first)
      for (const auto node : *chosen) first->take(node, job.cpus, end);
    cluster.start(queue[i], *chosen);
    free_cpus -= std::uint64_t{job.nodes} * job.cpus;
  }
}

std::optional<Nodes> EasyPolicy::choose(Cluster& cluster, std::uint32_t job, const Nodes& free) {
  return Nodes(free.begin(), free.begin() + cluster.workload().jobs[job].nodes);
}

std::optional<Nodes> PreferPolicy::choose(Cluster& cluster, std::uint32_t job, const Nodes& free) {
  const auto& spec = cluster.workload().jobs[job];
  Nodes holders;
  for (const auto node : free)
    if (holders.size() < spec.nodes && !spec.datasets.empty() && holds_all_for(cluster, job, node))
      holders.push_back(node);
  return holders.size() == spec.nodes ? holders : EasyPolicy::choose(cluster, job, free);
}

std::optional<Nodes> DelayPolicy::choose(Cluster& cluster, std::uint32_t job, const Nodes& free) {
  const auto& spec = cluster.workload().jobs[job];
  if (spec.datasets.empty()) return EasyPolicy::choose(cluster, job, free);
  Nodes best = free;
  std::stable_sort(best.begin(), best.end(), [&](std::uint32_t a, std::uint32_t b) {
    return resident_for(cluster, job, a) > resident_for(cluster, job, b);
  });
  best.resize(spec.nodes);
  if (std::all_of(best.begin(), best.end(), [&](std::uint32_t node) { return holds_all_for(cluster, job, node); }))
    return best;
  std::uint32_t holders = 0;
  for (std::uint32_t node = 0; node < cluster.site().nodes && holders < spec.nodes; ++node)
    if (holds_all_for(cluster, job, node)) ++holders;
  if (holders < spec.nodes) return best;  // there is nobody to wait for
  const auto since = could_start_.try_emplace(job, cluster.now()).first->second;
  if (cluster.now() >= since + patience_) return best;
  cluster.wake_at(since + patience_);
  return std::nullopt;
}

}  // namespace atlas::sim
