#include "controller/staging/staging.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

// Slurm 22.05 starts at most 128 data_in hooks at a time, and one that is cancelled may leak its place: be short.
constexpr auto kDataInAnswer = 1800ms;
constexpr auto kPreRunAnswer = 5s;
constexpr auto kPlanAnswer = 2s;
constexpr auto kFreshQueue = 1s;

/// Whoever is first answers; the others do nothing.
template <class T>
std::function<void(Result<T>)> once(std::function<void(Result<T>)> done) {
  return [answered = std::make_shared<bool>(false), done = std::move(done)](Result<T> answer) {
    if (!std::exchange(*answered, true)) done(std::move(answer));
  };
}

/// A slurmctld with much to do may answer after the job that a hook asked about has come and gone.
bool is_over(const JobRecord& record) {
  return record.state == JobState::ended || record.state == JobState::completing;
}

}  // namespace

void Staging::hook(Hook which, std::uint32_t job_id, std::function<void(Result<HookAnswer>)> done) {
  const auto answer = once<HookAnswer>(std::move(done));
  const auto slow = fail(Code::unavailable, "slurmctld is slow to answer about job " + std::to_string(job_id));
  if (which == Hook::data_in) {
    const auto id = next_id_++;
    answer_hook(job_id, false, "asked again");  // nobody reads the answer to the earlier question any more
    hook_waiters_[job_id] = {id, answer};
    parts_.strand.post_after(kDataInAnswer, [this, job_id, id, answer, slow] {
      const auto at = hook_waiters_.find(job_id);
      if (at == hook_waiters_.end() || at->second.id != id) return answer(slow);
      const auto job = jobs_.find(job_id);
      if (job == jobs_.end()) {
        hook_waiters_.erase(at);
        return answer(slow);
      }
      answer_hook(job_id, job->second->released && !job->second->patching, job->second->row.reason);
    });
  } else {
    parts_.strand.post_after(kPreRunAnswer, [answer, slow] { answer(slow); });
  }
  slurm_.load_job(job_id, [this, which, job_id, answer](const Result<JobRecord>& record) {
    if (!record) {
      if (which == Hook::data_in) hook_waiters_.erase(job_id);
      if (record.error().code != Code::not_found) return answer(fail(record.error()));
      if (const auto at = jobs_.find(job_id); at != jobs_.end()) end(*at->second, "");
      return answer(HookAnswer{true, "Slurm no longer knows the job"});
    }
    switch (which) {
      case Hook::data_in:
        return data_in(job_id, *record);
      case Hook::pre_run:
        return pre_run(*record, answer);
      case Hook::teardown: {
        const auto at = jobs_.find(job_id);
        if (at == jobs_.end() || at->second->ending) return answer(HookAnswer{true, "nothing was staged"});
        // A slurmctld that restarts tears down what is staged and stages it again: the job is not over then.
        const auto& key = at->second->row.key;
        const bool same = key.restarts == record->restarts && key.submitted == record->submitted;
        const bool over = is_over(*record);
        if (!same || over) {
          if (same) {
            at->second->record = *record;
            end_all({at->second.get()});
          } else {
            end(*at->second, "requeued");
          }
        }
        return answer(HookAnswer{true, !same || over ? "released" : "still in the queue"});
      }
    }
  });
}

void Staging::data_in(std::uint32_t job_id, const JobRecord& record) {
  if (is_over(record)) return answer_hook(job_id, true, "the job has ended");
  const auto now = parts_.clock.wall();
  const auto at = jobs_.find(job_id);
  const bool known = at != jobs_.end() && at->second->row.key.restarts == record.restarts &&
                     at->second->row.key.submitted == record.submitted;
  if (at != jobs_.end() && !known) {
    end(*at->second, "requeued");
    if (const auto still = jobs_.find(job_id); still != jobs_.end()) finish(*still->second);
  }
  StagedJob* job = known ? at->second.get() : adopt(record);
  if (job == nullptr) return answer_hook(job_id, true, "the job asks for nothing");
  const bool under_way = !job->parts.empty() && job->row.phase == JobPhase::warming;
  releaser_.observe(*job, record, now);
  outlook_.plan(*job);
  const auto answer = [&] {
    if (job->released && !job->patching) return answer_hook(job_id, true, job->row.reason);
    if (under_way) answer_hook(job_id, false, job->row.reason);  // since a poll; nothing new will be known soon
  };
  if (!cluster_ || now - cluster_->queue->taken > kFreshQueue) {
    answer();
    return poll();  // every pending job is advanced then
  }
  advance(*job);
  answer();
}

