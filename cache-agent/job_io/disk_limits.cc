#include "cache-agent/job_io/disk_limits.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "common/note.h"
#include "common/unique_fd.h"

namespace atlas::agent {
namespace {

namespace fs = std::filesystem;

/// Of cgroup v1, with what it sets.
struct Throttle {
  const char* file;
  std::uint64_t (*rate)(const DiskRates&);
};
constexpr Throttle kThrottles[] = {
    {"blkio.throttle.read_bps_device", [](const DiskRates& r) { return r.read.count; }},
    {"blkio.throttle.write_bps_device", [](const DiskRates& r) { return r.write.count; }},
    {"blkio.throttle.read_iops_device", [](const DiskRates& r) { return r.operations; }},
    {"blkio.throttle.write_iops_device", [](const DiskRates& r) { return r.operations; }},
};

/// Writes to a file of the kernel's, in one call as it wants.
Status put(const fs::path& file, const std::string& text) {
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, file.string());
  if (::write(fd.get(), text.data(), text.size()) < 0) return fail_errno(errno, file.string() + ": " + text);
  return {};
}

/// The first words of a file's lines: the disks that a limit is set for.
std::vector<std::string> disks_in(const fs::path& file) {
  std::vector<std::string> out;
  std::istringstream lines(read_note(file));
  for (std::string line; std::getline(lines, line);)
    if (const auto end = line.find(' '); end != std::string::npos) out.push_back(line.substr(0, end));
  return out;
}

void lift_v2(const fs::path& cgroup) {
  for (const auto& disk : disks_in(cgroup / "io.max"))
    static_cast<void>(put(cgroup / "io.max", disk + " rbps=max wbps=max riops=max wiops=max"));
}

/// Who is still in it is not held back any more; it goes when it is empty.
void remove_v1(const fs::path& group) {
  for (const auto& throttle : kThrottles)
    for (const auto& disk : disks_in(group / throttle.file)) static_cast<void>(put(group / throttle.file, disk + " 0"));
  static_cast<void>(::rmdir(group.c_str()));
}

/// Slurm hands its cgroups cpu, cpuset and memory. The rest of what systemd gave it may be passed on by who is root.
bool has_io(const fs::path& cgroup) {
  if (fs::exists(cgroup / "io.max")) return true;
  std::istringstream offered(read_note(cgroup.parent_path() / "cgroup.controllers"));
  for (std::string controller; offered >> controller;)
    if (controller == "io")
      return put(cgroup.parent_path() / "cgroup.subtree_control", "+io") && fs::exists(cgroup / "io.max");
  return false;
}

/// A job where limits could not be set is tried again after so many looks.
constexpr int kLooksBetween = 60;

/// SIGKILL is on its way to one of its processes, which has not ended.
bool being_killed(const JobCgroup& job) {
  constexpr std::uint64_t kKill = 1ULL << (SIGKILL - 1);
  for (const auto pid : job.pids()) {
    std::istringstream lines(read_note("/proc/" + std::to_string(pid) + "/status"));
    for (std::string line; std::getline(lines, line);)
      if ((line.starts_with("SigPnd:") || line.starts_with("ShdPnd:")) &&
          (std::strtoull(line.c_str() + 7, nullptr, 16) & kKill) != 0)
        return true;
  }
  return false;
}

}  // namespace

std::string disk_of(const std::vector<Mount>& mounts, std::string_view path) {
  const auto* mount = mount_of(mounts, path);
  if (mount == nullptr) return "";
  std::string device = mount->device;
  struct stat about {};
  if (device.starts_with("0:") && mount->source.starts_with("/dev/") && ::stat(mount->source.c_str(), &about) == 0 &&
      S_ISBLK(about.st_mode))  // btrfs numbers its file systems by itself
    device = std::to_string(major(about.st_rdev)) + ":" + std::to_string(minor(about.st_rdev));
  std::error_code error;
  const fs::path known = fs::canonical("/sys/dev/block/" + device, error);
  if (error) return "";
  if (!fs::exists(known / "partition", error)) return device;
  std::istringstream whole(read_note(known.parent_path() / "dev"));
  whole >> device;
  return device;
}

