#include "launcher/ui_bounded.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "common/unique_fd.h"

namespace atlas {
namespace {

[[noreturn]] void child(int out, const std::function<std::string()>& work) {
  std::string text;
  try {
    text = work();
  } catch (...) {
    ::_exit(1);
  }
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto written = ::write(out, rest.data(), rest.size());
    if (written < 0 && errno != EINTR) break;
    if (written > 0) rest.remove_prefix(static_cast<std::size_t>(written));
  }
  ::_exit(0);
}

}  // namespace

Result<std::string> run_bounded(std::chrono::milliseconds limit, const std::function<std::string()>& work) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
  UniqueFd in(ends[0]), out(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno(errno, "cannot start a process");
  if (pid == 0) child(out.get(), work);
  out.reset();
  const auto end = std::chrono::steady_clock::now() + limit;
  std::string text;
  std::array<char, 4096> buffer{};
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd ready{in.get(), POLLIN, 0};
    const int count = left.count() <= 0 ? 0 : ::poll(&ready, 1, static_cast<int>(left.count()));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, WNOHANG);
      return fail(Code::deadline_exceeded, "no answer within " + format_duration(limit));
    }
    const auto got = ::read(in.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return fail(Code::internal, "the check itself failed");
  return text;
}

}  // namespace atlas
