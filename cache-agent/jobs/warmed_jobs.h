#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "common/identity.h"
#include "common/units.h"

namespace atlas::agent {

/// Jobs for which something is, or was, warmed here. What the node notes of a job goes when the job is over; but many
/// of these run elsewhere, or never, and nobody says so here: what is noted of them goes after a day. Thread-safe.
class WarmedJobs {
 public:
  /// A job may wait in the queue for so long after its warm-up without being forgotten.
  static constexpr std::chrono::hours kKept{24};

  explicit WarmedJobs(const Clock& clock) : clock_(clock) {}

  /// A warm-up for the job begins.
  void begins(std::uint32_t job_id) {
    const std::lock_guard lock(mutex_);
    ++jobs_[job_id].warming;
  }
  /// One of them is through. True: the job was over before, so what is noted of it is to go now.
  [[nodiscard]] bool ends(std::uint32_t job_id) {
    const std::lock_guard lock(mutex_);
    const auto at = jobs_.find(job_id);
    if (at == jobs_.end() || --at->second.warming != 0) return false;
    at->second.since = clock_.now();
    if (!at->second.over) return false;
    jobs_.erase(at);
    return true;
  }
  /// The job is over. False: something is still read for it, and ends() will say when its limits are to go.
  [[nodiscard]] bool is_over(std::uint32_t job_id) {
    const std::lock_guard lock(mutex_);
    const auto at = jobs_.find(job_id);
    if (at == jobs_.end()) return true;
    if (at->second.warming == 0) return jobs_.erase(at), true;
    at->second.over = true;
    return false;
  }
  /// Those for which nothing has been warmed for a day; they are no longer known. What of them runs here is the
  /// caller's to tell.
  [[nodiscard]] std::vector<std::uint32_t> take_forgotten() {
    const auto now = clock_.now();
    std::vector<std::uint32_t> out;
    const std::lock_guard lock(mutex_);
    if (now < next_look_) return out;
    next_look_ = now + std::chrono::minutes(1);
    std::erase_if(jobs_, [&](const auto& one) {
      const bool old = one.second.warming == 0 && one.second.since + kKept <= now;
      if (old) out.push_back(one.first);
      return old;
    });
    return out;
  }
  [[nodiscard]] std::size_t known() const {
    const std::lock_guard lock(mutex_);
    return jobs_.size();
  }

 private:
  struct Job {
    unsigned warming = 0;  ///< warm-ups for it that are under way
    bool over = false;     ///< the job itself is
    SteadyTime since{};    ///< without any
  };
  const Clock& clock_;
  mutable std::mutex mutex_;  ///< guards what follows
  std::map<std::uint32_t, Job> jobs_;
  SteadyTime next_look_{};
};

}  // namespace atlas::agent
