#pragma once
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace atlas::testing {

/// Gives the calling thread a mount namespace of its own, out of which no mount propagates and whose root is the
/// thread's own: in a chroot "/" may be no mount point, and whoever entered the namespace would find himself outside
/// the chroot. False, with errno, if that fails. Makes system calls only, so a child of fork may call it.
[[nodiscard]] inline bool own_mounts() {
  if (::unshare(CLONE_NEWNS) != 0) return false;
  const int root = ::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  const int entered = ::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  if (root < 0 || entered < 0 || ::setns(entered, CLONE_NEWNS) != 0) return false;
  char path[PATH_MAX];  // of the chroot, seen from the namespace's own root
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 || ::fchdir(root) != 0 ||
      ::getcwd(path, sizeof path) == nullptr)
    return false;
  ::close(root);
  ::close(entered);
  if (path[1] == '\0') return true;  // "/": no chroot
  return ::mount(path, path, nullptr, MS_BIND | MS_REC, nullptr) == 0 && ::chdir(path) == 0 &&
         ::syscall(SYS_pivot_root, ".", ".") == 0 && ::umount2(".", MNT_DETACH) == 0 && ::chdir("/") == 0;
}

}  // namespace atlas::testing
