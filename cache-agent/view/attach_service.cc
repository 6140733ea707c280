#include "cache-agent/view/attach_service.h"

#include <algorithm>

#include "cache-agent/view/announce.h"
#include "common/packet.h"

namespace atlas::view {
namespace {

bool mountable(const JobViews& job) {
  return std::any_of(job.views.begin(), job.views.end(), [](const PlannedView& view) { return bool(view.mount); });
}

AttachAnswer planned(const JobViews& job) {
  AttachAnswer answer;
  answer.known = true;
  answer.has_mounts = mountable(job);
  std::vector<AttachedView> hoped;
  for (const auto& view : job.views) hoped.push_back({view.dataset, bool(view.mount), view.reason});
  answer.cache_state = cache_state(job, hoped);
  answer.announcement = announcement(job, hoped);
  answer.refused = job.refused;
  return answer;
}

/// One entry for each view of the job: what the caller reported, or why there was nothing to mount.
std::vector<AttachedView> complete(const JobViews& job, const std::vector<AttachedView>& reported) {
  std::vector<AttachedView> all;
  for (const auto& view : job.views) {
    const auto found = std::find_if(reported.begin(), reported.end(),
                                    [&](const AttachedView& one) { return one.dataset == view.dataset; });
    all.push_back(found != reported.end() ? *found : AttachedView{view.dataset, false, view.reason});
  }
  return all;
}

}  // namespace

AttachService::AttachService(ViewSource& source, NamespaceHolder& holder, const Clock& clock, Options options)
    : source_(source), holder_(holder), clock_(clock), options_(std::move(options)) {}

/// The job's views, remembered in jobs_; a requeued job begins afresh.
Result<JobViews> AttachService::load(std::uint32_t job_id, const Principal& as, SteadyTime deadline) {
  auto views = source_.views_of(job_id, as, deadline);
  bool requeued = false;
  {
    const std::lock_guard lock(mutex_);
    const auto known = jobs_.find(job_id);
    if (!views) {
      // What was settled holds even while nobody can be asked.
      if (known == jobs_.end() || !known->second.outcome || known->second.views.as.uid != as.uid)
        return fail(views.error());
      return known->second.views;
    }
    if (!views->known) return views;
    if (known != jobs_.end() && known->second.views.job == views->job) return known->second.views;
    requeued = known != jobs_.end();
  }
  if (requeued) release(job_id);
  holder_.release_others(attempt_of(*views));
  Result<JobViews> settled = JobViews{};
  {
    const std::lock_guard lock(mutex_);
    auto [job, fresh] = jobs_.try_emplace(job_id);
    if (fresh) {
      job->second.views = *views;
      adopt(job->second);
    }
    settled = job->second.views;
  }
  if (source_.knows(job_id)) return settled;
  release(job_id);  // it was released while its views were looked up: nobody would come for what is kept here
  return fail(Code::cancelled, "the job is over");
}

/// A namespace that an earlier run of the agent left for this attempt of the job; else, with nothing to mount, the job
/// is settled at the origin.
void AttachService::adopt(Job& job) const {
  if (auto held = holder_.find(attempt_of(job.views))) {
    job.outcome = Outcome{std::move(held->note), "", true};
  } else if (!mountable(job.views)) {
    const auto plan = planned(job.views);
    job.outcome = Outcome{plan.cache_state, plan.announcement, false};
  }
}

/// The answer for a job whose outcome is known; not_found while it is not.
Result<AttachAnswer> AttachService::settled(std::uint32_t job_id) const {
  AttachAnswer answer;
  bool has_namespace = false;
  Attempt attempt;
  {
    const std::lock_guard lock(mutex_);
    const auto job = jobs_.find(job_id);
    if (job == jobs_.end() || !job->second.outcome) return fail(Code::not_found, "not settled");
    answer.known = true;
    answer.cache_state = job->second.outcome->cache_state;
    answer.announcement = job->second.outcome->announcement;
    answer.refused = job->second.views.refused;
    has_namespace = answer.has_mounts = job->second.outcome->has_namespace;
    attempt = attempt_of(job->second.views);
  }
  if (has_namespace) {
    ATLAS_ASSIGN(auto held, holder_.find(attempt));
    answer.ns = std::move(held.ns);
  }
  return answer;
}

Result<AttachAnswer> AttachService::prepare(std::uint32_t job_id, const Principal& as, SteadyTime deadline) {
  ATLAS_ASSIGN(const auto views, load(job_id, as, deadline));
  if (!views.known) return AttachAnswer{};
  if (auto answer = settled(job_id)) {
    answer->ns.reset();
    return answer;
  }
  return planned(views);
}

void AttachService::attach(Caller caller, std::uint32_t job_id, const Principal& as, SteadyTime deadline,
                           AnswerFn answer) {
  auto views = load(job_id, as, deadline);
  if (!views) return answer(fail(views.error()));
  if (!views->known) return answer(AttachAnswer{});
  if (auto known = settled(job_id)) return answer(std::move(known));
  bool waits = false;
  {
    const std::lock_guard lock(mutex_);
    const auto job = jobs_.find(job_id);
    if (job != jobs_.end() && !job->second.outcome) {
      if (job->second.maker == 0) {
        job->second.maker = caller;
      } else {
        waits = true;
        job->second.waiting.push_back({caller, clock_.now() + options_.patience, std::move(answer)});
      }
    }
  }
  if (waits) return;
  // Settled or released between the looks: ask once more rather than wait for nobody.
  if (auto known = settled(job_id)) return answer(std::move(known));
  give_mounts(job_id, *views, answer);
}

/// Hands out one new mount per view. When none can be had the job is settled at the origin.
void AttachService::give_mounts(std::uint32_t job_id, const JobViews& views, const AnswerFn& answer) {
  AttachAnswer out;
  std::vector<AttachedView> failed;
  for (const auto& view : views.views) {
    out.views.push_back(view);
    if (!view.mount) continue;
    auto mount = out.mounts.size() < kMaxPacketFds
                     ? view.mount()
                     : Result<UniqueFd>(fail(Code::out_of_range, "the job names more datasets than can be mounted"));
    if (mount) {
      out.mounts.push_back(std::move(*mount));
    } else {
      options_.warn("job " + std::to_string(job_id) + ": no mount for " + view.dataset.path + ": " +
                    mount.error().message);
      failed.push_back({view.dataset, false, mount.error().message});
      out.views.back().mount = {};
    }
  }
  if (out.mounts.empty()) {
    settle(job_id, views, failed, false);
    if (auto known = settled(job_id)) return answer(std::move(known));
    return answer(fail(Code::not_found, "the job is over"));
  }
  out.known = true;
  answer(std::move(out));
}

/// Records what the job's tasks see from now on and answers those that wait. Does nothing when it is settled already.
void AttachService::settle(std::uint32_t job_id, const JobViews& views, const std::vector<AttachedView>& results,
                           bool has_namespace) {
  const auto all = complete(views, results);
  std::list<Waiting> waiting;
  {
    const std::lock_guard lock(mutex_);
    const auto job = jobs_.find(job_id);
    if (job == jobs_.end() || job->second.outcome || job->second.views.job != views.job) return;
    job->second.outcome = Outcome{cache_state(views, all), announcement(views, all), has_namespace};
    job->second.maker = 0;
    waiting.swap(job->second.waiting);
  }
  source_.record_attach(job_id, all);
  for (auto& one : waiting) one.answer(settled(job_id));
}

Result<AttachAnswer> AttachService::hold(Caller, std::uint32_t job_id, std::vector<AttachedView> results, UniqueFd ns) {
  JobViews views;
  {
    const std::lock_guard lock(mutex_);
    const auto job = jobs_.find(job_id);
    if (job == jobs_.end()) return fail(Code::not_found, "job " + std::to_string(job_id) + " is not attaching here");
    views = job->second.views;
  }
  if (auto known = settled(job_id)) return known;
  const bool has_namespace = bool(ns);
  if (has_namespace) {
    const auto all = complete(views, results);
    auto kept = holder_.keep(attempt_of(views), std::move(ns), cache_state(views, all));
    if (!kept) {
      if (kept.error().code != Code::already_exists) return fail(kept.error());
      // Another task was faster by a hair: its namespace counts, and it is settling the job right now.
      return enter(job_id);
    }
    if (!kept->not_pinned_because.empty())
      options_.warn("job " + std::to_string(job_id) +
                    ": its namespace will not survive a restart of the agent: " + kept->not_pinned_because);
  }
  settle(job_id, views, results, has_namespace);
  auto known = settled(job_id);
  if (!known) holder_.release(job_id);  // the job was released meanwhile
  return known;
}

Result<AttachAnswer> AttachService::enter(std::uint32_t job_id) {
  ATLAS_ASSIGN(auto held, holder_.find(job_id));
  AttachAnswer answer;
  answer.known = true;
  answer.cache_state = std::move(held.note);
  answer.ns = std::move(held.ns);
  return answer;
}

void AttachService::gone(Caller caller) {
  std::uint32_t job_id = 0;
  JobViews views;
  AnswerFn next;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [id, job] : jobs_) {
      job.waiting.remove_if([&](const Waiting& one) { return one.caller == caller; });
      if (job.maker != caller) continue;
      job.maker = 0;
      if (job.outcome || job.waiting.empty()) continue;
      job_id = id;
      views = job.views;
      job.maker = job.waiting.front().caller;
      next = std::move(job.waiting.front().answer);
      job.waiting.pop_front();
    }
  }
  if (next) give_mounts(job_id, views, next);
}

void AttachService::expire() {
  struct Late {
    std::uint32_t job_id;
    JobViews views;
    AnswerFn answer;
  };
  std::vector<Late> late;
  const auto now = clock_.now();
  {
    const std::lock_guard lock(mutex_);
    for (auto& [id, job] : jobs_) {
      while (!job.waiting.empty() && job.waiting.front().until <= now) {
        late.push_back({id, job.views, std::move(job.waiting.front().answer)});
        job.waiting.pop_front();
      }
    }
  }
  for (const auto& one : late) give_mounts(one.job_id, one.views, one.answer);
}

void AttachService::release(std::uint32_t job_id) {
  std::list<Waiting> waiting;
  {
    const std::lock_guard lock(mutex_);
    const auto job = jobs_.find(job_id);
    if (job != jobs_.end()) {
      waiting.swap(job->second.waiting);
      jobs_.erase(job);
    }
  }
  holder_.release(job_id);
  for (auto& one : waiting) one.answer(fail(Code::not_found, "job " + std::to_string(job_id) + " is over"));
}

}  // namespace atlas::view
