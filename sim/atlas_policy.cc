#include "sim/atlas_policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace atlas::sim {
namespace {

constexpr double kForEver = std::numeric_limits<double>::infinity();

std::chrono::milliseconds ms(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(std::min(seconds, 1e9) * 1000)));
}

Bytes bytes(double count) {
  return Bytes{static_cast<std::uint64_t>(std::max(0.0, count))};
}

}  // namespace

AtlasPolicy::AtlasPolicy(const Site& site, const Workload& workload, const AtlasOptions& options)
    : workload_(workload),
      options_(options),
      ahead_(site.nodes),
      planned_(site.nodes),
      pending_(workload.datasets.size(), 0),
      uses_(workload.datasets.size()),
      room_(site.nodes, 0) {
  for (std::uint32_t i = 0; i < site.nodes; ++i) {
    NodeView view;
    std::string number = std::to_string(i + 1);
    view.name = "n" + std::string(number.size() < 4 ? 4 - number.size() : 0, '0') + number;
    view.usable = view.cache = true;
    view.state = "up";
    view.cpus = site.cpus;
    index_[view.name] = i;
    snapshot_.nodes.push_back(std::move(view));
  }
  for (const auto& dataset : workload.datasets) ids_.push_back({"origin", dataset.name});
  for (const auto& job : workload.jobs)
    for (const auto dataset : job.datasets) uses_[dataset].push_back(job.submit);
}

double AtlasPolicy::worth(const Cluster& cluster, std::uint32_t node, std::uint32_t dataset,
                          const NodeCache::Entry& entry) const {
  if (planned_[node].contains(dataset)) return kForEver;
  if (options_.evict == AtlasOptions::Evict::lru) return entry.used.count();
  constexpr double kSoon = 1e12;  // above any time of use
  if (pending_[dataset] > 0) return kSoon + entry.used.count();
  if (options_.evict == AtlasOptions::Evict::queue) return entry.used.count();
  const auto next = std::upper_bound(uses_[dataset].begin(), uses_[dataset].end(), cluster.now());
  return next == uses_[dataset].end() ? -kSoon : -next->count();
}

/// At once when nodes may be had, otherwise as often as the controller looks at the queue.
bool AtlasPolicy::anything_to_do(Cluster& cluster) {
  constexpr Time kPoll{30};
  const bool ended = std::exchange(ended_, cluster.ended()) != cluster.ended();
  const bool moved = std::exchange(moved_, cluster.moved()) != cluster.moved();
  const bool may_start = cluster.queue().size() != waiting_ && [&] {
    for (std::uint32_t i = 0; i < ahead_.size(); ++i)
      if (cluster.cpus_free(i) > 0) return true;
    return false;
  }();
  if (!ended && !moved && !may_start && cluster.now() < looked_ + kPoll) {
    if (!cluster.queue().empty()) cluster.wake_at(looked_ + kPoll);
    return false;
  }
  looked_ = cluster.now();
  return true;
}

void AtlasPolicy::schedule(Cluster& cluster) {
  if (!anything_to_do(cluster)) return;
  look(cluster);
  const auto queue = cluster.queue();
  std::uint32_t looked = 0;
  for (const auto job : queue)
    if (looked++ < options_.depth) plan(cluster, job);
  waiting_ = static_cast<std::size_t>(
      std::count_if(queue.begin(), queue.end(), [&](std::uint32_t job) { return !cluster.started(job); }));
  while (next_ < workload_.jobs.size() && workload_.jobs[next_].submit <= cluster.now()) ++next_;
  for (auto job = next_; job < workload_.jobs.size() && looked < options_.depth; ++job, ++looked) {
    if (workload_.jobs[job].submit > cluster.now() + options_.foresight) break;
    plan(cluster, static_cast<std::uint32_t>(job));
  }
}

