#include "controller/staging/staging.h"

#include <algorithm>
#include <limits>
#include <set>
#include <unordered_set>

#include "common/percent.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

// Agents reconnect within a few seconds of a controller's start (proto/auth.cc, make_channel; more on busy nodes): for
// jobs that may wait nothing is decided before all known ones are back or had the time, or every job would be told that
// no node has a cache.
constexpr auto kAgentsComeBack = 15s;
// While nothing is staged: an array, which has no hooks, waits until it is seen.
constexpr int kSlowPolls = 2;
// And so do nodes after a start of slurmctld.
constexpr auto kNodesComeBack = 30s;
// Thousands of agents that come back together are one reason to look at the queue, not thousands.
constexpr auto kTogether = 200ms;

}  // namespace

Staging::Staging(const Parts& parts)
    : parts_(parts),
      slurm_(parts.strand, parts.slurm_thread, parts.slurm),
      warmups_(parts.strand, parts.agents, parts.registry, parts.clock),
      leases_(parts.strand, parts.agents, parts.registry, parts.catalog,
              [warn = parts.log.warn](const Error& error) { warn(error.message); }),
      cache_space_(parts.strand, parts.agents, parts.registry, parts.catalog, parts.clock),
      io_limits_(parts.strand, cache_space_, parts.catalog, parts.clock,
                 [warn = parts.log.warn](const Error& error) { warn(error.message); }),
      releaser_(
          slurm_, parts.catalog, parts.clock, [this](const JobKey& key) { return find(key); },
          [warn = parts.log.warn](const Error& error) { warn(error.message); }),
      upkeep_(parts.strand, parts.agents, parts.registry, parts.datasets, warmups_, parts.clock, parts.log.info,
              [this](std::uint32_t uid) { return io_limits_.account_of(uid); }),
      rates_(parts.clock) {
  warmups_.observe([this](const std::string& node, const WarmOrder& order, const WarmProgress* progress) {
    learn_rates(node, order, progress);
  });
  parts_.registry.observe_nodes([this](const Registry::News& news) { outlook_.agent_changed(news); });
}

Staging::~Staging() {
  parts_.registry.observe_nodes([](const auto&) {});
}

Status Staging::load() {
  ATLAS_TRY(leases_.load());
  ATLAS_TRY(cache_space_.load());
  ATLAS_TRY(io_limits_.load());
  io_limits_.order_by([this](std::uint32_t job_id) {
    const auto job = jobs_.find(job_id);
    return job == jobs_.end() ? std::numeric_limits<std::int64_t>::max()
                              : static_cast<std::int64_t>(job->second->eligible().time_since_epoch().count());
  });
  io_limits_.expect(parts_.registry.agents().size());
  io_limits_.changed();
  ATLAS_ASSIGN(const auto rates, parts_.catalog.rates());
  for (const auto& [source, rate] : rates) saved_rates_[source] = {rate.first, rate.second};
  rates_.load(saved_rates_);
  ATLAS_TRY(parts_.catalog.prune_jobs(kKeptJobs));
  ATLAS_ASSIGN(auto rows, parts_.catalog.open_jobs());
  for (auto& row : rows) {
    auto job = std::make_unique<StagedJob>();
    auto request = decode_request(row.request);
    if (!request) continue;  // written by a newer version; it runs without us
    job->request = std::move(*request);
    for (const auto& name : job->request.datasets) {
      auto dataset = parts_.datasets.resolve(name);
      if (!dataset) {
        job->hopeless = true;
        break;
      }
      job->datasets.push_back(std::move(*dataset));
    }
    job->wait = wait_of(job->request, row.key.restarts, parts_.config.warm.max_wait);
    job->released = row.phase == JobPhase::ready;
    if (job->released) job->pin = row.wrote_req_nodes;
    if (row.phase != JobPhase::ready && row.phase != JobPhase::running) row.phase = JobPhase::queued;
    job->row = std::move(row);
    ATLAS_ASSIGN(job->plan, parts_.catalog.plan_of(job->row.key));
    if (!job->plan.rows.empty()) job->planned_start = job->plan.made + job->plan.rows.front().start;
    jobs_[job->row.key.job_id] = std::move(job);
  }
  return {};
}

