#include "launcher/atlas_attach_cgroup.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "common/unique_fd.h"

namespace atlas::launcher {
namespace {

struct CgroupMount {
  std::string point, type, options;
};

/// "31 23 0:28 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer"
std::vector<CgroupMount> cgroup_mounts(std::string_view mountinfo) {
  std::vector<CgroupMount> found;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    CgroupMount mount;
    std::string skip;
    left >> skip >> skip >> skip >> skip >> mount.point;
    right >> mount.type >> skip >> mount.options;
    if (mount.type == "cgroup" || mount.type == "cgroup2") found.push_back(std::move(mount));
  }
  return found;
}

/// Whether the mount is that of a line "6:cpu,cpuacct:/path" of /proc/PID/cgroup; "0::/path" is cgroup v2.
bool shows(const CgroupMount& mount, std::string_view controllers) {
  if (controllers.empty()) return mount.type == "cgroup2";
  const std::string first(controllers.substr(0, controllers.find(',')));
  return mount.type == "cgroup" && ("," + mount.options + ",").find("," + first + ",") != std::string::npos;
}

std::string contents(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

std::vector<std::string> ways_out_of_job(std::string_view cgroups, std::string_view mountinfo) {
  std::vector<std::string> out;
  const auto mounts = cgroup_mounts(mountinfo);
  std::istringstream lines{std::string(cgroups)};
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos || line.find("/job_", second) == std::string::npos) continue;
    for (const auto& mount : mounts) {
      if (!shows(mount, std::string_view(line).substr(first + 1, second - first - 1))) continue;
      out.push_back(mount.point + "/cgroup.procs");
      break;
    }
  }
  return out;
}

void leave_job(pid_t stuck) {
  const std::string pid = std::to_string(stuck);
  for (const auto& file : ways_out_of_job(contents("/proc/" + pid + "/cgroup"), contents("/proc/self/mountinfo"))) {
    const UniqueFd procs(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
    if (procs) [[maybe_unused]]
      const auto written = ::write(procs.get(), pid.data(), pid.size());
  }
}

}  // namespace atlas::launcher
