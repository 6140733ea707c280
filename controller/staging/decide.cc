#include <algorithm>

#include "common/hostlist.h"
#include "controller/staging/staging.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

// Data that is there is checked against the origin before the job goes to it, if that takes no longer.
constexpr auto kBriefCheck = 1500ms;
// A rate says something after so long.
constexpr auto kRateKnown = 5s;
// Until the controller has seen a job it is held back for warm.controller_grace only.
constexpr auto kGrace = 65s;
// Slurm has had the time to start what it was given (batch_sched_delay is 3 s).
constexpr auto kSlurmsTurn = 4s;
// A node that was expected to be free is not, after so long.
constexpr auto kLate = 60s;

std::string seconds_of(std::chrono::nanoseconds time) {
  return format_duration(std::chrono::duration_cast<std::chrono::milliseconds>(time));
}

/// The reasons for which a pinned job would wait for good.
bool pin_is_in_the_way(const std::string& reason) {
  for (const std::string_view word :
       {"BadConstraints", "ReqNodeNotAvail", "NodeDown", "PartitionNodeLimit", "PartitionConfig", "NodesUnavailable"})
    if (reason.find(word) != std::string::npos) return true;
  return false;
}

/// What another node would answer too.
bool final_everywhere(Code code) {
  return code == Code::permission_denied || code == Code::not_found || code == Code::invalid_argument ||
         code == Code::out_of_range;  // a quota counts on all nodes together
}

}  // namespace

void Staging::advance(StagedJob& job) {
  if (!job.pending() || job.record.id == 0 || !cluster_) return;
  const auto now = parts_.clock.wall();
  if (job.released) {
    recheck_pin(job);
    return releaser_.bring(job);
  }
  if (job.taking_back) releaser_.take_back(job, job.deadline());
  note_what_it_is(job);
  if (!job.startable(now)) {
    job.kept = true;
    if (job.wait.count() > 0) releaser_.hold_back(job, now + job.wait, job.wait / 2);
    return answer_hook(job.row.key.job_id, false, "its data is looked at when it could start");
  }
  if (std::exchange(job.kept, false)) {
    job.could_start = now;
    if (job.wait.count() > 0) job.row.deadline = std::chrono::ceil<std::chrono::seconds>(job.deadline());
  }
  if (job.may_wait(now)) releaser_.hold_back(job, job.deadline(), kGrace);
  if (job.hopeless) return start_cold(job, job.row.reason);
  if (job.wait.count() > 0 && !job.may_wait(now)) {
    std::string what = "its data was not there after " + seconds_of(job.wait);
    if (!job.plan_reason.empty()) what += " (" + job.plan_reason + ")";
    return start_cold(job, what);
  }
  if (!job.parts.empty()) {
    const bool any_gone =
        std::any_of(job.parts.begin(), job.parts.end(), [&](const StagedJob::Part& part) { return gone(part.node); });
    if (!any_gone && job.planned_for == job.where()) return;
    drop_parts(job, true);
  }
  if (job.wait.count() > 0 && !agents_settled()) return;
  if (!turns_.take(job.row.key.job_id)) return;
  act_on(job, decide(job));
}

void Staging::act_on(StagedJob& job, const Decision& decision) {
  const bool waits = job.request.warm == WarmMode::wait && job.may_wait(parts_.clock.wall());
  note_plan(job, decision);
  switch (decision.action) {
    case Action::go:
      if (waits) return begin_warm(job, decision.nodes, decision.reason);
      return check_briefly(job, decision.nodes, decision.reason);
    case Action::wait:
      if (waits) return begin_warm(job, decision.nodes, decision.reason);
      return ready(job, decision.nodes, job.row.array ? JobPhase::ready : JobPhase::waiting, decision.reason);
    case Action::warm:
      if (waits) {
        if (const auto line = in_line_for(job, decision); !line.empty()) return stand_in_line(job, line);
        begin_warm(job, decision.nodes, decision.reason);
        return answer_hook(job.row.key.job_id, false, decision.reason);
      }
      job.row.cold = true;
      // Nodes that are still busy it does not wait for: where it will start is Slurm's to say.
      if (!free_now(job, decision.nodes)) return ready(job, {}, JobPhase::ready, decision.reason);
      prefetch(job, decision.nodes);
      return ready(job, decision.nodes, JobPhase::ready, decision.reason);
    case Action::cold:
      if (decision.nowhere && waits) {  // nothing to lose: it could not start either; nodes may come back
        job.row.reason = decision.reason;
        return;
      }
      if (job.request.warm != WarmMode::none) return start_cold(job, decision.reason);
      job.row.cold = true;
      return ready(job, {}, JobPhase::ready, decision.reason);
  }
}

