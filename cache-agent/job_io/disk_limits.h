#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "cache-agent/job_io/job_cgroups.h"
#include "common/mounts.h"
#include "common/result.h"
#include "common/units.h"

namespace atlas::agent {

/// What one job may do on one disk, per second; 0 = no limit.
struct DiskRates {
  Bytes read, write;
  std::uint64_t operations = 0;
  [[nodiscard]] bool any() const { return read.count != 0 || write.count != 0 || operations != 0; }
};

/// Has the kernel keep jobs within the site's limits on the node's own disks: io.max of cgroup v2 where the controller
/// is delegated to Slurm's cgroups, else blkio.throttle of v1, in a cgroup of Atlas's own, as Slurm makes none there.
/// What a job has is not changed by a restart. Failures are warnings: they cost a limit, never a job. Calls read and
/// write files of the kernel's, which do not block on disks. Not thread-safe.
class DiskLimits {
 public:
  struct Options {
    std::string node;
    DiskRates rates;
    std::vector<std::string> directories;  ///< whose disks count
  };
  explicit DiskLimits(Options options);

  /// Keeps a job within the limits; to be called again for processes that are new.
  void keep(std::uint32_t job_id, const JobCgroup& job);
  /// The job is over: no limit is left behind, nor a cgroup of Atlas's as soon as it is empty.
  void release(std::uint32_t job_id, const JobCgroup& job);
  /// Does what is left of releases, for jobs that are none of `jobs`, and of an earlier agent that was told of limits.
  void tidy(const std::map<std::uint32_t, JobCgroup>& jobs);
  /// A job came of which Slurm has no cgroup.
  void no_cgroup(std::uint32_t job_id);
  /// The file in which the kernel counts the job's reads of each disk: of the cgroup by which it is held, or of v2
  /// where the site counts it anyway. "" if there is none.
  [[nodiscard]] std::string counted_in(std::uint32_t job_id, const JobCgroup& job) const;
  /// What of the configuration cannot be done here, a sentence each.
  [[nodiscard]] std::vector<std::string> warnings() const;

 private:
  void find_disks();
  void move(pid_t pid, std::uint32_t job_id, const std::string& group) const;
  [[nodiscard]] std::string own_groups() const;
  [[nodiscard]] std::string own_group(std::uint32_t job_id) const;
  void lift(std::uint32_t job_id, const JobCgroup& job) const;
  [[nodiscard]] Status set_v2(const JobCgroup& job) const;
  [[nodiscard]] Status set_v1(const std::string& group) const;

  const Options options_;
  std::vector<Mount> mounts_;       ///< when disks were looked for last
  std::vector<std::string> disks_;  ///< "MAJOR:MINOR"
  std::vector<std::string> no_disk_;
  std::map<std::uint32_t, std::string> kept_;  ///< jobs within limits; by v1: Atlas's own cgroup
  std::map<std::uint32_t, int> later_;         ///< looks until a job is tried again where it could not be set
  std::string trouble_;                        ///< of the last job
};

/// "MAJOR:MINOR" of the disk that a path lies on: of the whole disk, as limits are not for partitions. "" if its file
/// system is not on a disk of this node. Does not touch the file system.
[[nodiscard]] std::string disk_of(const std::vector<Mount>& mounts, std::string_view path);

}  // namespace atlas::agent
