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
// So many datasets that nobody holds any more are remembered, at least.
constexpr std::size_t kForgotten = 1024;
constexpr double kForEver = std::numeric_limits<double>::infinity();

double seconds_between(WallTime from, WallTime to) {
  return std::chrono::duration<double>(to - from).count();
}

bool runs(const JobRecord& record) {
  return record.state == JobState::running || record.state == JobState::configuring;
}

}  // namespace

double Outlook::seconds_of_run(const JobRecord& record) {
  const double limit = std::chrono::duration<double>(record.time_limit).count();
  return limit > 0 ? limit : kForEver;
}

std::optional<std::chrono::milliseconds> Outlook::expected_run(const JobRecord& record) {
  const double run = seconds_of_run(record);
  if (!std::isfinite(run)) return std::nullopt;
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(run * 1000)));
}

/// What runs now: whose nodes' places are kept.
void Outlook::note_running(const Cluster& cluster) {
  for (auto& [id, ran] : running_) ran.seen = false;
  for (const auto& record : cluster.queue->jobs)
    if (runs(record)) running_[record.id].seen = true;
  std::erase_if(running_, [](const auto& item) { return !item.second.seen; });
}

std::vector<std::uint32_t> Outlook::places_of(const std::vector<std::string>& names) const {
  std::vector<std::uint32_t> out;
  out.reserve(names.size());
  for (const auto& name : names)
    if (const auto at = places_.find(name); at != places_.end()) out.push_back(at->second);
  return out;
}

std::uint32_t Outlook::number_of(const DatasetId& dataset) {
  return numbers_.try_emplace(dataset, static_cast<std::uint32_t>(numbers_.size())).first->second;
}

std::uint32_t Outlook::known_number(const DatasetId& dataset) const {
  const auto at = numbers_.find(dataset);
  return at == numbers_.end() ? kNone : at->second;
}

/// Slurm's nodes as they are now, with nothing expected of them yet.
void Outlook::arrange(const Cluster& cluster, const Registry& registry) {
  const auto& records = cluster.queue->nodes;
  const bool same = std::equal(records.begin(), records.end(), base_.nodes.begin(), base_.nodes.end(),
                               [](const NodeRecord& record, const NodeView& view) { return record.name == view.name; });
  if (!same) {
    base_.nodes.assign(records.size(), {});
    nodes_.assign(records.size(), {});
    holders_.clear();
    places_.clear();
    for (std::size_t i = 0; i < records.size(); ++i) {
      base_.nodes[i].name = records[i].name;
      places_[records[i].name] = static_cast<std::uint32_t>(i);
    }
    for (auto& [id, ran] : running_) ran.nodes.clear();
    for (std::size_t i = 0; i < records.size(); ++i) refresh_agent(i, registry);
    changed_.clear();
  }
  if (!same || switches_ != cluster.queue->switches) {
    switches_ = cluster.queue->switches;
    connect();
  }
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto& record = records[i];
    auto& view = base_.nodes[i];
    view.usable = record.usable;
    view.state = record.state;
    view.cpus = record.cpus;
    view.cpus_busy = record.cpus_busy;
    view.boot = record.asleep ? cluster.queue->boot : std::chrono::milliseconds{0};
    view.readers = 0;
    nodes_[i].promises.clear();
    nodes_[i].free.reset(record.usable && record.cpus > record.cpus_busy ? record.cpus - record.cpus_busy : 0);
  }
  promised_.clear();
}

/// Which switches nodes hang on: anew when Slurm has been configured.
void Outlook::connect() {
  base_.switches.reset();
  if (!switches_) return;
  auto out = std::make_shared<SwitchesOfNodes>(base_.nodes.size());
  for (std::size_t i = 0; i < switches_->size(); ++i)
    for (const auto place : places_of(hosts_of((*switches_)[i].nodes)))
      (*out)[place].push_back({(*switches_)[i].level, static_cast<std::uint32_t>(i)});
  base_.switches = std::move(out);
}