/// It is asked again at the next look; until then no node is promised to it.
void Staging::stand_in_line(StagedJob& job, const std::string& reason) {
  job.row.phase = JobPhase::queued;
  job.row.nodes.clear();
  if (job.row.reason != reason) {
    job.row.reason = job.plan_reason = reason;
    touch(job);
  } else {
    outlook_.plan(job);
  }
  answer_hook(job.row.key.job_id, false, reason);
}

void Staging::begin_warm(StagedJob& job, const std::vector<std::string>& nodes, const std::string& reason) {
  job.row.nodes = nodes;
  job.planned_for = job.where();
  job.row.reason = job.plan_reason = reason;
  const bool seen = std::all_of(job.datasets.begin(), job.datasets.end(),
                                [&](const DatasetId& id) { return parts_.registry.newest(id).has_value(); });
  job.row.phase = seen ? JobPhase::warming : JobPhase::surveying;
  for (const auto& node : nodes) {
    for (std::size_t i = 0; i < job.datasets.size(); ++i) {
      const std::size_t part = job.parts.size();
      const auto ticket = warmups_.want(
          node, warm_order(job, i, nodes),
          {[this, key = job.row.key](const WarmProgress& progress) { part_progress(key, progress); },
           [this, key = job.row.key, part](const Result<Generation>& result) { part_done(key, part, result); }});
      job.parts.push_back({node, i, ticket, false});
    }
  }
  parts_.log.info("job " + std::to_string(job.row.key.job_id) + " (" + job.row.user + "): " + reason);
  touch(job);
}

void Staging::part_progress(const JobKey& key, const WarmProgress& progress) {
  auto* job = find(key);
  if (job == nullptr || job->parts.empty()) return;
  if (progress.phase == WarmPhase::fetching && job->row.phase != JobPhase::warming) {
    job->row.phase = JobPhase::warming;
    touch(*job);
    answer_hook(key.job_id, false, job->row.reason);
  }
  const bool waits = job->request.warm == WarmMode::wait && !job->row.array;
  if (!waits || progress.phase != WarmPhase::fetching || progress.eta <= parts_.config.warm.max_idle) return;
  if (warmups_.running_for(progress.node, progress.dataset) < kRateKnown) return;
  if (!cluster_ || !free_now(*job, job->row.nodes)) return;
  // Nobody else could use the nodes meanwhile without the job losing its place: better it starts than they idle.
  const auto nodes = job->row.nodes;
  job->row.cold = true;
  ready(*job, nodes, JobPhase::ready,
        progress.node + " would stay idle for " + format_duration(progress.eta) +
            " more until the data is there: the job starts on the origin meanwhile");
}