void AtlasPolicy::look(const Cluster& cluster) {
  std::fill(pending_.begin(), pending_.end(), 0);
  for (const auto job : cluster.queue())
    for (const auto dataset : workload_.jobs[job].datasets) ++pending_[dataset];
  for (std::uint32_t i = 0; i < ahead_.size(); ++i) ahead_[i] = CpuTimeline(cluster.cpus_free(i));
  for (const auto& [job, running] : cluster.running())
    for (const auto node : running.nodes) ahead_[node].give(expected_left(cluster, running), workload_.jobs[job].cpus);
  for (std::uint32_t i = 0; i < ahead_.size(); ++i) {
    planned_[i].clear();
    auto& view = snapshot_.nodes[i];
    view.cpus_busy = view.cpus - cluster.cpus_free(i);
    view.readers = cluster.stalled_on(i);
    double wanted = 0;
    for (const auto& [dataset, entry] : cluster.cache(i).entries())
      if (pending_[dataset] > 0) wanted += entry.resident;
    view.wanted = bytes(wanted);
    take(i, 0, 0, 0);
    room_[i] = room_on(cluster, i);
  }
  CostModel model;
  const auto& site = cluster.site();
  model.origin_rate["origin"] = Bytes{site.origin_rate.count / (1 + cluster.origin_readers())};
  model.peer_rate = site.peer_rate;
  model.node_rate = site.node_rate;
  model.stall = options_.stall;
  model.transfer = options_.transfer;
  const Bytes one = std::min(site.node_rate, site.origin_rate);
  model.origin_rate["origin"] = std::min(one, model.origin_rate["origin"]);
  turns_.begin({{"origin", {one, site.origin_rate, cluster.origin_readers(), bytes(cluster.origin_left())}}});
  snapshot_.cost = model;
}

void AtlasPolicy::take(std::uint32_t node, double from, double to, std::uint32_t cpus) {
  ahead_[node].take(from, to, cpus);
  auto& view = snapshot_.nodes[node];
  view.ahead = ahead_[node].steps(view.cpus);
}

double AtlasPolicy::expected_run(std::uint32_t job) const {
  const auto& spec = workload_.jobs[job];
  return (options_.ends == AtlasOptions::Ends::exact ? spec.runtime : spec.limit).count();
}

double AtlasPolicy::expected_left(const Cluster& cluster, const Cluster::Running& running) const {
  const bool known = options_.ends == AtlasOptions::Ends::exact && running.end.count() < kForEver;
  return known ? (running.end - cluster.now()).count()
               : std::max((running.limit_end - cluster.now()).count(), kOverdue);
}

double AtlasPolicy::room_on(const Cluster& cluster, std::uint32_t node) const {
  double room = cluster.cache(node).free();
  for (const auto& [dataset, entry] : cluster.cache(node).entries())
    if (cluster.evictable(node, dataset, entry)) room += entry.reserved;
  return room;
}

/// Only what the job reads: place() looks at nothing else.
void AtlasPolicy::show_datasets(const Cluster& cluster, std::uint32_t job) {
  const auto& datasets = workload_.jobs[job].datasets;
  for (std::uint32_t i = 0; i < ahead_.size(); ++i) {
    auto& view = snapshot_.nodes[i];
    if (!view.holdings.empty()) view.holdings.clear();
    double room = room_[i];
    for (const auto dataset : datasets) {
      const auto* entry = cluster.cache(i).find(dataset);
      if (entry == nullptr) continue;
      const bool moving = cluster.moving(i, dataset);
      // Room that is reserved for it already is room for it; it cannot make way for itself.
      room += entry->reserved - entry->resident;
      if (cluster.evictable(i, dataset, *entry)) room -= entry->reserved;
      if (entry->resident > 0 || moving)
        view.holdings[ids_[dataset]] = {bytes(entry->resident), cluster.complete(i, dataset), moving};
      if (const double left = moving ? cluster.moving_for(i, dataset) : kForEver; left < kForEver)
        view.holdings[ids_[dataset]].left = ms(left);
    }
    view.room = bytes(room);
  }
}

PlacementRequest AtlasPolicy::request_of(const Cluster& cluster, std::uint32_t job) const {
  const auto& spec = workload_.jobs[job];
  PlacementRequest request;
  for (const auto dataset : spec.datasets)
    request.datasets.push_back({ids_[dataset], workload_.datasets[dataset].size});
  request.nodes = spec.nodes;
  request.cpus = spec.nodes * spec.cpus;
  request.warm = WarmMode::wait;
  request.duration = ms(expected_run(job));
  request.patience = ms(options_.patience.count());
  request.explain = false;
  if (spec.submit > cluster.now()) request.slurm_start = ms((spec.submit - cluster.now()).count());
  return request;
}

