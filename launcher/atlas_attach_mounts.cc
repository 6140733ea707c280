#include "launcher/atlas_attach_mounts.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <numeric>
#include <set>
#include <sstream>

#include "common/child.h"
#include "common/mount_id.h"
#include "launcher/atlas_attach_cgroup.h"

namespace atlas::launcher {
namespace {

/// Looks at files as the user from here on, for good: the user's ids for the file system, and no capability left that
/// could override a mode. The real uid stays root's, so the user cannot signal or trace the process.
Status become(const Principal& as) {
  const std::vector<gid_t> groups(as.groups.begin(), as.groups.end());
  if (::syscall(SYS_setgroups, groups.size(), groups.data()) != 0) return fail_errno(errno, "setgroups");
  ::setfsgid(as.gid);
  ::setfsuid(as.uid);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const std::array<__user_cap_data_struct, 2> none{};
  if (::syscall(SYS_capset, &header, none.data()) != 0) return fail_errno(errno, "capset");
  // The calls above report nothing; asking for an id that cannot be set returns the one in force.
  if (static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1))) != as.uid ||
      static_cast<gid_t>(::setfsgid(static_cast<gid_t>(-1))) != as.gid)
    return fail(Code::internal, "cannot act as uid " + std::to_string(as.uid));
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of ids takes it back
  return {};
}

UniqueFd open_below(int directory, const std::string& path, std::uint64_t flags) {
  open_how how{};
  how.flags = flags | O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how)));
}

/// The dataset's root as the user finds it.
Result<UniqueFd> open_root(const PlannedMount& planned, const Principal& as) {
  ATLAS_TRY(become(as));
  // The dot makes the origin's root an inner component, so that an automounted origin gets mounted.
  const UniqueFd origin(::open((planned.origin_root + "/.").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!origin) return fail_errno(errno, "the origin's root");
  UniqueFd root = open_below(origin.get(), planned.dataset.path.empty() ? "." : planned.dataset.path, 0);
  if (!root) return fail_errno(errno, "the dataset's path");
  return root;
}

/// As the user: his rights on the replica's root must not exceed those on the origin's, which may have changed since it
/// was cached. Nothing above the root or in it is looked at here: the path walk has seen the one, a new generation
/// shows the other.
Status check_rights(const UniqueFd& root, const UniqueFd& replica) {
  struct stat now {};
  struct stat cached {};
  if (::fstat(root.get(), &now) != 0 || ::fstat(replica.get(), &cached) != 0)
    return fail_errno(errno, "the dataset's root");
  if ((now.st_mode & S_IFMT) != (cached.st_mode & S_IFMT)) return {};  // mounting will fail and say so
  if (now.st_mode != cached.st_mode || now.st_uid != cached.st_uid || now.st_gid != cached.st_gid)
    return fail(Code::failed_precondition, "its owner or mode at the origin has changed since it was cached");
  for (const int right : {R_OK, X_OK}) {  // an ACL gives other rights than the mode shows
    if (::faccessat(replica.get(), "", right, AT_EMPTY_PATH | AT_EACCESS) == 0 &&
        ::faccessat(root.get(), "", right, AT_EMPTY_PATH | AT_EACCESS) != 0)
      return fail_errno(errno, "the dataset's root");
  }
  return {};
}

std::string explain(int err, const std::string& fallback) {
  switch (err) {
    case EACCES:
    case EPERM:
      return "permission denied: the user may not reach it at the origin";
    case ENOENT:
    case ENOTDIR:
      return "it is no longer at its place at the origin";
    case ELOOP:
    case EXDEV:
      return "its path at the origin now holds a symbolic link";
    default:
      return fallback;
  }
}

ChildLimits limits_of(const Patience& patience, int keep = -1) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(patience.deadline - std::chrono::steady_clock::now());
  return {std::clamp(left, std::chrono::milliseconds(0), patience.silence), keep, leave_job};
}

/// What the user finds at the origin: the dataset's root, and after it its windows, each with the number of its path.
struct Found {
  UniqueFd root;
  std::vector<std::pair<std::size_t, UniqueFd>> windows;
};