void Staging::part_done(const JobKey& key, std::size_t part, const Result<Generation>& result) {
  auto* job = find(key);
  if (job == nullptr || part >= job->parts.size()) return;
  auto& mine = job->parts[part];
  const auto node = mine.node;
  if (result) {
    mine.done = true;
    job->row.generations.resize(job->datasets.size());
    auto& planned = job->row.generations[mine.dataset];
    if (job->request.on_change != OnChange::fail || planned.empty()) planned = result->id;
    if (std::all_of(job->parts.begin(), job->parts.end(), [](const auto& p) { return p.done; })) warmed(*job);
    return;
  }
  const auto label = parts_.datasets.label_of(job->datasets[mine.dataset]);
  const auto& error = result.error();
  const bool brief = std::exchange(job->give_up, 0) != 0;
  job->failed[node] = label + ": " + error.message;
  if (final_everywhere(error.code)) job->hopeless = true;
  drop_parts(*job, false);
  job->row.nodes.clear();
  outlook_.plan(*job);
  if (job->request.on_change != OnChange::fail) job->row.generations.clear();
  if (job->hopeless || brief) return start_cold(*job, job->failed[node]);
  parts_.log.warn("job " + std::to_string(key.job_id) + ": warm-up on " + node + " failed: " + error.message);
  if (cluster_) act_on(*job, decide(*job));
}

/// All of it is there, as the origin has it now.
void Staging::warmed(StagedJob& job) {
  job.give_up = 0;
  const auto nodes = job.row.nodes;
  job.parts.clear();
  Bytes bytes;
  for (const auto& dataset : job.datasets)
    if (const auto newest = parts_.registry.newest(dataset)) bytes += newest->bytes;
  const auto took = parts_.clock.wall() - job.row.first_seen;
  const bool free = free_now(job, nodes);
  const bool waits = job.may_wait(parts_.clock.wall()) && !job.row.array;
  std::string reason =
      compress_hostlist(nodes) + (nodes.size() == 1 ? " holds" : " hold") + " the data (" + format_size(bytes) + ")";
  if (const auto shares = shares_of(job, nodes); !shares.empty()) reason = shares;
  if (took > 2s) reason += ", after " + seconds_of(took);
  if (!free && waits)
    reason += (nodes.size() == 1 ? "; it is busy: waiting for it" : "; they are busy: waiting for them");
  ready(job, nodes, free || !waits ? JobPhase::ready : JobPhase::waiting, reason);
}

/// Who holds how much, if no node holds all of it.
std::string Staging::shares_of(const StagedJob& job, const std::vector<std::string>& nodes) const {
  Bytes total;
  for (const auto& dataset : job.datasets)
    if (const auto newest = parts_.registry.newest(dataset)) total += newest->bytes;
  std::string each;
  bool whole = nodes.size() < 2;
  for (const auto& node : nodes) {
    const auto* agent = parts_.registry.find(node);
    if (agent == nullptr) return "";
    Bytes here;
    bool complete = true;
    for (const auto& dataset : job.datasets) {
      const auto holding = parts_.registry.holding(*agent, dataset);
      here += holding.resident;
      complete = complete && holding.complete;
    }
    whole = whole || complete;
    each += (each.empty() ? "" : ", ") + node + " " + format_size(here);
  }
  if (whole) return "";
  return compress_hostlist(nodes) + " divide the data (" + format_size(total) + "): " + each;
}

void Staging::drop_parts(StagedJob& job, bool cancel) {
  const auto parts = std::exchange(job.parts, {});
  for (const auto& part : parts)
    if (!part.done) warmups_.drop(part.ticket, cancel);
}

void Staging::check_briefly(StagedJob& job, const std::vector<std::string>& nodes, const std::string& reason) {
  begin_warm(job, nodes, reason);
  job.give_up = next_id_++;
  parts_.strand.post_after(kBriefCheck, [this, key = job.row.key, mine = job.give_up, nodes, reason] {
    auto* same = find(key);
    if (same == nullptr || same->give_up != mine) return;
    same->give_up = 0;
    if (same->pending() && !same->released) ready(*same, nodes, JobPhase::ready, reason);
  });
}