void Outlook::expect_running(const Cluster& cluster, WallTime now) {
  for (const auto& record : cluster.queue->jobs) {
    if (!runs(record) || record.time_limit.count() <= 0) continue;
    auto& ran = running_.at(record.id);
    if (ran.nodes != record.nodes) {
      ran.at = places_of(hosts_of(record.nodes));
      ran.nodes = record.nodes;
    }
    const double left = std::max(seconds_of_run(record) - seconds_between(record.start, now), kOverdue);
    for (const auto place : ran.at) nodes_[place].free.give(left, cpus_each(record, ran.at.size()));
  }
}

/// What Slurm has planned, as far as Atlas has not planned it itself.
void Outlook::expect_predicted(const Cluster& cluster, const Jobs& jobs, WallTime now) {
  for (const auto& record : cluster.queue->jobs) {
    if (record.state != JobState::pending || record.predicted_nodes.empty() || record.start <= now) continue;
    const auto mine = jobs.find(record.id);
    if (mine != jobs.end() && promised(*mine->second)) continue;
    const auto names = hosts_of(record.predicted_nodes);
    const double from = seconds_between(now, record.start);
    for (const auto place : places_of(names))
      nodes_[place].free.take(from, from + seconds_of_run(record), cpus_each(record, names.size()));
  }
}

/// How much of each node's cache pending jobs are going to read.
void Outlook::count_wanted(const Jobs& jobs) {
  std::fill(wanted_.begin(), wanted_.end(), 0);
  for (const auto& [id, job] : jobs) {
    if (!job->pending()) continue;
    for (const auto& dataset : job->datasets) {
      const auto number = number_of(dataset);
      if (wanted_.size() <= number) wanted_.resize(number + 1, 0);
      wanted_[number] = 1;
    }
  }
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    Bytes sum;
    for (const auto& [number, held] : nodes_[i].held)
      if (number < wanted_.size() && wanted_[number] != 0) sum += held.all;
    base_.nodes[i].wanted = sum;
  }
}

void Outlook::refresh_service(std::size_t place, const AgentInfo* agent) {
  base_.nodes[place].cache = agent != nullptr && agent->in_service();
  base_.nodes[place].room = agent == nullptr ? Bytes{} : Registry::room_on(*agent);
}

void Outlook::refresh_agent(std::size_t place, const Registry& registry) {
  auto& held = nodes_[place].held;
  for (const auto& [number, had] : held) std::erase(holders_[number], static_cast<std::uint32_t>(place));
  held.clear();
  const auto* agent = registry.find(base_.nodes[place].name);
  refresh_service(place, agent);
  if (agent == nullptr) return;
  const DatasetId* last = nullptr;
  for (const auto& [key, replica] : agent->replicas) {  // versions of one dataset follow each other
    if (last == nullptr || *last != key.first) refresh_held(place, *agent, key.first, registry);
    last = &key.first;
  }
}

void Outlook::refresh_held(std::size_t place, const AgentInfo& agent, const DatasetId& dataset,
                           const Registry& registry) {
  ++holdings_made_;
  auto& all = nodes_[place].held;
  const auto newest = registry.generations().find(dataset);
  std::optional<Held> held;
  for (auto at = agent.replicas.lower_bound({dataset, GenerationId{}});
       at != agent.replicas.end() && at->first.first == dataset; ++at) {
    if (!held) held.emplace();
    const auto& replica = at->second;
    held->resident = std::max(held->resident, replica.bytes_resident);
    held->all += replica.bytes_resident;
    held->complete =
        held->complete || (replica.state == ReplicaState::complete && newest != registry.generations().end() &&
                           newest->second.id == at->first.second);
  }
  const auto number = held ? number_of(dataset) : known_number(dataset);
  if (!held) {
    if (all.erase(number) != 0) std::erase(holders_[number], static_cast<std::uint32_t>(place));
    return;
  }
  if (holders_.size() <= number) holders_.resize(number + 1);
  if (all.insert_or_assign(number, *held).second) holders_[number].push_back(static_cast<std::uint32_t>(place));
}

