#pragma once
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/cgroups.h"

namespace atlas::agent {

/// A job's processes on this node, as Slurm's cgroups know them.
struct JobCgroup {
  std::uint32_t uid = 0, gid = 0;  ///< whom it runs as
  std::string processes;           ///< the job's cgroup in a hierarchy that Slurm keeps
  std::string unified;             ///< the one of cgroup v2, if that is one

  /// All that are in it or below right now.
  [[nodiscard]] std::vector<pid_t> pids() const;
};

/// Where the cgroups of this node's jobs are: learned from the processes that attach, noted for the next agent. Not
/// thread-safe.
class JobCgroups {
 public:
  /// `directory` is for the notes; it ends with the boot. Brings back what an earlier agent knew.
  explicit JobCgroups(std::filesystem::path directory);
  /// A process of the job; true if its cgroup is known now. Slurm makes none with some of its ProctrackTypes.
  bool learn(std::uint32_t job_id, std::uint32_t uid, std::uint32_t gid, pid_t process);
  void forget(std::uint32_t job_id);
  [[nodiscard]] const std::map<std::uint32_t, JobCgroup>& jobs() const { return jobs_; }

 private:
  [[nodiscard]] std::filesystem::path note_of(std::uint32_t job_id) const {
    return directory_ / std::to_string(job_id);
  }

  std::filesystem::path directory_;
  std::map<std::uint32_t, JobCgroup> jobs_;
};

/// The processes of a cgroup and of those below it; none if there is no such directory.
[[nodiscard]] std::vector<pid_t> processes_below(const std::filesystem::path& cgroup);

}  // namespace atlas::agent