void AtlasPolicy::plan(Cluster& cluster, std::uint32_t job) {
  show_datasets(cluster, job);
  const auto request = request_of(cluster, job);
  snapshot_.cost->origin_line["origin"] = {turns_.ahead("origin"), cluster.site().origin_rate};
  auto decision = place(snapshot_, request);
  if (decision.alternatives.empty()) return;
  if (const auto at = committed_.find(job); at != committed_.end()) {
    auto same = request;
    same.required = at->second;
    auto kept = place(snapshot_, same);
    const double limit = decision.alternatives.front().cost + options_.loyalty.count();
    if (!kept.alternatives.empty() && kept.alternatives.front().cost <= limit) {
      decision = std::move(kept);
    } else {
      committed_.erase(at);
    }
  }
  const auto& chosen = decision.alternatives.front();
  const auto& spec = workload_.jobs[job];
  std::vector<std::uint32_t> nodes;
  for (const auto& name : chosen.nodes) nodes.push_back(index_.at(name));
  const double start = std::chrono::duration<double>(chosen.start).count();
  const double ready = start + std::chrono::duration<double>(chosen.stall).count();
  for (const auto node : nodes)
    for (const auto dataset : spec.datasets) planned_[node].insert(dataset);
  if (chosen.start.count() == 0 && spec.submit <= cluster.now() && may_start(cluster, job, nodes)) {
    for (const auto node : nodes) take(node, start, start + expected_run(job), spec.cpus);
    for (const auto node : nodes) snapshot_.nodes[node].cpus_busy += spec.cpus;
    committed_.erase(job);
    cluster.start(job, nodes);
  } else {
    const auto brought = bring(cluster, spec, nodes, start);
    if (brought == Brought::begun) committed_[job] = chosen.nodes;
    if (brought != Brought::not_yet)
      for (const auto node : nodes) take(node, ready, ready + expected_run(job), spec.cpus);
  }
  for (const auto node : nodes) room_[node] = room_on(cluster, node);
}

/// Its nodes are free. A job waits for its data as long as that is to be expected soon, or others could use its nodes.
bool AtlasPolicy::may_start(Cluster& cluster, std::uint32_t job, const std::vector<std::uint32_t>& nodes) {
  const auto& spec = workload_.jobs[job];
  if (spec.datasets.empty()) return true;
  double left = 0;
  bool moving = true;
  for (const auto node : nodes)
    for (const auto dataset : spec.datasets) {
      if (cluster.complete(node, dataset)) continue;
      if (cluster.moving(node, dataset)) {
        left = std::max(left, cluster.moving_for(node, dataset));
      } else {
        moving = false;
      }
    }
  if (moving && left == 0) return true;
  if (cluster.now() >= spec.submit + options_.patience) return true;
  cluster.wake_at(spec.submit + options_.patience);
  return moving && left > options_.idle.count() && left < kForEver;
}

/// Not long before it is needed: plans change, and what is there already would make way.
AtlasPolicy::Brought AtlasPolicy::bring(Cluster& cluster, const SimJob& job, const std::vector<std::uint32_t>& nodes,
                                        double start) {
  const auto rate = static_cast<double>(snapshot_.cost->origin_rate.at("origin").count);
  double missing = 0, most = 0;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> wanted;
  for (const auto node : nodes)
    for (const auto dataset : job.datasets) {
      const double lacks = cluster.size_of(dataset) - cluster.resident(node, dataset);
      if (lacks <= 0 || cluster.moving(node, dataset)) continue;
      wanted.emplace_back(node, dataset);
      missing += lacks;
      most = std::max(most, lacks);
    }
  if (wanted.empty()) return Brought::otherwise;
  const bool early = OriginTurns::early(start, most / rate);
  if (!turns_.take("origin", static_cast<std::uint32_t>(wanted.size()), bytes(missing), early)) return Brought::not_yet;
  bool begun = false;
  for (const auto& [node, dataset] : wanted) begun = cluster.warm(node, dataset) || begun;
  return begun ? Brought::begun : Brought::otherwise;
}

}  // namespace atlas::sim