void Staging::start() {
  started_ = parts_.clock.now();
  slurm_.cluster_name([this](const Result<std::string>& name) {
    if (!name) {
      parts_.log.warn("Slurm's cluster name: " + name.error().message + "; asking again");
      parts_.strand.post_after(1s, [this] { start(); });
      return;
    }
    cluster_name_ = *name;
    poll();
  });
}

/// After a start agents come one by one: what is decided before all are here sees nodes without a cache.
bool Staging::agents_settled() {
  if (parts_.clock.now() - started_ >= kAgentsComeBack) return true;
  if (!settled_)
    settled_ = cluster_ && std::all_of(cluster_->nodes.begin(), cluster_->nodes.end(), [&](const auto& node) {
                 const auto* agent = parts_.registry.find(node.first);
                 return !node.second->usable || node.second->asleep || (agent != nullptr && agent->connected);
               });
  return *settled_;
}

bool Staging::anything_staged() const {
  if (!strangers_.empty() || !leftovers_.empty() || !hook_waiters_.empty()) return true;
  for (const auto& [id, job] : jobs_)  // tasks of an array have no hooks: their end is seen here only
    if (job->pending() || job->ending || job->record.array_task_id) return true;
  return false;
}

void Staging::poll() {
  if (polling_) return;
  polling_ = true;
  polled_ = parts_.clock.now();
  ++poll_generation_;
  slurm_.load([this](const Result<SlurmCalls::Queue>& queue) {
    polling_ = false;
    loaded(queue);
    schedule_poll();
  });
}

/// Out of service, and not only because a slurmctld that was just started has not heard of it yet.
bool Staging::gone(const std::string& node) const {
  if (cluster_->usable(node)) return false;
  const auto at = cluster_->nodes.find(node);
  const bool starting = slurm_back_ != SteadyTime{} && parts_.clock.now() - slurm_back_ < kNodesComeBack;
  if (!starting || at == cluster_->nodes.end()) return true;
  const auto& state = at->second->state;
  return !state.ends_with('*') && !state.starts_with("unknown");
}

/// Nodes that slurmctld, just started, has not heard of: they will be there in a moment.
bool Staging::nodes_to_come() const {
  return cluster_ && std::any_of(cluster_->nodes.begin(), cluster_->nodes.end(),
                                 [](const auto& node) { return node.second->state.starts_with("unknown"); });
}

void Staging::schedule_poll() {
  poll_is_slow_ = !anything_staged() && !nodes_to_come();
  const auto interval = parts_.config.controller.poll * (poll_is_slow_ ? kSlowPolls : 1);
  parts_.strand.post_after(interval, [this, generation = poll_generation_] {
    if (generation == poll_generation_) poll();
  });
}

void Staging::loaded(const Result<SlurmCalls::Queue>& queue) {
  if (!queue) {
    if (!slurm_trouble_) parts_.log.warn("Slurm: " + queue.error().message + "; asking again");
    slurm_trouble_ = queue.error();
    return;
  }
  const auto taken = (*queue)->taken;
  const auto started = (*queue)->slurmctld_started;
  const bool restarted = cluster_ && started != cluster_->queue->slurmctld_started;
  if (slurm_trouble_ || restarted) {
    parts_.log.info(restarted ? "slurmctld was started anew" : "Slurm answers again");
    releaser_.slurm_came_back(parts_.clock.wall());
    slurm_back_ = parts_.clock.now();
    slurm_trouble_.reset();
  }
  const bool observing = parts_.config.site.observe;
  auto shown = observing ? before_they_began(*queue) : *queue;
  cluster_ = Cluster::of(std::move(shown), std::exchange(cluster_, std::nullopt));
  settled_.reset();
  std::unordered_set<std::uint32_t> seen;
  seen.reserve(cluster_->queue->jobs.size());
  std::vector<StagedJob*> over;
  for (const auto& record : cluster_->queue->jobs) {
    seen.insert(record.id);
    io_limits_.note_account(record.uid, record.account);
    see(record, taken, over);
  }
  end_all(over);
  outlook_.look(*cluster_, observing ? observed_ : jobs_, parts_.registry, warmups_, parts_.clock.wall());
  // Slurm itself asks for these, and may start them once it is answered: they do not wait for their turn.
  std::vector<std::uint32_t> asked;
  for (const auto& [id, waiter] : hook_waiters_) asked.push_back(id);
  for (const auto id : asked)
    if (const auto at = jobs_.find(id); at != jobs_.end() && at->second->pending()) advance(*at->second);
  look_at_origins();
  turns_.begin(Turns::affordable(cluster_->queue->nodes.size()));
  std::vector<std::uint32_t> ids;
  ids.reserve(jobs_.size());
  for (const auto& [id, job] : jobs_) ids.push_back(id);
  std::rotate(ids.begin(), std::lower_bound(ids.begin(), ids.end(), turns_.from()), ids.end());
  for (const auto id : ids) {
    const auto at = jobs_.find(id);
    if (at == jobs_.end()) continue;
    auto& job = *at->second;
    if (!seen.contains(id) && job.row.first_seen < taken) {
      end(job, "Slurm no longer knows it");
    } else if (job.pending()) {
      advance(job);
    }
  }
  if (observing) observe_queue();
  turns_.end();
  origin_turns_.end();
  copy_from_leaving_nodes();
  release_strangers();
  release_leftovers();
  leases_.reconcile();
  finish_endings();
  followers_.look(jobs_, parts_.registry, parts_.clock.now());
  tell_what_is_wanted();
  write_comments();
  upkeep_.look();
}