DiskLimits::DiskLimits(Options options) : options_(std::move(options)), mounts_(mounts_now()) {
  if (options_.rates.any()) find_disks();  // whoever sets none has nobody wait for a disk that hangs
}

/// Scratch may be mounted, or a disk changed, between two jobs.
void DiskLimits::find_disks() {
  mounts_ = mounts_now();
  disks_.clear();
  no_disk_.clear();
  for (const auto& directory : options_.directories) {
    std::error_code error;
    const auto real = fs::canonical(directory, error);
    if (error) continue;  // this node has none
    const auto disk = disk_of(mounts_, real.native());
    if (disk.empty()) {
      no_disk_.push_back(directory);
    } else if (std::find(disks_.begin(), disks_.end(), disk) == disks_.end()) {
      disks_.push_back(disk);
    }
  }
}

std::string DiskLimits::own_groups() const {
  const auto hierarchy = v1_hierarchy(mounts_, "blkio");
  return hierarchy.empty() ? "" : hierarchy + "/atlas/" + options_.node;
}

std::string DiskLimits::own_group(std::uint32_t job_id) const {
  const auto groups = own_groups();
  return groups.empty() ? "" : groups + "/job_" + std::to_string(job_id);
}

Status DiskLimits::set_v2(const JobCgroup& job) const {
  const auto& rates = options_.rates;
  const auto part = [](const char* key, std::uint64_t rate) {  // what is not configured may be the site's own
    return rate == 0 ? "" : std::string(" ") + key + "=" + std::to_string(rate);
  };
  const std::string limits = part("rbps", rates.read.count) + part("wbps", rates.write.count) +
                             part("riops", rates.operations) + part("wiops", rates.operations);
  for (const auto& disk : disks_) ATLAS_TRY(put(job.unified + "/io.max", disk + limits));
  return {};
}

Status DiskLimits::set_v1(const std::string& group) const {
  std::error_code error;
  fs::create_directories(group, error);
  if (error) return fail_errno(error.value(), group);
  const fs::path made = group;  // people may look what they are held to, whatever the umask is
  for (const auto& directory : {made.parent_path().parent_path(), made.parent_path(), made})
    fs::permissions(directory, fs::perms(0755), error);
  for (const auto& throttle : kThrottles)
    for (const auto& disk : disks_)
      ATLAS_TRY(put(group + "/" + throttle.file, disk + " " + std::to_string(throttle.rate(options_.rates))));
  return {};
}

void DiskLimits::keep(std::uint32_t job_id, const JobCgroup& job) {
  auto kept = kept_.find(job_id);
  if (!options_.rates.any()) return;
  if (!fs::exists(job.processes)) return;  // it has ended, and is about to be released
  // What is being killed must be able to end what it has under way: Slurm drains a node whose jobs do not end.
  if (being_killed(job)) {
    lift(job_id, job);
    kept_.erase(job_id);
    return;
  }
  if (const auto later = later_.find(job_id); later != later_.end()) {
    if (--later->second > 0) return;
    later_.erase(later);
  }
  // A requeued job has another cgroup of the same name.
  const bool holds = kept != kept_.end() &&
                     (kept->second.empty() ? !disks_in(job.unified + "/io.max").empty() : fs::exists(kept->second));
  if (!holds) {
    find_disks();
    later_[job_id] = kLooksBetween;  // unless it goes well
    if (disks_.empty()) return;
    Status set;
    std::string group;
    if (!job.unified.empty() && has_io(job.unified)) {
      set = set_v2(job);
    } else if (group = own_group(job_id); !group.empty()) {
      set = set_v1(group);
    } else {
      set = fail(Code::failed_precondition, "Slurm's cgroups have no io controller: it is to be delegated to " +
                                                fs::path(job.processes).parent_path().string());
    }
    if (!set) {
      if (set.error().message != trouble_)
        spdlog::warn("job {} is not limited on the disks: {}", job_id, set.error().message);
      trouble_ = set.error().message;
      return;
    }
    trouble_.clear();
    later_.erase(job_id);
    kept = kept_.insert_or_assign(job_id, group).first;
  }
  if (kept->second.empty()) return;
  auto inside = processes_below(kept->second);
  std::sort(inside.begin(), inside.end());
  for (const auto pid : job.pids())
    if (!std::binary_search(inside.begin(), inside.end(), pid)) move(pid, job_id, kept->second);
}

