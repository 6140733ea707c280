#include "db/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace atlas {

Result<FileLock> FileLock::take(const std::filesystem::path& lock_file, std::string_view what) {
  UniqueFd fd(::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail_errno(errno, lock_file.string());
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno(errno, "lock " + lock_file.string());
    char pid[32] = {};
    const auto got = ::pread(fd.get(), pid, sizeof pid - 1, 0);
    std::string owner(pid, got > 0 ? static_cast<std::size_t>(got) : 0);
    while (!owner.empty() && owner.back() == '\n') owner.pop_back();
    return fail(Code::failed_precondition,
                std::string(what) + " belongs to a running process" + (owner.empty() ? "" : " (pid " + owner + ")") +
                    ": stop that one first, or give this one a place of its own; lock file " + lock_file.string());
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0)
    return fail_errno(errno, "write " + lock_file.string());
  return FileLock(std::move(fd));
}

}  // namespace atlas
