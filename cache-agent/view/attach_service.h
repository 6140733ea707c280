#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cache-agent/view/namespace_holder.h"
#include "cache-agent/view/view_source.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "common/units.h"

namespace atlas::view {

/// A connection of the local socket; unique over the life of the process.
using Caller = std::uint64_t;

/// What a step or a task is told.
struct AttachAnswer {
  bool known = false;
  bool has_mounts = false;  ///< prepare: there is something to mount
  std::string cache_state;  ///< final once something was attached, else as planned
  std::string announcement;
  std::string refused;             ///< the job must not start: why
  UniqueFd ns;                     ///< attach, hold, enter: the job's namespace
  std::vector<PlannedView> views;  ///< attach: all of the job; those that have `mount`: one descriptor each in `mounts`
  std::vector<UniqueFd> mounts;
};
using AnswerFn = std::function<void(Result<AttachAnswer>)>;

/// How the tasks of a job on this node come to share one mount namespace: the first that asks gets the mounts and makes
/// it, the others wait for it. Once the first task is past its attach, what the job sees never changes: neither for its
/// later steps nor over a restart of the agent. Thread-safe; no call to the source, the holder or an answer is made
/// under its lock.
class AttachService {
 public:
  struct Options {
    std::chrono::milliseconds patience{3000};  ///< how long tasks wait for the one that makes the namespace
    std::function<void(const std::string&)> warn = [](const std::string&) {};
  };
  /// `clock` tells when the patience of waiting tasks ends. All outlive the service.
  AttachService(ViewSource& source, NamespaceHolder& holder, const Clock& clock, Options options);

  [[nodiscard]] Result<AttachAnswer> prepare(std::uint32_t job_id, const Principal& as, SteadyTime deadline);
  /// Answers now or later, on this or another thread, exactly once.
  void attach(Caller caller, std::uint32_t job_id, const Principal& as, SteadyTime deadline, AnswerFn answer);
  /// The namespace that `caller` made (none when nothing could be mounted). Answers with the one that counts.
  [[nodiscard]] Result<AttachAnswer> hold(Caller caller, std::uint32_t job_id, std::vector<AttachedView> results,
                                          UniqueFd ns);
  [[nodiscard]] Result<AttachAnswer> enter(std::uint32_t job_id);
  /// The connection is closed: if it was to make a namespace, the next in line does.
  void gone(Caller caller);
  /// Tasks that have waited long enough get mounts of their own. Called now and then.
  void expire();
  /// The job is over on this node: its namespace is let go, its waiting tasks are told.
  void release(std::uint32_t job_id);

 private:
  /// What the job's tasks see from now on.
  struct Outcome {
    std::string cache_state, announcement;
    bool has_namespace = false;
  };
  struct Waiting {
    Caller caller = 0;
    SteadyTime until;
    AnswerFn answer;
  };
  struct Job {
    JobViews views;
    std::optional<Outcome> outcome;
    Caller maker = 0;  ///< who was given the mounts to make the namespace of; 0 = nobody
    std::list<Waiting> waiting;
  };

  [[nodiscard]] Result<JobViews> load(std::uint32_t job_id, const Principal& as, SteadyTime deadline);
  void adopt(Job& job) const;
  [[nodiscard]] Result<AttachAnswer> settled(std::uint32_t job_id) const;
  void give_mounts(std::uint32_t job_id, const JobViews& views, const AnswerFn& answer);
  void settle(std::uint32_t job_id, const JobViews& views, const std::vector<AttachedView>& results,
              bool has_namespace);
  [[nodiscard]] static Attempt attempt_of(const JobViews& views) { return {views.job.job_id, views.job.restarts}; }

  ViewSource& source_;
  NamespaceHolder& holder_;
  const Clock& clock_;
  Options options_;
  mutable std::mutex mutex_;  ///< guards jobs_
  std::map<std::uint32_t, Job> jobs_;
};

}  // namespace atlas::view