/// It may be gone by now, and its number somebody else's: who is not the job's goes back to where nobody is held.
void DiskLimits::move(pid_t pid, std::uint32_t job_id, const std::string& group) const {
  if (!put(group + "/cgroup.procs", std::to_string(pid))) return;
  std::istringstream now(read_note("/proc/" + std::to_string(pid) + "/cgroup"));
  const std::string job = "/job_" + std::to_string(job_id) + "/";
  for (std::string line; std::getline(now, line);)
    if (line.find("blkio") == std::string::npos && (line + "/").find(job) != std::string::npos) return;
  static_cast<void>(put(v1_hierarchy(mounts_, "blkio") + "/cgroup.procs", std::to_string(pid)));
}

void DiskLimits::lift(std::uint32_t job_id, const JobCgroup& job) const {
  const auto kept = kept_.find(job_id);  // only what is ours: a site may have limits of its own there
  if (!job.unified.empty() && kept != kept_.end() && kept->second.empty()) lift_v2(job.unified);
  if (const auto group = own_group(job_id); !group.empty()) remove_v1(group);
}

void DiskLimits::release(std::uint32_t job_id, const JobCgroup& job) {
  lift(job_id, job);
  kept_.erase(job_id);
  later_.erase(job_id);
}

std::string DiskLimits::counted_in(std::uint32_t job_id, const JobCgroup& job) const {
  if (const auto stat = job.unified + "/io.stat"; !job.unified.empty() && fs::exists(stat)) return stat;
  const auto kept = kept_.find(job_id);
  return kept == kept_.end() || kept->second.empty() ? "" : kept->second + "/blkio.throttle.io_service_bytes";
}

void DiskLimits::tidy(const std::map<std::uint32_t, JobCgroup>& jobs) {
  const fs::path groups = own_groups();
  if (groups.empty()) return;
  std::error_code error;
  std::vector<fs::path> over;
  for (const auto& entry : fs::directory_iterator(groups, error)) {
    const std::string name = entry.path().filename();
    const bool kept = options_.rates.any() && std::any_of(jobs.begin(), jobs.end(), [&](const auto& job) {
                        return name == "job_" + std::to_string(job.first);
                      });
    if (name.starts_with("job_") && !kept) over.push_back(entry.path());
  }
  for (const auto& group : over) remove_v1(group);
  if (error || !jobs.empty()) return;
  static_cast<void>(::rmdir(groups.c_str()));
  static_cast<void>(::rmdir(groups.parent_path().c_str()));
}

void DiskLimits::no_cgroup(std::uint32_t job_id) {
  if (!options_.rates.any()) return;
  if (trouble_.empty()) spdlog::warn("job {} is not limited on the disks: Slurm has made no cgroup for it", job_id);
  trouble_ = "Slurm makes no cgroups for jobs here: see ProctrackType and cgroup.conf";
}

std::vector<std::string> DiskLimits::warnings() const {
  std::vector<std::string> out;
  if (!options_.rates.any()) return out;
  const std::string cannot = "[disk] cannot be kept: ";
  if (!trouble_.empty()) out.push_back(cannot + trouble_);
  for (const auto& directory : no_disk_) out.push_back(cannot + directory + " is on no disk of the node");
  if (disks_.empty() && no_disk_.empty()) out.push_back(cannot + "no directory of it is there");
  return out;
}

}  // namespace atlas::agent
