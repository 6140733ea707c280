#pragma once
#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace atlas::launcher {

/// The cgroup.procs files of the roots of those hierarchies in which a process is in a cgroup of a Slurm job, from its
/// /proc/PID/cgroup and a mountinfo.
[[nodiscard]] std::vector<std::string> ways_out_of_job(std::string_view cgroups, std::string_view mountinfo);

/// Takes a process out of its job's cgroups. For a child that is stuck in the kernel beyond SIGKILL: Slurm would wait
/// for it at the job's end, and drain the node after UnkillableStepTimeout. Best effort.
void leave_job(pid_t stuck);

}  // namespace atlas::launcher
