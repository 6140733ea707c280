#include "cache-agent/job_io/job_cgroups.h"

#include <spdlog/spdlog.h>

#include <charconv>
#include <fstream>
#include <sstream>

#include "common/mounts.h"
#include "common/note.h"

namespace atlas::agent {
namespace {

/// A hierarchy in which Slurm tracks the job. Not blkio's: Slurm makes nothing there, this agent does.
std::optional<JobCgroup> job_cgroup(std::string_view proc_cgroup, std::uint32_t job_id) {
  JobCgroup out;
  for (const auto& cgroup : job_cgroups(cgroups_of(proc_cgroup, mounts_now()), job_id)) {
    if (has_option(cgroup.controllers, "blkio")) continue;
    if (cgroup.controllers.empty()) out.unified = cgroup.directory();
    if (out.processes.empty() || cgroup.controllers.empty()) out.processes = cgroup.directory();
  }
  return out.processes.empty() ? std::nullopt : std::optional(out);
}

/// "UID GID", then the text of /proc/PID/cgroup.
std::optional<JobCgroup> from_note(const std::string& note, std::uint32_t job_id) {
  std::istringstream in(note);
  std::uint32_t uid = 0, gid = 0;
  if (!(in >> uid >> gid)) return std::nullopt;
  const auto line = note.find('\n');
  auto cgroup = job_cgroup(line == std::string::npos ? "" : std::string_view(note).substr(line + 1), job_id);
  if (cgroup) std::tie(cgroup->uid, cgroup->gid) = std::pair(uid, gid);
  return cgroup;
}

}  // namespace

std::vector<pid_t> processes_below(const std::filesystem::path& cgroup) {
  std::vector<pid_t> out;
  const auto add = [&](const std::filesystem::path& directory) {
    std::ifstream procs(directory / "cgroup.procs");
    for (pid_t pid = 0; procs >> pid;)
      if (pid > 0) out.push_back(pid);  // 0: of another pid namespace
  };
  add(cgroup);
  std::error_code error;
  for (auto it = std::filesystem::recursive_directory_iterator(cgroup, error);
       !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error))
    if (std::error_code ignored; it->is_directory(ignored)) add(it->path());
  return out;
}

std::vector<pid_t> JobCgroup::pids() const {
  return processes_below(processes);
}

JobCgroups::JobCgroups(std::filesystem::path directory) : directory_(std::move(directory)) {
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    std::uint32_t job_id = 0;
    const std::string name = entry.path().filename();
    const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), job_id);
    if (wrong != std::errc() || end != name.data() + name.size()) continue;
    if (auto cgroup = from_note(read_note(entry.path()), job_id)) jobs_[job_id] = std::move(*cgroup);
  }
}

bool JobCgroups::learn(std::uint32_t job_id, std::uint32_t uid, std::uint32_t gid, pid_t process) {
  if (const auto known = jobs_.find(job_id);
      known != jobs_.end() && known->second.uid == uid && std::filesystem::exists(known->second.processes))
    return true;
  const std::string note = std::to_string(uid) + " " + std::to_string(gid) + "\n" +
                           read_note("/proc/" + std::to_string(process) + "/cgroup");
  auto cgroup = from_note(note, job_id);
  if (!cgroup) return false;
  jobs_[job_id] = std::move(*cgroup);
  if (const auto kept = write_note(note_of(job_id), note); !kept)
    spdlog::warn("job {}: a restarted agent will not know its processes: {}", job_id, kept.error().message);
  return true;
}

void JobCgroups::forget(std::uint32_t job_id) {
  jobs_.erase(job_id);
  std::error_code error;
  std::filesystem::remove(note_of(job_id), error);
}

}  // namespace atlas::agent
