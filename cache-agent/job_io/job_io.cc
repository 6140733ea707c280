#include "cache-agent/job_io/job_io.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <future>

namespace atlas::agent {
namespace {

constexpr std::chrono::seconds kPeriod{1};
/// A job's start waits no longer for a limit on its disks.
constexpr std::chrono::milliseconds kPatience{500};

}  // namespace

JobIo::JobIo(const Clock& clock, Governor& governor, Options options)
    : clock_(clock), cgroups_(options.run_dir + "/jobs"), disks_(std::move(options.disks)) {
  if (options.bypass) bypass_.emplace(std::move(*options.bypass), governor);
}

void JobIo::only(const std::vector<JobKey>& jobs) {
  worker_->post([this, jobs] {
    auto over = cgroups_.jobs();
    for (const auto& job : jobs) over.erase(job.job_id);
    for (const auto& [job_id, cgroup] : over) {
      disks_.release(job_id, cgroup);
      cgroups_.forget(job_id);
    }
    look();
  });
}

void JobIo::attached(std::uint32_t job_id, const Principal& as, pid_t process) {
  const auto done = std::make_shared<std::promise<void>>();
  auto waits = done->get_future();
  worker_->post([this, job_id, uid = as.uid, gid = as.gid, process, done] {
    const bool known = cgroups_.jobs().contains(job_id);
    if (cgroups_.learn(job_id, uid, gid, process)) {
      if (bypass_ && !known) bypass_->begin(job_id);
      disks_.keep(job_id, cgroups_.jobs().at(job_id));
    } else if (process != 0 && std::filesystem::exists("/proc/" + std::to_string(process))) {
      disks_.no_cgroup(job_id);
    }
    hangs_ = false;
    done->set_value();
  });
  // A job with many tasks does not wait for each of them.
  if (!hangs_ && waits.wait_for(kPatience) == std::future_status::timeout) hangs_ = true;
}

void JobIo::released(std::uint32_t job_id) {
  worker_->post([this, job_id] {
    forget(job_id);
    const std::lock_guard lock(mutex_);
    by_job_.erase(job_id);
  });
}

void JobIo::forget(std::uint32_t job_id) {
  const auto job = cgroups_.jobs().find(job_id);
  if (job == cgroups_.jobs().end()) return;
  disks_.release(job_id, job->second);
  if (bypass_) bypass_->forget(job_id);
  cgroups_.forget(job_id);
}

std::vector<std::string> JobIo::warnings() const {
  const std::lock_guard lock(mutex_);
  return warnings_;
}

Bytes JobIo::bypassed(std::uint32_t job_id) const {
  const std::lock_guard lock(mutex_);
  const auto job = by_job_.find(job_id);
  return job == by_job_.end() ? Bytes{} : job->second;
}

std::map<std::uint32_t, Bytes> JobIo::bypassed_by_user() const {
  const std::lock_guard lock(mutex_);
  return by_user_;
}

void JobIo::count_bypass() {
  const auto& jobs = cgroups_.jobs();
  const auto charged =
      bypass_->sample(jobs, [&](std::uint32_t job_id) { return disks_.counted_in(job_id, jobs.at(job_id)); });
  for (const auto& origin : bypass_->unmeasured())
    if (std::find(unmeasured_.begin(), unmeasured_.end(), origin) == unmeasured_.end())
      spdlog::info("origin {}: what jobs read past Atlas cannot be measured on this node", origin);
  unmeasured_ = bypass_->unmeasured();
  const std::lock_guard lock(mutex_);
  for (const auto& one : charged) {
    by_job_[one.job_id] += Bytes{one.bytes};
    by_user_[one.uid] += Bytes{one.bytes};
  }
}

void JobIo::look() {
  next_ = worker_->post_at(clock_.now() + kPeriod, [this] { look(); });  // first: whatever becomes of this time
  std::vector<std::uint32_t> gone;                                       // an attach may have crossed its job's release
  for (const auto& [job_id, cgroup] : cgroups_.jobs())
    if (!std::filesystem::exists(cgroup.processes)) gone.push_back(job_id);
  for (const auto job_id : gone) forget(job_id);
  for (const auto& [job_id, cgroup] : cgroups_.jobs()) disks_.keep(job_id, cgroup);
  disks_.tidy(cgroups_.jobs());
  if (bypass_) count_bypass();
  auto warnings = disks_.warnings();
  {
    const std::lock_guard lock(mutex_);
    warnings_ = std::move(warnings);
  }
}

}  // namespace atlas::agent
