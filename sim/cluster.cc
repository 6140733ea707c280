#include "sim/cluster.h"

#include <algorithm>
#include <limits>

namespace atlas::sim {
namespace {

constexpr Time kNever{std::numeric_limits<double>::infinity()};
constexpr double kCrumb = 64;  // bytes: what rounding may leave of a transfer, and more than a clock tick moves

}  // namespace

double Policy::worth(const Cluster&, std::uint32_t, std::uint32_t, const NodeCache::Entry& entry) const {
  return entry.used.count();
}

Cluster::Cluster(const Site& site, const Workload& workload, Policy& policy)
    : site_(site),
      workload_(workload),
      policy_(policy),
      nodes_(site.nodes, Node{site.cpus, NodeCache(static_cast<double>(site.cache.count))}),
      started_(workload.jobs.size(), false),
      waits_for_(workload.jobs.size(), 0),
      holders_(workload.datasets.size()) {
  capacity_.push_back(static_cast<double>(site.origin_rate.count));
  capacity_.insert(capacity_.end(), site.nodes, static_cast<double>(site.node_rate.count));
  capacity_.insert(capacity_.end(), site.nodes, static_cast<double>(site.peer_rate.count));
  out_.jobs.resize(workload.jobs.size());
}

Result<Outcome> Cluster::run() {
  for (const auto& job : workload_.jobs)
    if (job.nodes > site_.nodes || job.cpus > site_.cpus || job.nodes == 0)
      return fail(Code::out_of_range, "job " + job.id + " wants " + std::to_string(job.nodes) + " nodes with " +
                                          std::to_string(job.cpus) + " CPUs each; the site has " +
                                          std::to_string(site_.nodes) + " with " + std::to_string(site_.cpus));
  std::size_t next = 0;
  while (!broken_) {
    const Time submit = next < workload_.jobs.size() ? workload_.jobs[next].submit : kNever;
    const Time ended = ends_.empty() ? kNever : ends_.top().at;
    Time at = std::min({submit, ended, next_completion()});
    if (!wakes_.empty() && (at < kNever || !queue_.empty())) at = std::min(at, wakes_.top());
    if (at == kNever || (next == workload_.jobs.size() && queue_.empty() && running_.empty())) break;
    move_all(std::max(at, now_));
    finish_transfers();
    while (!ends_.empty() && ends_.top().at <= now_) {
      const auto job = ends_.top().job;
      ends_.pop();
      end(job);
    }
    while (next < workload_.jobs.size() && workload_.jobs[next].submit <= now_)
      queue_.push_back(static_cast<std::uint32_t>(next++));
    while (!wakes_.empty() && wakes_.top() <= now_) wakes_.pop();
    policy_.schedule(*this);
    std::erase_if(queue_, [&](std::uint32_t job) { return started_[job]; });
    if (rates_stale_) {
      std::vector<Flow*> flows;
      for (auto& [id, transfer] : transfers_)
        if (transfer.left > 0) flows.push_back(&transfer.flow);
      share(capacity_, flows);
      rates_stale_ = false;
    }
  }
  if (broken_) return fail(*broken_);
  if (!queue_.empty()) return fail(Code::internal, "job " + workload_.jobs[queue_.front()].id + " was never started");
  for (const auto& node : nodes_) out_.wasted_bytes += node.cache.wasted_in_the_end();
  return std::move(out_);
}

double Cluster::size_of(std::uint32_t dataset) const {
  return static_cast<double>(workload_.datasets[dataset].size.count);
}
double Cluster::resident(std::uint32_t node, std::uint32_t dataset) const {
  const auto* entry = nodes_[node].cache.find(dataset);
  return entry == nullptr ? 0 : entry->resident;
}
bool Cluster::complete(std::uint32_t node, std::uint32_t dataset) const {
  return resident(node, dataset) >= size_of(dataset) - kCrumb;
}
bool Cluster::moving(std::uint32_t node, std::uint32_t dataset) const {
  return whole_.contains({dataset, node});
}
bool Cluster::evictable(std::uint32_t node, std::uint32_t dataset, const NodeCache::Entry& entry) const {
  return entry.pins == 0 && policy_.worth(*this, node, dataset, entry) < std::numeric_limits<double>::infinity();
}
std::uint32_t Cluster::origin_readers() const {
  return static_cast<std::uint32_t>(std::count_if(transfers_.begin(), transfers_.end(),
                                                  [](const auto& t) { return !t.second.from && t.second.left > 0; }));
}
double Cluster::origin_left() const {
  double sum = 0;
  for (const auto& [id, transfer] : transfers_)
    if (!transfer.from) sum += transfer.left;
  return sum;
}
double Cluster::moving_for(std::uint32_t node, std::uint32_t dataset) const {
  const auto& transfer = transfers_.at(whole_.at({dataset, node}));
  return transfer.flow.rate > 0 ? transfer.left / transfer.flow.rate : std::numeric_limits<double>::infinity();
}
std::uint32_t Cluster::warming() const {
  return static_cast<std::uint32_t>(
      std::count_if(transfers_.begin(), transfers_.end(), [](const auto& t) { return !t.second.awaited; }));
}

void Cluster::start(std::uint32_t job, const std::vector<std::uint32_t>& nodes) {
  const auto& spec = workload_.jobs[job];
  const std::set<std::uint32_t> distinct(nodes.begin(), nodes.end());
  if (started_[job] || spec.submit > now_) return broken("job " + spec.id + " cannot start now");
  if (distinct.size() != spec.nodes || nodes.size() != spec.nodes)
    return broken("job " + spec.id + " got " + std::to_string(distinct.size()) + " nodes");
  for (const auto node : nodes) {
    if (node >= nodes_.size() || nodes_[node].cpus_free < spec.cpus)
      return broken("job " + spec.id + " got a node that is not free");
  }
  started_[job] = true;
  out_.jobs[job].start = now_;
  out_.jobs[job].nodes = nodes;
  running_[job] = {job, nodes, now_ + spec.limit, kNever};
  // All nodes of a job that have to fetch something may read it once together, so all begin before any is done.
  for (const auto node : nodes) nodes_[node].cpus_free -= spec.cpus;
  for (const auto dataset : spec.datasets)
    for (const auto node : nodes) read(job, node, dataset);
  if (waits_for_[job] == 0) computes(job);
}

bool Cluster::warm(std::uint32_t node, std::uint32_t dataset) {
  if (complete(node, dataset) || moving(node, dataset)) return false;
  auto& cache = nodes_[node].cache;
  const auto worth = worth_on(node);
  const auto* entry = cache.find(dataset);
  const double size = size_of(dataset);
  if ((entry == nullptr ? 0 : entry->reserved) + cache.room(dataset, worth) < size) return false;
  if (entry != nullptr && entry->pins > 0) return false;  // a job reads it through: what it has may not grow now
  cache.reserve(dataset, size, worth);
  const double left = size - resident(node, dataset);
  cache.at(dataset).used = now_;
  begin(node, dataset, left, left, true);
  return true;
}

void Cluster::wake_at(Time when) {
  if (when > now_) wakes_.push(when);
}

void Cluster::read(std::uint32_t job, std::uint32_t node, std::uint32_t dataset) {
  auto& cache = nodes_[node].cache;
  const double size = size_of(dataset);
  auto& entry = cache.at(dataset);
  ++entry.pins;
  entry.used = now_;
  entry.unread = 0;
  out_.jobs[job].hit_bytes += std::min(entry.resident, size);
  if (complete(node, dataset)) return;
  if (const auto same = whole_.find({dataset, node}); same != whole_.end())
    return await(transfers_.at(same->second), job);
  // Another job that reads it through keeps what it can; this one keeps nothing more.
  const double kept = entry.pins > 1 ? entry.reserved : cache.reserve(dataset, size, worth_on(node));
  const double left = size - entry.resident;
  const bool whole = kept >= size && entry.pins == 1;
  await(begin(node, dataset, left, entry.pins > 1 ? 0 : kept - entry.resident, whole), job);
}

Cluster::Transfer& Cluster::begin(std::uint32_t node, std::uint32_t dataset, double left, double keep, bool whole) {
  const auto id = next_id_++;
  auto& transfer = transfers_[id];
  transfer.node = node;
  transfer.dataset = dataset;
  transfer.left = left;
  transfer.keep_left = keep;
  transfer.whole = whole;
  transfer.flow.weight = site_.warm_weight;
  choose_source(transfer);
  if (whole) whole_[{dataset, node}] = id;
  ++nodes_[node].cache.at(dataset).pins;
  rates_stale_ = true;
  return transfer;
}

void Cluster::choose_source(Transfer& transfer) {
  transfer.flow.links = {0, 1 + transfer.node};
  if (site_.peer_rate.count == 0) return;
  // Who holds all of it first, then who is getting it; of these whoever gives to the fewest.
  std::optional<std::uint32_t> best;
  auto& holders = holders_[transfer.dataset];
  std::erase_if(holders, [&](std::uint32_t node) { return !complete(node, transfer.dataset); });
  for (const auto node : holders)
    if (node != transfer.node && (!best || nodes_[node].gives < nodes_[*best].gives)) best = node;
  if (!best) {
    for (auto at = whole_.lower_bound({transfer.dataset, 0}); at != whole_.end() && at->first.first == transfer.dataset;
         ++at) {
      const auto node = at->first.second;
      if (node == transfer.node || (best && nodes_[node].gives >= nodes_[*best].gives)) continue;
      best = node;
      transfer.leader = at->second;
    }
  }
  if (!best) return;
  transfer.from = best;
  transfer.flow.links = {1 + transfer.node, 1 + site_.nodes + *best};
  ++nodes_[*best].gives;
  ++nodes_[*best].cache.at(transfer.dataset).pins;
}

void Cluster::await(Transfer& transfer, std::uint32_t job) {
  if (transfer.awaited) out_.shared_bytes += transfer.left;
  if (!transfer.awaited) ++nodes_[transfer.node].awaited;
  transfer.awaited = true;
  transfer.flow.weight = 1;
  rates_stale_ = true;
  transfer.jobs.push_back(job);
  ++waits_for_[job];
  (transfer.from ? out_.jobs[job].peer_bytes : out_.jobs[job].origin_bytes) += transfer.left;
}

void Cluster::move_all(Time until) {
  const double span = (until - now_).count();
  for (auto& [id, transfer] : transfers_)
    if (transfer.left > 0) move(transfer, std::min(transfer.left, transfer.flow.rate * span));
  now_ = until;
}

void Cluster::move(Transfer& transfer, double bytes) {
  transfer.left -= bytes;
  (transfer.from ? out_.peer_bytes : out_.origin_bytes) += bytes;
  const double kept = std::min(bytes, transfer.keep_left);
  transfer.keep_left -= kept;
  auto& entry = nodes_[transfer.node].cache.at(transfer.dataset);
  entry.resident += kept;
  if (transfer.awaited) return;
  entry.unread += kept;
  out_.warm_bytes += bytes;
}

void Cluster::finish_transfers() {
  std::vector<std::uint64_t> done;
  for (auto& [id, transfer] : transfers_) {
    if (transfer.left > 0 && transfer.left <= kCrumb) {
      move(transfer, transfer.left);
      transfer.left = 0;
      rates_stale_ = true;
    }
    // Who follows another transfer has nothing to read until that one has.
    if (transfer.left == 0 && !(transfer.leader && transfers_.contains(*transfer.leader))) done.push_back(id);
  }
  if (done.empty()) return;
  for (const auto id : done) complete(id);
  finish_transfers();
}

void Cluster::complete(std::uint64_t id) {
  const auto transfer = std::move(transfers_.at(id));
  transfers_.erase(id);
  ++moved_;
  rates_stale_ = true;
  auto& node = nodes_[transfer.node];
  --node.cache.at(transfer.dataset).pins;
  if (transfer.awaited) --node.awaited;
  if (transfer.whole) {
    whole_.erase({transfer.dataset, transfer.node});
    holders_[transfer.dataset].insert(transfer.node);
  }
  if (transfer.from) {
    --nodes_[*transfer.from].gives;
    --nodes_[*transfer.from].cache.at(transfer.dataset).pins;
  }
  for (const auto job : transfer.jobs)
    if (--waits_for_[job] == 0) computes(job);
}

void Cluster::computes(std::uint32_t job) {
  auto& result = out_.jobs[job];
  result.stall = now_ - result.start;
  result.end = now_ + workload_.jobs[job].runtime;
  running_.at(job).end = result.end;
  ends_.push({result.end, job});
}

void Cluster::end(std::uint32_t job) {
  for (const auto node : running_.at(job).nodes) {
    nodes_[node].cpus_free += workload_.jobs[job].cpus;
    for (const auto dataset : workload_.jobs[job].datasets) {
      auto& entry = nodes_[node].cache.at(dataset);
      --entry.pins;
      entry.used = now_;
    }
  }
  running_.erase(job);
  ++ended_;
  out_.makespan = now_;
}

Time Cluster::next_completion() const {
  Time next = kNever;
  for (const auto& [id, transfer] : transfers_) {
    if (transfer.left > 0 && transfer.flow.rate > 0)
      next = std::min(next, now_ + Time(transfer.left / transfer.flow.rate));
  }
  return next;
}

NodeCache::Worth Cluster::worth_on(std::uint32_t node) const {
  return [this, node](std::uint32_t dataset, const NodeCache::Entry& entry) {
    return policy_.worth(*this, node, dataset, entry);
  };
}

void Cluster::broken(const std::string& what) {
  if (!broken_) broken_ = Error{Code::internal, what, 0};
}

}  // namespace atlas::sim