Holding Outlook::holding_on(std::size_t place, std::uint32_t number) const {
  Holding out;
  if (const auto at = nodes_[place].held.find(number); at != nodes_[place].held.end()) {
    out.resident = at->second.resident;
    out.complete = at->second.complete;
  }
  return out;
}

void Outlook::agent_changed(const Registry::News& news) {
  auto& changed = changed_[news.node];
  changed.all = changed.all || news.all_replicas;
  if (news.dataset != nullptr) changed.datasets.insert(*news.dataset);
}

void Outlook::refresh(const Registry& registry) {
  for (const auto& [node, what] : changed_) {
    const auto at = places_.find(node);
    if (at == places_.end()) continue;
    if (what.all) {
      refresh_agent(at->second, registry);
      continue;
    }
    const auto* agent = registry.find(node);
    refresh_service(at->second, agent);
    if (agent == nullptr) continue;
    for (const auto& dataset : what.datasets) refresh_held(at->second, *agent, dataset, registry);
  }
  changed_.clear();
}

/// Numbers go to whatever is held or wanted once; when most of these are of the past all are given anew.
void Outlook::forget_datasets(const Registry& registry) {
  const auto held = std::count_if(holders_.begin(), holders_.end(), [](const auto& places) { return !places.empty(); });
  const auto wanted = std::count(wanted_.begin(), wanted_.end(), 1);
  if (numbers_.size() < kForgotten + 2 * static_cast<std::size_t>(held + wanted)) return;
  numbers_.clear();
  holders_.clear();
  wanted_.clear();
  for (auto& node : nodes_) node.held.clear();
  for (std::size_t i = 0; i < nodes_.size(); ++i) refresh_agent(i, registry);
}

void Outlook::make_view(std::size_t place, std::uint32_t except) {
  ++views_made_;
  auto& view = base_.nodes[place];
  const auto& node = nodes_[place];
  view.cpus_promised = 0;
  const bool alone =
      std::all_of(node.promises.begin(), node.promises.end(), [&](const Promise& p) { return p.job == except; });
  if (alone) return node.free.put_steps(view.cpus, view.ahead);
  CpuTimeline ahead = node.free;
  for (const auto& promise : node.promises) {
    if (promise.job == except) continue;
    view.cpus_promised += promise.cpus;
    ahead.take(promise.from, promise.to, promise.cpus);
  }
  ahead.put_steps(view.cpus, view.ahead);
}

void Outlook::add_promise(const StagedJob& job, std::vector<std::uint32_t>& places) {
  if (!promised(job)) return;
  const auto id = job.row.key.job_id;
  const double from = std::max(0.0, seconds_between(looked_, job.planned_start));
  const Promise promise{id, cpus_each(job.record, job.record.nodes_wanted), from, from + seconds_of_run(job.record)};
  auto& its = promised_[id] = places_of(job.row.nodes);
  for (const auto place : its) {
    auto& list = nodes_[place].promises;
    list.insert(std::upper_bound(list.begin(), list.end(), id,
                                 [](std::uint32_t job_id, const Promise& other) { return job_id < other.job; }),
                promise);
    places.push_back(place);
  }
}

void Outlook::drop_promise(std::uint32_t job_id, std::vector<std::uint32_t>& places) {
  const auto at = promised_.find(job_id);
  if (at == promised_.end()) return;
  for (const auto place : at->second) {
    std::erase_if(nodes_[place].promises, [&](const Promise& promise) { return promise.job == job_id; });
    places.push_back(place);
  }
  promised_.erase(at);
}

void Outlook::plan(const StagedJob& job) {
  std::vector<std::uint32_t> places;
  drop_promise(job.row.key.job_id, places);
  add_promise(job, places);
  for (const auto place : places) make_view(place);
}

void Outlook::forget(std::uint32_t job_id) {
  std::vector<std::uint32_t> places;
  drop_promise(job_id, places);
  for (const auto place : places) make_view(place);
}

