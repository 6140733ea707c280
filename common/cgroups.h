#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/mounts.h"

namespace atlas {

/// A cgroup that a process is in, of one hierarchy that is mounted.
struct Cgroup {
  std::string controllers;  ///< "cpu,cpuacct", "name=systemd"; empty: cgroup v2
  std::string hierarchy;    ///< where its root is mounted
  std::string path;         ///< below that, "/" first

  [[nodiscard]] std::string directory() const { return hierarchy + path; }
};

/// From /proc/PID/cgroup. Hierarchies that are not mounted are left out, and so are cgroups above what is mounted.
[[nodiscard]] std::vector<Cgroup> cgroups_of(std::string_view proc_cgroup, const std::vector<Mount>& mounts);
/// Where a v1 controller is mounted; "" if it is not.
[[nodiscard]] std::string v1_hierarchy(const std::vector<Mount>& mounts, std::string_view controller);
/// Those in which the process is in Slurm's cgroup of this job, as that cgroup: of the job, not of its step or task.
[[nodiscard]] std::vector<Cgroup> job_cgroups(std::vector<Cgroup> cgroups, std::uint32_t job_id);

}  // namespace atlas
