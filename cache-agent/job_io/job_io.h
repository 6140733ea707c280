#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cache-agent/fetch/executor.h"
#include "cache-agent/job_io/bypass.h"
#include "cache-agent/job_io/disk_limits.h"
#include "cache-agent/job_io/job_cgroups.h"
#include "common/identity.h"

namespace atlas::agent {

/// What the jobs of this node do with storage by themselves: keeps them within the limits on the node's disks, and
/// charges them what they read past Atlas. All work is done on one thread of its own, a little each second.
/// Thread-safe.
class JobIo {
 public:
  struct Options {
    std::string run_dir;
    DiskLimits::Options disks;
    std::optional<Bypass::Options> bypass;  ///< none: it is not measured
  };
  /// Both outlive it.
  JobIo(const Clock& clock, Governor& governor, Options options);

  /// A process of the job came to be attached. Returns when the job is within its limits, or after half a second.
  void attached(std::uint32_t job_id, const Principal& as, pid_t process);
  /// The job is over. Never blocks.
  void released(std::uint32_t job_id);
  /// Jobs that ended while no agent was there: `jobs` are all that there are. Once, before use.
  void only(const std::vector<JobKey>& jobs);
  /// Measures and limits nothing any more: what it was given may go. Jobs must not come or go then, only what has been
  /// counted may be asked for.
  void stop() { thread_.reset(); }

  [[nodiscard]] std::vector<std::string> warnings() const;
  /// What a job has read past Atlas, until it is released.
  [[nodiscard]] Bytes bypassed(std::uint32_t job_id) const;
  /// The same for each user since the agent began.
  [[nodiscard]] std::map<std::uint32_t, Bytes> bypassed_by_user() const;

 private:
  void look();
  void forget(std::uint32_t job_id);
  void count_bypass();

  const Clock& clock_;
  std::atomic<bool> hangs_ = false;  ///< the thread does not get on
  // The thread's own.
  JobCgroups cgroups_;
  DiskLimits disks_;
  std::optional<Bypass> bypass_;
  std::vector<std::string> unmeasured_;
  TimerHandle next_;

  mutable std::mutex mutex_;  ///< guards what follows
  std::vector<std::string> warnings_;
  std::map<std::uint32_t, Bytes> by_job_, by_user_;

  std::unique_ptr<ThreadExecutor> thread_ = std::make_unique<ThreadExecutor>(1);  ///< last: it uses the others
  ThreadExecutor* const worker_ = thread_.get();  ///< the same, also while it is being stopped
};

}  // namespace atlas::agent