void Outlook::look(const Cluster& cluster, const Jobs& jobs, const Registry& registry, const WarmUps& warmups,
                   WallTime now) {
  looked_ = now;
  most_free_.reset();
  note_running(cluster);
  arrange(cluster, registry);
  refresh(registry);
  forget_datasets(registry);
  expect_running(cluster, now);
  expect_predicted(cluster, jobs, now);
  std::vector<std::uint32_t> places;
  for (const auto& [id, job] : jobs) add_promise(*job, places);
  warmups.each([&](const std::string& node) {
    if (const auto at = places_.find(node); at != places_.end()) ++base_.nodes[at->second].readers;
  });
  count_wanted(jobs);
  for (std::size_t i = 0; i < nodes_.size(); ++i) make_view(i);
}

void Outlook::show(const Registry& registry, const WarmUps& warmups, const std::vector<DatasetId>& datasets,
                   const StagedJob* except, const std::function<void(ClusterSnapshot&)>& use) {
  refresh(registry);
  std::vector<std::uint32_t> own, touched;
  if (except != nullptr)
    if (const auto at = promised_.find(except->row.key.job_id); at != promised_.end()) own = at->second;
  for (const auto place : own) make_view(place, except->row.key.job_id);
  for (const auto& dataset : datasets) {
    const auto number = known_number(dataset);
    if (number < holders_.size())
      for (const auto place : holders_[number]) {
        const auto holding = holding_on(place, number);
        if (holding.resident.count == 0 && !holding.complete) continue;
        base_.nodes[place].holdings[dataset] = holding;
        touched.push_back(place);
      }
    const Bytes all = registry.newest(dataset).value_or(Generation{}).bytes;
    for (const auto& warm : warmups.filling(dataset)) {
      const auto at = places_.find(warm.node);
      if (at == places_.end() || registry.find(warm.node) == nullptr) continue;
      auto holding = holding_on(at->second, number);
      const auto* progress = warmups.progress(warm.node, dataset);
      holding.warming = true;
      if (progress->phase == WarmPhase::fetching && progress->eta.count() >= 0 &&
          progress->bytes_total >= all)  // all of it is on its way
        holding.left = progress->eta;
      base_.nodes[at->second].holdings[dataset] = holding;
      touched.push_back(at->second);
    }
  }
  use(base_);
  base_.cost.reset();
  for (const auto place : touched) base_.nodes[place].holdings.clear();
  for (const auto place : own) make_view(place);
}

std::uint32_t Outlook::promised_on(const std::string& node, const StagedJob* except) const {
  const auto at = places_.find(node);
  if (at == places_.end()) return 0;
  std::uint32_t sum = 0;
  for (const auto& promise : nodes_[at->second].promises)
    if (except == nullptr || promise.job != except->row.key.job_id) sum += promise.cpus;
  return sum;
}

bool Outlook::holder_free(const std::vector<DatasetId>& datasets, std::uint32_t cpus) {
  if (!most_free_) {
    most_free_.emplace();
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      const auto& view = base_.nodes[i];
      const auto taken = view.cpus_busy + view.cpus_promised;
      if (!view.usable || !view.cache || taken >= view.cpus) continue;
      for (const auto& [number, held] : nodes_[i].held) {
        if (!held.complete) continue;
        if (most_free_->size() <= number) most_free_->resize(number + 1, 0);
        (*most_free_)[number] = std::max((*most_free_)[number], view.cpus - taken);
      }
    }
  }
  return std::all_of(datasets.begin(), datasets.end(), [&](const DatasetId& dataset) {
    const auto number = known_number(dataset);
    return number < most_free_->size() && (*most_free_)[number] >= cpus;
  });
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
      if (!seen.contains(dataset) && (!job->row.nodes.empty() || registry.has_read(dataset, job->row.uid)) &&
          seen.insert(dataset).second)
        out.push_back(dataset);
  return out;
}

}  // namespace atlas