void Staging::ready(StagedJob& job, const std::vector<std::string>& nodes, JobPhase phase, const std::string& reason) {
  drop_parts(job, false);
  job.released = true;
  job.taking_back = false;
  job.planned_for = job.where();
  job.give_up = 0;
  job.row.phase = phase;
  job.row.reason = reason + beyond_quota(job);
  job.row.nodes = nodes;
  if (job.wait.count() > 0) job.row.waited = job.held(parts_.clock.wall());
  // Components of a heterogeneous job start together or not at all: nodes chosen one by one may exclude each other.
  const bool may_pin = !job.user_nodes && !job.row.array && job.record.het_job_id == 0;
  if (may_pin) {
    const bool anywhere = nodes.empty() || (cluster_ && held_everywhere(job));
    if (!anywhere) {
      job.pin = compress_hostlist(nodes);
    } else {
      job.row.nodes.clear();
      if (job.row.wrote_req_nodes && !job.row.wrote_req_nodes->empty()) job.pin = "";
    }
  }
  if (job.row.array || job.record.het_job_id != 0) job.row.nodes.clear();
  plan_on(job, job.row.nodes, false);
  parts_.log.info("job " + std::to_string(job.row.key.job_id) + " (" + job.row.user + ") " +
                  std::string(name_of(phase)) + ": " + reason);
  touch(job);
  releaser_.bring(job, [this, id = job.row.key.job_id, reason] { answer_hook(id, true, reason); });
}

/// What its user should know who asks for more cache than he may ever have.
std::string Staging::beyond_quota(const StagedJob& job) const {
  const auto quota = cache_space_.tightest(job.payer());
  if (!job.request.cache || !quota || *job.request.cache <= *quota->cache) return "";
  return "; --cache " + format_size(*job.request.cache) + " is more than the cache quota of " +
         std::string(name_of(quota->kind)) + " " + quota->name + ", " + format_size(*quota->cache) +
         " on all nodes together";
}

void Staging::start_cold(StagedJob& job, const std::string& reason) {
  job.row.cold = true;
  const std::string prefix = "started cold: ";
  ready(job, {}, JobPhase::ready, reason.starts_with(prefix) ? reason : prefix + reason);
}

bool Staging::free_now(const StagedJob& job, const std::vector<std::string>& nodes) const {
  if (!cluster_) return false;
  const auto need = cpus_each(job.record, job.record.nodes_wanted);
  return std::all_of(nodes.begin(), nodes.end(), [&](const std::string& name) {
    const auto at = cluster_->nodes.find(name);
    if (at == cluster_->nodes.end() || !at->second->usable) return false;
    const auto taken = at->second->cpus_busy + outlook_.promised_on(name, &job);
    return job.record.exclusive ? taken == 0 : taken + need <= at->second->cpus;
  });
}