void Staging::see(const JobRecord& record, WallTime taken, std::vector<StagedJob*>& over) {
  if (record.uid == 0) return;  // root's jobs cannot use burst buffers and are not staged
  if (record.array_task_id && !record.array_waiting && record.state == JobState::pending &&
      record.id != record.array_job_id)
    return see_array_task(record);
  auto at = jobs_.find(record.id);
  if (at != jobs_.end() &&
      (at->second->row.key.restarts != record.restarts || at->second->row.key.submitted != record.submitted)) {
    if (record.submitted < at->second->row.key.submitted) return;  // an older attempt of a reused id
    end(*at->second, "requeued");
    if (at = jobs_.find(record.id); at != jobs_.end()) finish(*at->second);
    at = jobs_.end();
  }
  StagedJob* job = at == jobs_.end() ? nullptr : at->second.get();
  if (job == nullptr) {
    if (record.state == JobState::ended || record.state == JobState::completing) return;
    job = adopt(record);
    if (job == nullptr) return;
  }
  releaser_.observe(*job, record, taken);
  note_staging_in(*job);
  switch (record.state) {
    case JobState::pending:
      if (job->row.phase == JobPhase::running && taken > job->patched) job->row.phase = JobPhase::ready;
      return;  // advanced once the whole queue has been seen
    case JobState::ended:
      return over.push_back(job);
    case JobState::completing:
      return;
    default:
      return runs(*job, record);
  }
}

void Staging::tell_what_is_wanted() {
  const auto wanted = Outlook::wanted(jobs_, parts_.registry, parts_.clock.wall());
  const auto held = followers_.places();
  cache_space_.want(wanted, held);
  wanted_notes_.tell(wanted, held, parts_.registry, parts_.clock.now());
}

/// A task split out of an array that waits as a whole: staged with the array, and let go with it.
void Staging::see_array_task(const JobRecord& record) {
  const auto at = jobs_.find(record.array_job_id);
  if (at != jobs_.end() && at->second->released && at->second->row.key.submitted == record.submitted)
    releaser_.release_task(*at->second, record);
}

StagedJob* Staging::find(const JobKey& key) {
  const auto at = jobs_.find(key.job_id);
  return at != jobs_.end() && at->second->row.key == key ? at->second.get() : nullptr;
}

std::optional<Request> Staging::request_of(const JobRecord& record, std::string& trouble) const {
  const auto text = find_request(record.burst_buffer, record.admin_comment);
  if (!text || record.uid == 0) return std::nullopt;
  auto request = decode_request(*text);
  if (!request) {
    trouble = request.error().message;
    return std::nullopt;
  }
  return std::move(*request);
}