Packet look_for(const PlannedMount& planned, const Principal& as) {
  auto root = open_root(planned, as);
  if (root && !planned.granted) {
    if (auto rights = check_rights(*root, planned.mount); !rights) root = tl::unexpected(rights.error());
  }
  if (!root) return {"e" + std::to_string(root.error().sys_errno) + " " + root.error().message, {}};
  Packet found{"o", {}};
  for (std::size_t i = 0; i < planned.windows.size(); ++i) {
    auto window = open_below(root->get(), planned.windows[i], O_DIRECTORY);
    if (!window || ::faccessat(window.get(), "", X_OK, AT_EMPTY_PATH | AT_EACCESS) != 0) continue;
    found.bytes += std::to_string(i) + " ";
    found.fds.push_back(std::move(window));
  }
  found.fds.insert(found.fds.begin(), std::move(*root));
  return found;
}

/// The descriptors from a child, or the reason why there are none.
Result<Found> find_root(const PlannedMount& planned, const Principal& as, const Patience& patience) {
  auto packet = run_in_child([&] { return look_for(planned, as); }, limits_of(patience, planned.mount.get()));
  if (!packet) {
    if (packet.error().code == Code::deadline_exceeded)
      return fail(Code::deadline_exceeded, "its origin did not answer within " + format_duration(patience.silence));
    return fail(packet.error());
  }
  if (!packet->fds.empty()) {
    Found found{std::move(packet->fds.front()), {}};
    std::istringstream numbers(packet->bytes.substr(1));
    std::size_t number = 0;
    for (std::size_t i = 1; i < packet->fds.size() && numbers >> number; ++i)
      found.windows.emplace_back(number, std::move(packet->fds[i]));
    return found;
  }
  const auto space = packet->bytes.find(' ');
  const int err = std::stoi(packet->bytes.substr(1, space - 1));
  return fail(Error{code_of_errno(err), explain(err, packet->bytes.substr(space + 1)), err});
}

/// Lets everybody lock: a file in memory over each lock file, shared by the job's processes on this node. One that is
/// not there (any more) is passed over. Looked up in a child: a partial view is a file system that may hang, too.
void cover_lock_files(const PlannedMount& planned, const Patience& patience, JobTree& tree) {
  for (std::size_t begin = 0; begin < planned.lock_files.size(); begin += kMaxPacketFds) {
    const auto end = std::min(planned.lock_files.size(), begin + kMaxPacketFds);
    auto found = run_in_child(
        [&] {
          Packet packet{"o", {}};
          for (std::size_t i = begin; i < end; ++i) {
            open_how how{};
            how.flags = O_PATH | O_CLOEXEC;
            how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
            UniqueFd file(static_cast<int>(
                ::syscall(SYS_openat2, planned.mount.get(), planned.lock_files[i].c_str(), &how, sizeof how)));
            if (file) packet.fds.push_back(std::move(file));
          }
          return packet;
        },
        limits_of(patience, planned.mount.get()));
    if (!found) return;
    for (const auto& file : found->fds) static_cast<void>(tree.cover(file.get()));
  }
}