void Staging::answer_hook(std::uint32_t job_id, bool ready, const std::string& message) {
  const auto waiter = hook_waiters_.extract(job_id);
  if (!waiter.empty()) waiter.mapped().done(HookAnswer{ready, message});
}

void Staging::pre_run(const JobRecord& record, const std::function<void(Result<HookAnswer>)>& done) {
  if (is_over(record)) return done(HookAnswer{true, "the job has ended"});  // what it held is being let go
  const auto at = jobs_.find(record.id);
  const bool known = at != jobs_.end() && at->second->row.key.restarts == record.restarts &&
                     at->second->row.key.submitted == record.submitted;
  StagedJob* job = known ? at->second.get() : adopt(record);
  if (job == nullptr) return done(HookAnswer{true, "the job asks for nothing"});
  releaser_.observe(*job, record, parts_.clock.wall());
  runs(*job, record);
  look_again(*job);
  const auto nodes = job->row.nodes;
  auto open = std::make_shared<std::size_t>(1);
  auto cold = std::make_shared<std::vector<std::string>>();
  const auto finish_one = [open, cold, done] {
    if (--*open > 0) return;
    std::string message = "its data is there";
    if (!cold->empty()) message = "started cold on " + cold->front() + (cold->size() > 1 ? " and others" : "");
    done(HookAnswer{true, message});
  };
  for (const auto& node : nodes) {
    if (parts_.registry.find(node) == nullptr) {
      cold->push_back(node);
      continue;
    }
    ++*open;
    leases_.plan(node, plan_order(*job), true,
                 [node, cold, finish_one](const Result<std::vector<ReplicaInfo>>& replicas) {
                   bool complete = replicas && !replicas->empty();
                   for (std::size_t i = 0; complete && i < replicas->size(); ++i)
                     complete = (*replicas)[i].state == ReplicaState::complete;
                   if (!complete) cold->push_back(node);
                   finish_one();
                 });
  }
  finish_one();
}

void Staging::job_plan(std::uint32_t job_id, const std::string& node,
                       std::function<void(Result<std::optional<PlanOrder>>)> done) {
  const auto reply = [this, node](StagedJob* job) -> Result<std::optional<PlanOrder>> {
    if (job == nullptr || job->ending) return std::optional<PlanOrder>();
    auto order = plan_order(*job);
    if (job->hopeless) order.datasets.clear();
    leases_.note_known(node, order);
    return std::optional(std::move(order));
  };
  // Known and staged as a job of its own; an array's entry stands for its tasks only until one of them takes its id.
  if (const auto at = jobs_.find(job_id); at != jobs_.end()) return done(reply(at->second.get()));
  const auto answer = once<std::optional<PlanOrder>>(std::move(done));
  parts_.strand.post_after(kPlanAnswer, [answer, job_id] {
    answer(fail(Code::unavailable, "slurmctld is slow to answer about job " + std::to_string(job_id)));
  });
  slurm_.load_job(job_id, [this, answer, reply](const Result<JobRecord>& record) {
    if (!record) {
      if (record.error().code == Code::not_found) return answer(std::optional<PlanOrder>());
      return answer(fail(record.error()));
    }
    if (record->state == JobState::ended || record->uid == 0) return answer(std::optional<PlanOrder>());
    const auto at = jobs_.find(record->id);
    answer(reply(at != jobs_.end() ? at->second.get() : adopt(*record)));
  });
}

}  // namespace atlas