std::unique_ptr<StagedJob> Staging::job_of(const JobRecord& record) const {
  std::string trouble;
  auto request = request_of(record, trouble);
  if (!request) {
    if (!trouble.empty()) parts_.log.warn("job " + std::to_string(record.id) + ": " + trouble + "; left to Slurm");
    return nullptr;
  }
  auto job = std::make_unique<StagedJob>();
  job->request = std::move(*request);
  job->record = record;
  auto& row = job->row;
  row.key = {cluster_name_, record.id, record.restarts, record.submitted};
  row.uid = record.uid;
  row.gid = record.gid;
  row.user = parts_.users.name_of(record.uid);
  row.name = record.name;
  row.request = *find_request(record.burst_buffer, record.admin_comment);
  row.first_seen = parts_.clock.wall();
  row.array = record.array_waiting;
  job->wait = wait_of(job->request, record.restarts, parts_.config.warm.max_wait);
  if (job->wait.count() > 0) row.deadline = std::chrono::ceil<std::chrono::seconds>(job->deadline());
  job->nodes_before = record.req_nodes;
  job->user_nodes = !record.req_nodes.empty();
  for (const auto& name : job->request.datasets) {
    auto dataset = parts_.datasets.resolve(name);
    if (!dataset) {
      job->hopeless = true;
      row.reason = dataset.error().message;
      break;
    }
    job->datasets.push_back(std::move(*dataset));
  }
  return job;
}

StagedJob* Staging::adopt(const JobRecord& record) {
  if (parts_.config.site.observe) return nullptr;
  auto job = job_of(record);
  if (job == nullptr) return nullptr;
  if (const auto whole = jobs_.find(record.array_job_id); record.array_task_id && whole != jobs_.end()) {
    job->could_start = whole->second->could_start;
    if (job->request.on_change == OnChange::fail) job->row.generations = whole->second->row.generations;
  }
  auto* out = job.get();
  jobs_[record.id] = std::move(job);
  save(*out);
  if (poll_is_slow_ && !polling_) {  // something is staged now
    ++poll_generation_;
    schedule_poll();
  }
  return out;
}

void Staging::release_strangers() {
  auto strangers = std::exchange(strangers_, {});
  for (const auto& [node, key] : strangers) {
    const auto at = jobs_.find(key.job_id);
    const bool runs_there = at != jobs_.end() && !at->second->ending && at->second->row.phase == JobPhase::running;
    if (!runs_there) leases_.release(node, key);
  }
}

/// A lease that a node reports, poll after poll, for a job that is over and that nothing here speaks of any more: its
/// release and a plan that came late have crossed on their way.
void Staging::release_leftovers() {
  std::set<std::pair<std::string, std::uint32_t>> found;
  for (const auto& [node, agent] : parts_.registry.agents()) {
    if (!agent.connected || agent.leased == 0) continue;
    for (const auto& [id, replica] : agent.replicas)
      for (const auto job_id : replica.leases)
        if (!jobs_.contains(job_id) && !leases_.contains(node, job_id)) found.emplace(node, job_id);
  }
  for (const auto& [node, job_id] : found) {
    if (!leftovers_.contains({node, job_id})) continue;
    parts_.log.warn(node + " still holds a lease of job " + std::to_string(job_id) + ", which is over: released again");
    leases_.release(node, {cluster_name_, job_id, std::numeric_limits<std::uint32_t>::max(), {}});
  }
  leftovers_ = std::move(found);
}

void Staging::agent_came(const std::string& node, const std::vector<JobKey>& jobs) {
  for (const auto& key : leases_.agent_knows(node, jobs)) strangers_.emplace_back(node, key);
  settled_.reset();
  if (parts_.clock.now() - polled_ >= kTogether) return poll();
  if (std::exchange(poll_soon_, true)) return;
  parts_.strand.post_after(kTogether, [this] {
    poll_soon_ = false;
    poll();
  });
}

void Staging::agent_lost(const std::string& node) {
  parts_.log.warn("the cache agent of " + node + " is gone; its warm-ups are tried again when it is back");
}

void Staging::save(const StagedJob& job) {
  if (auto ok = parts_.catalog.put_job(job.row); !ok) parts_.log.warn(ok.error().message);
}

/// What changed is kept and shown.
void Staging::touch(StagedJob& job) {
  outlook_.plan(job);
  save(job);
  if (watchers_.any(job.row.key.job_id)) watchers_.show(view_of(job));
}

}  // namespace atlas