/// A job that waits in Slurm's queue for the nodes it was given: are they still the right ones?
void Staging::recheck_pin(StagedJob& job) {
  if (job.user_nodes || !job.pin || job.pin->empty() || job.patching) return;
  if (job.pin_expanded != *job.pin) job.pin_nodes = hosts_of(job.pin_expanded = *job.pin);
  const auto nodes = job.pin_nodes;
  const auto now = parts_.clock.wall();
  if (!job.parts.empty()) {  // other nodes are being warmed meanwhile
    if (job.may_wait(now)) return;
    drop_parts(job, true);
  }
  const bool serve = std::none_of(nodes.begin(), nodes.end(), [&](const auto& name) { return gone(name); });
  const bool usable = serve && (job.planned_for == job.where() || allowed(job, nodes));
  const bool refused = now - job.patched > kSlurmsTurn && pin_is_in_the_way(job.record.state_reason);
  const bool waiting = job.row.phase == JobPhase::waiting;
  if (waiting && !job.may_wait(now) && usable)
    return start_cold(job, compress_hostlist(nodes) + " stayed busy for " + seconds_of(job.wait));
  const bool slurms_turn = now - job.patched < kSlurmsTurn;
  // Memory, GPUs, licences: what staging does not count is in the way although the CPUs are free.
  const bool full = !slurms_turn && job.record.state_reason == "Resources";
  if (usable && !refused && (slurms_turn || (free_now(job, nodes) && !full))) return;
  // What was expected of its nodes has not come true, and bringing the data elsewhere may be the better way now.
  const bool late = now > job.planned_start + kLate && job.may_wait(now) && job.request.warm == WarmMode::wait;
  // Nothing else can have become better than what it waits for while nobody who holds its data has become free.
  const bool holder = job.datasets.empty() || job.request.locality ||
                      outlook_.holder_free(job.datasets, cpus_each(job.record, job.record.nodes_wanted));
  Decision better;
  if (!usable || refused || (waiting && late) || holder) {
    if (!turns_.take(job.row.key.job_id)) return;
    better = decide(job);
  }
  if (better.action == Action::go && better.nodes != nodes && !refused) {
    note_plan(job, better);
    return ready(job, better.nodes, JobPhase::ready, better.reason);
  }
  if (!usable || refused) {
    if (better.action == Action::wait && !refused && better.nodes != nodes) {
      note_plan(job, better);
      return ready(job, better.nodes, JobPhase::waiting, better.reason);
    }
    const std::string why =
        compress_hostlist(nodes) + (usable  ? " was refused by Slurm (" + job.record.state_reason + ")"
                                    : serve ? " is not where it may run any more"
                                            : " went out of service");
    // On a node that is being drained the data can still be had from; and while there is no other node, it could not
    // start either.
    const bool elsewhere = better.action == Action::warm || better.nowhere;
    if (!refused && elsewhere && job.may_wait(now) && job.request.warm == WarmMode::wait)
      return stage_again(job, better, why);
    return start_cold(job, why);
  }
  // They stay its own until the data is there.
  if (waiting && late && better.action == Action::warm && better.nodes != nodes && in_line_for(job, better).empty()) {
    note_plan(job, better);
    return begin_warm(job, better.nodes, better.reason + "; " + compress_hostlist(nodes) + " did not become free");
  }
  if (waiting) return;
  if (job.may_wait(now)) {
    job.row.phase = JobPhase::waiting;
    job.row.reason = compress_hostlist(nodes) + " holds the data and was taken by another job: waiting for it";
    return touch(job);
  }
  start_cold(job, compress_hostlist(nodes) + " was taken by another job");
}

/// Released, and the nodes that it was released to are lost: it waits for its data on others.
void Staging::stage_again(StagedJob& job, const Decision& better, const std::string& why) {
  job.released = false;
  job.row.phase = JobPhase::queued;
  job.row.reason = why;
  job.row.nodes.clear();
  parts_.log.info("job " + std::to_string(job.row.key.job_id) + " (" + job.row.user + "): " + why + "; staged again");
  releaser_.take_back(job, job.deadline());  // again at each poll until Slurm has heard it
  touch(job);
  act_on(job, better);
}

/// As far as its partition goes, and the nodes that its user does not want.
bool Staging::allowed(const StagedJob& job, const std::vector<std::string>& nodes) const {
  const auto excluded = hosts_of(job.record.exc_nodes);
  for (const auto& name : nodes) {
    const auto at = cluster_->nodes.find(name);
    if (at == cluster_->nodes.end() || std::find(excluded.begin(), excluded.end(), name) != excluded.end())
      return false;
    if (!in_partition(*at->second, job.record)) return false;
  }
  return true;
}

/// Warms while the job starts; nobody waits for it.
void Staging::prefetch(StagedJob& job, const std::vector<std::string>& nodes) {
  for (const auto& node : nodes) {
    job.filled.insert(node);
    for (std::size_t i = 0; i < job.datasets.size(); ++i) {
      const auto key = std::tuple(node, job.datasets[i], job.row.uid);
      auto order = warm_order(job, i, job.row.phase == JobPhase::running ? job.row.nodes : nodes);
      order.settled_only = true;  // nobody waits for it: what changes just now is not worth a copy
      static_cast<void>(warmups_.want(node, order, {{}, [this, key](const Result<Generation>& result) {
                                                      if (!result) fill_failed_[key] = parts_.clock.now();
                                                    }}));
    }
  }
}

}  // namespace atlas
