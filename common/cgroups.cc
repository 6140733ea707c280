#include "common/cgroups.h"

#include <sstream>

namespace atlas {
namespace {

/// Whether the mount is that of a line "6:cpu,cpuacct:/path" of /proc/PID/cgroup; "0::/path" is cgroup v2.
bool shows(const Mount& mount, std::string_view controllers) {
  if (controllers.empty()) return mount.type == "cgroup2";
  return mount.type == "cgroup" && has_option(mount.super, controllers.substr(0, controllers.find(',')));
}

}  // namespace

std::vector<Cgroup> cgroups_of(std::string_view proc_cgroup, const std::vector<Mount>& mounts) {
  std::vector<Cgroup> out;
  std::istringstream lines{std::string(proc_cgroup)};
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    Cgroup cgroup{line.substr(first + 1, second - first - 1), "", line.substr(second + 1)};
    for (const auto& mount : mounts) {
      if (!shows(mount, cgroup.controllers)) continue;
      if (mount.root != "/") {  // a part of the hierarchy, as containers see it
        if (!cgroup.path.starts_with(mount.root)) continue;
        cgroup.path.erase(0, mount.root.size());
      }
      cgroup.hierarchy = mount.point;
      out.push_back(std::move(cgroup));
      break;
    }
  }
  return out;
}

std::string v1_hierarchy(const std::vector<Mount>& mounts, std::string_view controller) {
  for (const auto& mount : mounts)
    if (mount.type == "cgroup" && mount.root == "/" && has_option(mount.super, controller)) return mount.point;
  return "";
}

std::vector<Cgroup> job_cgroups(std::vector<Cgroup> cgroups, std::uint32_t job_id) {
  const std::string job = "/job_" + std::to_string(job_id);
  std::erase_if(cgroups, [&](Cgroup& cgroup) {
    const auto at = (cgroup.path + "/").find(job + "/");
    if (at == std::string::npos) return true;
    cgroup.path.resize(at + job.size());
    return false;
  });
  return cgroups;
}

}  // namespace atlas
