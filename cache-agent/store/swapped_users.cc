#include "cache-agent/store/swapped_users.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>

namespace atlas::agent {
namespace {

constexpr std::uint64_t kEnd = 0xffffffffU;  // the last number is nobody's

std::string line(std::uint64_t inside, std::uint64_t outside, std::uint64_t count) {
  if (count == 0) return "";
  return std::to_string(inside) + " " + std::to_string(outside) + " " + std::to_string(count) + "\n";
}

Status write_map(const std::string& file, const std::string& text) {
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, file);
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return fail_errno(errno, file);
  return {};
}

/// A process that does nothing until it is killed. Made by the bare system call: it shares no lock and runs no handler
/// of this one.
pid_t sleeper_in_new_namespace() {
  clone_args args{};
  args.flags = CLONE_NEWUSER;
  args.exit_signal = SIGCHLD;
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof args));
  if (pid != 0) return pid;
  ::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  for (;;) ::syscall(SYS_pause);
}

}  // namespace

Result<UniqueFd> swapped_users(uid_t one, uid_t other) {
  const std::uint64_t low = std::min(one, other), high = std::max(one, other);
  if (low == high || high >= kEnd) return fail(Code::invalid_argument, "two users are needed to show one as the other");
  const pid_t pid = sleeper_in_new_namespace();
  if (pid < 0) return fail_errno(errno, "cannot make a user namespace");
  const std::string proc = "/proc/" + std::to_string(pid);
  Status made =
      write_map(proc + "/uid_map", line(0, 0, low) + line(low, high, 1) + line(low + 1, low + 1, high - low - 1) +
                                       line(high, low, 1) + line(high + 1, high + 1, kEnd - high - 1));
  if (made) made = write_map(proc + "/gid_map", line(0, 0, kEnd));
  UniqueFd fd;
  if (made) fd = UniqueFd(::open((proc + "/ns/user").c_str(), O_RDONLY | O_CLOEXEC));
  const int err = errno;
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!made) return fail(made.error());
  if (!fd) return fail_errno(err, proc + "/ns/user");
  return fd;
}

}  // namespace atlas::agent
