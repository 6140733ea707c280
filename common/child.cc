#include "common/child.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace atlas {
namespace {

/// Closes everything but two descriptors.
void close_all_but(int a, int b) {
  const auto low = static_cast<unsigned>(std::max(0, std::min(a, b)));
  const auto high = static_cast<unsigned>(std::max(a, b));
  const bool both = a >= 0 && b >= 0 && a != b;
  const auto close_range = [](unsigned from, unsigned to) { ::syscall(SYS_close_range, from, to, 0U); };
  if (both && low > 0) close_range(0, low - 1);
  if (both && high > low + 1) close_range(low + 1, high - 1);
  if (!both && high > 0) close_range(0, high - 1);
  close_range(high + 1, std::numeric_limits<unsigned>::max());
}

[[noreturn]] void child_main(const std::function<Packet()>& work, int socket, int keep) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGALRM}) ::signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  close_all_but(socket, keep);
  int code = 1;
  try {
    const Packet answer = work();
    if (send_packet(socket, answer.bytes, answer.fds)) code = 0;
  } catch (...) {  // nothing can be told but by the missing packet
  }
  ::_exit(code);
}

}  // namespace

ChildProcess::~ChildProcess() {
  if (pid_ <= 0) return;
  if (::waitpid(pid_, nullptr, WNOHANG) != 0) return;  // ended, or reaped by a handler of the host program
  const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0U)));
  ::kill(pid_, SIGKILL);
  pollfd wait{handle.get(), POLLIN, 0};
  if (handle) ::poll(&wait, 1, static_cast<int>(kPatience.count()));
  if (::waitpid(pid_, nullptr, WNOHANG) == 0 && when_stuck_) when_stuck_(pid_);
}

Result<Packet> run_in_child(const std::function<Packet()>& work, const ChildLimits& limits) {
  const auto deadline = std::chrono::steady_clock::now() + limits.limit;
  ATLAS_ASSIGN(auto pair, make_socket_pair());
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno(errno, "fork");
  if (pid == 0) child_main(work, pair.theirs.get(), limits.keep);
  const ChildProcess child(pid, limits.when_stuck);
  pair.theirs.reset();
  auto answer = receive_packet(pair.ours.get(), deadline);
  if (!answer && answer.error().code == Code::cancelled) return fail(Code::internal, "a child process died");
  return answer;
}

}  // namespace atlas
