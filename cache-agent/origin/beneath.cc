#include "cache-agent/origin/beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "common/percent.h"

namespace atlas::agent {
namespace {

constexpr std::size_t kLongest = 3800;  // PATH_MAX less room for the last name of a segment
constexpr int kAttempts = 64;           // of a lookup that a concurrent rename disturbs (EAGAIN)

int open_segment(int at, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(static_cast<unsigned>(flags | O_CLOEXEC | O_NOFOLLOW));
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  long fd = -1;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    fd = syscall(SYS_openat2, at, path.c_str(), &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
  }
  return static_cast<int>(fd);
}

}  // namespace

Result<UniqueFd> open_beneath(int root, std::string_view path, int flags) {
  const std::string_view whole = path;
  UniqueFd base;
  while (path.size() > kLongest) {
    const std::size_t slash = path.rfind('/', kLongest);
    if (slash == std::string_view::npos || slash == 0) return fail_errno(ENAMETOOLONG, printable(whole));
    base = UniqueFd(open_segment(base ? base.get() : root, std::string(path.substr(0, slash)), O_PATH | O_DIRECTORY));
    if (!base) return fail_errno(errno, printable(whole));
    path.remove_prefix(slash + 1);
  }
  UniqueFd fd(open_segment(base ? base.get() : root, path.empty() ? "." : std::string(path), flags));
  if (!fd) return fail_errno(errno, printable(whole));
  return fd;
}

}  // namespace atlas::agent
