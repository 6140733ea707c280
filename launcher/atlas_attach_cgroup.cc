#include "launcher/atlas_attach_cgroup.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/cgroups.h"
#include "common/note.h"
#include "common/unique_fd.h"

namespace atlas::launcher {

std::vector<std::string> ways_out_of_job(std::string_view cgroups, std::string_view mountinfo) {
  std::vector<std::string> out;
  for (const auto& cgroup : cgroups_of(cgroups, parse_mounts(mountinfo)))
    if (cgroup.path.find("/job_") != std::string::npos) out.push_back(cgroup.hierarchy + "/cgroup.procs");
  return out;
}

void leave_job(pid_t stuck) {
  const std::string pid = std::to_string(stuck);
  for (const auto& file : ways_out_of_job(read_note("/proc/" + pid + "/cgroup"), read_note("/proc/self/mountinfo"))) {
    const UniqueFd procs(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
    if (procs) [[maybe_unused]]
      const auto written = ::write(procs.get(), pid.data(), pid.size());
  }
}

}  // namespace atlas::launcher
