#include "common/job_tree.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "common/percent.h"

namespace atlas {
namespace {

constexpr std::size_t kLongestName = 240;  ///< leaves room for the suffix
/// Links and lock files only; pages that a user fills are charged to his job.
constexpr const char* kSize = "64m";
constexpr const char* kInodes = "10000";

std::string last_component(std::string_view path) {
  while (path.ends_with('/')) path.remove_suffix(1);
  const auto slash = path.rfind('/');
  std::string name(slash == std::string_view::npos ? path : path.substr(slash + 1));
  if (name.empty() || name == "." || name == "..") return "root";
  return name.substr(0, kLongestName);
}

/// Whether the request is of these datasets: each path it names stands at its place.
bool fits(std::span<const std::string> requested, std::span<const std::string> paths) {
  return std::equal(requested.begin(), requested.end(), paths.begin(), paths.end(),
                    [](const auto& asked, const auto& path) { return !asked.starts_with('/') || asked == path; });
}

/// Passable for all, whatever mask the job's user has set.
Status make_directory(const std::string& directory) {
  const mode_t before = ::umask(0022);
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  ::umask(before);
  if (error) return fail_errno(error.value(), directory);
  return {};
}

/// The file system that is made anew, still detached.
Result<UniqueFd> new_tmpfs() {
  const UniqueFd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context) return fail_errno(errno, "fsopen tmpfs");
  const std::pair<const char*, const char*> options[] = {
      {"source", "atlas"}, {"mode", "0755"}, {"size", kSize}, {"nr_inodes", kInodes}};
  for (const auto& [key, value] : options)
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0) != 0) return fail_errno(errno, key);
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return fail_errno(errno, "tmpfs");
  UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  if (!mount) return fail_errno(errno, "fsmount tmpfs");
  return mount;
}

/// A clone of what is mounted or lies at `fd`, which must be of this mount namespace.
Result<UniqueFd> clone_of(int fd) {
  UniqueFd copy(::open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE));
  if (!copy) return fail_errno(errno, "open_tree");
  return copy;
}

}  // namespace

std::string job_tree_path(const Config& config, std::string_view node) {
  return expand_node(config.agent.run_dir, node) + "/job";
}

std::vector<std::string> job_tree_names(std::span<const std::string> requested, std::span<const std::string> paths) {
  const bool claims = fits(requested, paths);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < paths.size(); ++i) names.push_back(last_component(claims ? requested[i] : paths[i]));
  const std::set<std::string> wanted(names.begin(), names.end());
  std::set<std::string> taken;
  for (auto& name : names) {
    const std::string base = name;
    // A suffix must not take what another one is called by itself.
    for (int n = 2; taken.contains(name) || (name != base && wanted.contains(name)); ++n)
      name = base + "-" + std::to_string(n);
    taken.insert(name);
  }
  return names;
}

Result<JobTree> JobTree::make(std::string directory) {
  ATLAS_TRY(make_directory(directory));
  ATLAS_ASSIGN(auto root, new_tmpfs());
  if (::move_mount(root.get(), "", AT_FDCWD, directory.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return fail_errno(errno, "mount " + directory);
  return JobTree(std::move(directory), std::move(root));
}

Status JobTree::bind(const std::string& name, int mount) {
  ATLAS_ASSIGN(const auto copy, clone_of(mount));
  return take(name, copy.get());
}

Status JobTree::take(const std::string& name, int mount) {
  struct stat info {};
  if (::fstat(mount, &info) != 0) return fail_errno(errno, name);
  if (S_ISDIR(info.st_mode) ? ::mkdirat(root_.get(), name.c_str(), 0755) != 0
                            : ::mknodat(root_.get(), name.c_str(), S_IFREG | 0444, 0) != 0)
    return fail_errno(errno, directory_ + "/" + name);
  if (::move_mount(mount, "", root_.get(), name.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0) return {};
  const int err = errno;
  ::unlinkat(root_.get(), name.c_str(), S_ISDIR(info.st_mode) ? AT_REMOVEDIR : 0);
  return fail_errno(err, "mount " + directory_ + "/" + name);
}

Status JobTree::link(const std::string& name, const std::string& target) {
  if (::symlinkat(target.c_str(), root_.get(), name.c_str()) != 0) return fail_errno(errno, directory_ + "/" + name);
  return {};
}

Status JobTree::cover(int file) {
  // Named for a moment, as no dataset can be: only what has a name and lies in an attached mount can be mounted.
  const std::string name(255, 'n');
  const UniqueFd scratch(::openat(root_.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!scratch) return fail_errno(errno, directory_);
  Status done;
  if (::fchmod(scratch.get(), 0666) != 0) {
    done = fail_errno(errno, directory_);
  } else if (auto copy = clone_of(scratch.get()); !copy) {
    done = fail(copy.error());
  } else if (::move_mount(copy->get(), "", file, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    done = fail_errno(errno, "mount over a file");
  }
  ::unlinkat(root_.get(), name.c_str(), 0);
  return done;
}

Status JobTree::seal() {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (::mount_setattr(root_.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
    return fail_errno(errno, directory_);
  return {};
}

bool has_job_tree(const std::string& directory) {
  struct stat own {};
  struct stat above {};
  return ::stat(directory.c_str(), &own) == 0 && ::stat((directory + "/..").c_str(), &above) == 0 &&
         own.st_dev != above.st_dev;
}

Status make_tree_of_links(const std::string& directory, std::span<const std::string> requested,
                          std::string_view cache_state) {
  std::vector<std::string> paths;
  while (!cache_state.empty()) {
    const auto entry = cache_state.substr(0, cache_state.find(':'));
    cache_state.remove_prefix(std::min(cache_state.size(), entry.size() + 1));
    ATLAS_ASSIGN(auto path, percent_decode(entry.substr(0, entry.find('='))));
    paths.push_back(std::move(path));
  }
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno(errno, "cannot make a mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return fail_errno(errno, "cannot make the mounts of the task's namespace private");
  ATLAS_ASSIGN(auto tree, JobTree::make(directory));
  const auto names = job_tree_names(requested, paths);
  for (std::size_t i = 0; i < paths.size(); ++i)
    if (paths[i].starts_with('/')) ATLAS_TRY(tree.link(names[i], paths[i]));  // of a name nobody knows where it lies
  return tree.seal();
}

}  // namespace atlas