/// Shows directories of the origin at their places in the view, which is looked into by a child: it may hang, too. One
/// that has no place, or cannot be shown, stays empty.
void open_windows(const PlannedMount& planned, const std::vector<std::pair<std::size_t, UniqueFd>>& windows,
                  const Patience& patience) {
  if (windows.empty()) return;
  auto places = run_in_child(
      [&] {
        Packet packet{"o", {}};
        for (const auto& [number, window] : windows) {
          auto place = open_below(planned.mount.get(), planned.windows.at(number), O_DIRECTORY);
          if (!place) place = open_below(planned.mount.get(), ".", 0);  // keeps the count; nothing is mounted on it
          packet.fds.push_back(std::move(place));
        }
        return packet;
      },
      limits_of(patience, planned.mount.get()));
  if (!places || places->fds.size() != windows.size()) return;
  struct stat root {};
  ::fstat(planned.mount.get(), &root);
  for (std::size_t i = 0; i < windows.size(); ++i) {
    struct stat place {};
    if (!windows[i].second || ::fstat(places->fds[i].get(), &place) != 0 || place.st_ino == root.st_ino) continue;
    ::move_mount(windows[i].second.get(), "", places->fds[i].get(), "",
                 MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  }
}

MountOutcome attach(const PlannedMount& planned, const Principal& as, const Patience& patience,
                    std::set<std::string>& silent_origins) {
  if (!planned.mount) return {};
  if (silent_origins.contains(planned.dataset.origin)) return {false, false, "its origin does not answer"};
  const auto found = find_root(planned, as, patience);
  if (!found) {
    if (found.error().code == Code::deadline_exceeded) silent_origins.insert(planned.dataset.origin);
    return {false, false, found.error().message};
  }
  // Taken before the mount covers them.
  std::vector<std::pair<std::size_t, UniqueFd>> windows;
  for (const auto& [number, window] : found->windows)
    windows.emplace_back(number,
                         UniqueFd(::open_tree(window.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)));
  if (::move_mount(planned.mount.get(), "", found->root.get(), "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) !=
      0) {
    const int err = errno;
    if (err == ENOTDIR || err == EINVAL)
      return {false, false, "it is of another type (file, directory) at the origin now"};
    return {false, false, Error(fail_errno(err, "mount").value()).message};
  }
  open_windows(planned, windows, patience);
  return {true, false, ""};
}

/// Each CPU numbers namespaces from a range of its own, so on another one the id may be the larger one. Tries those the
/// task is not bound to as well: only its cpuset counts. Best effort.
void climb_above(std::uint64_t above) {
  cpu_set_t before;
  if (::sched_getaffinity(0, sizeof before, &before) != 0) return;
  const auto cpus = static_cast<std::size_t>(std::clamp(::get_nprocs_conf(), 1, CPU_SETSIZE));
  for (std::size_t cpu = 0; cpu < cpus && own_mount_namespace_id() <= above; ++cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (::sched_setaffinity(0, sizeof one, &one) == 0 && ::unshare(CLONE_NEWNS) != 0) break;
  }
  ::sched_setaffinity(0, sizeof before, &before);
}

}  // namespace

std::string full_path(const PlannedMount& planned) {
  return planned.dataset.path.empty() ? planned.origin_root : planned.origin_root + "/" + planned.dataset.path;
}

Status enter_private_namespace(std::uint64_t above) {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno(errno, "cannot make a mount namespace");
  if (own_mount_namespace_id() <= above && above != 0) climb_above(above);
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    return fail_errno(errno, "cannot make the mounts of the job's namespace private");
  return {};
}

std::vector<MountOutcome> attach_mounts(const std::vector<PlannedMount>& mounts, const Principal& as,
                                        const Patience& patience, JobTree* tree) {
  // A dataset inside another goes on top of it.
  std::vector<std::size_t> order(mounts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return full_path(mounts[a]) < full_path(mounts[b]); });
  std::vector<MountOutcome> outcomes(mounts.size());
  std::set<std::string> silent_origins;
  for (const std::size_t i : order) {
    outcomes[i] = attach(mounts[i], as, patience, silent_origins);
    if (tree == nullptr) continue;
    const bool silent = silent_origins.contains(mounts[i].dataset.origin) && mounts[i].mount;
    if (!outcomes[i].mounted && silent && mounts[i].seen_lately && tree->take(mounts[i].name, mounts[i].mount.get())) {
      outcomes[i].in_tree = true;
      outcomes[i].reason += "; $ATLAS_ROOT/" + mounts[i].name + " has it from this node all the same";
      continue;
    }
    if (outcomes[i].mounted) cover_lock_files(mounts[i], patience, *tree);
    // What cannot be mounted twice is found by its path.
    if (!outcomes[i].mounted || !tree->bind(mounts[i].name, mounts[i].mount.get()))
      static_cast<void>(tree->link(mounts[i].name, full_path(mounts[i])));
  }
  if (tree != nullptr) static_cast<void>(tree->seal());
  return outcomes;
}

bool can_enter(const std::string& directory, const Principal& as, const Patience& patience) {
  const auto packet = run_in_child(
      [&] {
        const bool entered = become(as) && ::chdir(directory.c_str()) == 0;
        return Packet{entered ? "y" : "n", {}};
      },
      limits_of(patience));
  return packet && packet->bytes == "y";
}

}  // namespace atlas::launcher
