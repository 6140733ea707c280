#include "controller/staging/outlook.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <tuple>

namespace atlas {
namespace {

// Jobs that want to start later than that say nothing of what a cache is to keep now.
constexpr std::chrono::hours kFar{1};
constexpr double kForEver = std::numeric_limits<double>::infinity();

double seconds_between(WallTime from, WallTime to) {
  return std::chrono::duration<double>(to - from).count();
}

bool runs(const JobRecord& record) {
  return record.state == JobState::running || record.state == JobState::configuring;
}

}  // namespace

double Outlook::seconds_of_run(const JobRecord& record) const {
  const double limit = std::chrono::duration<double>(record.time_limit).count();
  return limit > 0 ? run_times_.expected(record.uid, limit) : kForEver;
}

std::optional<std::chrono::milliseconds> Outlook::expected_run(const JobRecord& record) const {
  const double run = seconds_of_run(record);
  if (!std::isfinite(run)) return std::nullopt;
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(run * 1000)));
}

/// From jobs that ran when the queue was seen last and do not any more.
void Outlook::learn(const Cluster& cluster, WallTime now) {
  std::map<std::uint32_t, Ran> running;
  for (const auto& record : cluster.queue->jobs) {
    const auto at = running_.find(record.id);
    if (runs(record)) {
      running[record.id] = {record.uid, record.start, std::chrono::duration<double>(record.time_limit).count()};
      continue;
    }
    if (at == running_.end()) continue;
    const auto end = record.end > at->second.start ? WallTime(record.end) : now;
    run_times_.learn(at->second.uid, at->second.limit, seconds_between(at->second.start, std::min(end, now)));
    running_.erase(at);
  }
  for (const auto& [id, ran] : running_)  // Slurm has forgotten them since
    if (!running.contains(id)) run_times_.learn(ran.uid, ran.limit, seconds_between(ran.start, now));
  running_ = std::move(running);
}

void Outlook::look(const Cluster& cluster, const Jobs& jobs, const Registry& registry, const WarmUps& warmups,
                   WallTime now) {
  learn(cluster, now);
  nodes_.clear();
  for (const auto& record : cluster.queue->nodes)
    nodes_[record.name].free =
        CpuTimeline(record.usable && record.cpus > record.cpus_busy ? record.cpus - record.cpus_busy : 0);
  for (const auto& record : cluster.queue->jobs)
    if (runs(record) && record.time_limit.count() > 0) {
      const auto names = hosts_of(record.nodes);
      const double left = run_times_.left(record.uid, std::chrono::duration<double>(record.time_limit).count(),
                                          seconds_between(record.start, now));
      for (const auto& name : names)
        if (const auto node = nodes_.find(name); node != nodes_.end())
          node->second.free.give(left, cpus_each(record, names.size()));
    }
  // Then what Slurm has planned, as far as Atlas has not planned it itself.
  for (const auto& record : cluster.queue->jobs) {
    const auto mine = jobs.find(record.id);
    if (record.state != JobState::pending || record.predicted_nodes.empty() || record.start <= now ||
        (mine != jobs.end() && promised(*mine->second)))
      continue;
    const auto names = hosts_of(record.predicted_nodes);
    const double from = seconds_between(now, record.start);
    for (const auto& name : names)
      if (const auto node = nodes_.find(name); node != nodes_.end())
        node->second.free.take(from, from + seconds_of_run(record), cpus_each(record, names.size()));
  }
  for (const auto& warm : warmups.all())
    if (const auto node = nodes_.find(warm.node); node != nodes_.end()) ++node->second.readers;
  std::set<DatasetId> wanted;
  for (const auto& [id, job] : jobs)
    if (job->pending()) wanted.insert(job->datasets.begin(), job->datasets.end());
  if (wanted.empty()) return;
  for (const auto& [name, agent] : registry.agents()) {
    const auto node = nodes_.find(name);
    if (node == nodes_.end()) continue;
    for (const auto& [key, replica] : agent.replicas)
      if (wanted.contains(key.first)) node->second.wanted += replica.bytes_resident;
  }
}

ClusterSnapshot Outlook::view(const Cluster& cluster, const Registry& registry, const WarmUps& warmups,
                              const std::vector<DatasetId>& datasets, const Jobs& jobs, const StagedJob* except,
                              WallTime now) const {
  const auto taken = promised_cpus(jobs, except);
  std::map<std::string, CpuTimeline> ahead;
  for (const auto& [id, job] : jobs) {
    if (job.get() == except || !promised(*job)) continue;
    const auto cpus = cpus_each(job->record, job->record.nodes_wanted);
    const double from = std::max(0.0, seconds_between(now, job->planned_start));
    for (const auto& name : job->row.nodes) {
      const auto node = nodes_.find(name);
      if (node == nodes_.end()) continue;
      ahead.try_emplace(name, node->second.free).first->second.take(from, from + seconds_of_run(job->record), cpus);
    }
  }
  ClusterSnapshot out;
  out.nodes.reserve(cluster.queue->nodes.size());
  for (const auto& record : cluster.queue->nodes) {
    NodeView node;
    node.name = record.name;
    node.usable = record.usable;
    node.state = record.state;
    node.cpus = record.cpus;
    node.cpus_busy = record.cpus_busy;
    if (record.asleep) node.boot = cluster.queue->boot;
    if (const auto at = taken.find(record.name); at != taken.end()) node.cpus_promised = at->second;
    if (const auto at = nodes_.find(record.name); at != nodes_.end()) {
      const auto changed = ahead.find(record.name);
      node.ahead = (changed == ahead.end() ? at->second.free : changed->second).steps(record.cpus);
      node.readers = at->second.readers;
      node.wanted = at->second.wanted;
    }
    if (const auto* agent = registry.find(record.name); agent != nullptr) {
      node.cache = agent->in_service();
      node.room = Registry::room_on(*agent);
      for (const auto& dataset : datasets) {
        auto holding = registry.holding(*agent, dataset);
        const auto* progress = warmups.progress(record.name, dataset);
        holding.warming = progress != nullptr;
        if (holding.warming && progress->phase == WarmPhase::fetching && progress->eta.count() >= 0 &&
            progress->bytes_total >= registry.newest(dataset).value_or(Generation{}).bytes)  // all of it is on its way
          holding.left = progress->eta;
        if (holding.resident.count > 0 || holding.complete || holding.warming) node.holdings[dataset] = holding;
      }
    }
    out.nodes.push_back(std::move(node));
  }
  return out;
}

std::vector<DatasetId> Outlook::wanted(const Jobs& jobs, const Registry& registry, WallTime now) {
  using Place = std::tuple<bool, WallTime, WallTime, std::uint32_t>;
  std::vector<std::pair<Place, const StagedJob*>> order;
  for (const auto& [id, job] : jobs) {
    // A job that is held, or wants to start much later, may never come.
    const WallTime own = job->record.own_begin.value_or(WallSeconds{});
    if (!job->pending() || job->hopeless || job->record.held || own > now + kFar) continue;
    order.push_back({{job->record.dependent, std::max(job->planned_start, own), job->row.first_seen, id}, job.get()});
  }
  std::sort(order.begin(), order.end());
  std::vector<DatasetId> out;
  std::set<DatasetId> seen;
  for (const auto& [place, job] : order)
    for (const auto& dataset : job->datasets)
      // Naming a dataset is no right to keep it in caches; to have read it is, or to be let in by the origin now.
      if ((registry.has_read(dataset, job->row.uid) || !job->row.nodes.empty()) && seen.insert(dataset).second)
        out.push_back(dataset);
  return out;
}

}  // namespace atlas
