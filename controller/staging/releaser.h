#pragma once
#include <functional>

#include "controller/staging/job.h"
#include "controller/staging/slurm_calls.h"

namespace atlas {

/// Writes what was decided into Slurm's record of a job, until it is there; and sees what the user wrote himself, which
/// is his from then on. Lives on the strand.
class Releaser {
 public:
  /// `find` returns the job while it is still the same attempt.
  using Find = std::function<StagedJob*(const JobKey&)>;
  Releaser(SlurmCalls& slurm, Catalog& catalog, const Clock& clock, Find find,
           std::function<void(const Error&)> complain);

  /// The record as Slurm showed it at `taken`: adopts it, and notes the user's edits.
  void observe(StagedJob& job, const JobRecord& record, WallTime taken);
  /// Slurm may have lost what was written last (it restarted): differences are not the user's doing for a while.
  void slurm_came_back(WallTime now) { came_back_ = now; }
  /// One update if the record differs from what the job shall have. `settled`, if given, is called when nothing is left
  /// to write, or when writing failed.
  void bring(StagedJob& job, std::function<void()> settled = {});
  /// A start time ahead that Atlas or Slurm wrote, not the user.
  [[nodiscard]] bool begin_is_ours(const StagedJob& job, const JobRecord& record, WallTime now) const;
  /// A job that waits for its data and would be let go within `margin` (because the controller was not there to say for
  /// how long, or other jobs keep it waiting longer) waits until `until`. A start time the user has set stays.
  void hold_back(StagedJob& job, WallTime until, std::chrono::milliseconds margin);
  /// A released job that must wait after all: it loses the nodes that Atlas gave it and waits until `until`, in one
  /// update.
  void take_back(StagedJob& job, WallTime until);
  /// A task that was split out of a released array still waits: lets it go.
  void release_task(const StagedJob& array, const JobRecord& task);

 private:
  void applied(const JobKey& key, const JobPatch& patch, const Status& status, const std::function<void()>& settled);

  SlurmCalls& slurm_;
  Catalog& catalog_;
  const Clock& clock_;
  Find find_;
  std::function<void(const Error&)> complain_;
  WallTime came_back_{};
};

}  // namespace atlas
