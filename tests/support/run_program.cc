#include "tests/support/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "common/unique_fd.h"

namespace atlas::test {
namespace {

constexpr std::chrono::seconds kLimit{60};

/// Both ends of what a child writes to.
struct Output {
  UniqueFd parent, child;
};
Output make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::abort();
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}
Output make_terminal() {
  int parent = -1, child = -1;
  winsize size{};
  size.ws_col = 100;
  size.ws_row = 25;
  if (::openpty(&parent, &child, nullptr, nullptr, &size) != 0) std::abort();
  ::fcntl(parent, F_SETFD, FD_CLOEXEC);
  return {UniqueFd(parent), UniqueFd(child)};
}

[[noreturn]] void become(const std::vector<std::string>& argv, const RunOptions& options, int in, int out, int err) {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(err, 2);
  for (const auto& [name, value] : options.environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> words;
  for (const auto& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  ::_exit(127);
}

/// Appends what is there; false at the end.
bool take(int fd, std::string& to) {
  std::array<char, 4096> buffer{};
  const auto got = ::read(fd, buffer.data(), buffer.size());
  if (got < 0 && errno == EINTR) return true;
  if (got <= 0) return false;  // a terminal whose last user has gone answers EIO
  to.append(buffer.data(), static_cast<std::size_t>(got));
  return true;
}

}  // namespace

Ran run_program(const std::vector<std::string>& argv, const RunOptions& options) {
  Output out = options.terminal ? make_terminal() : make_pipe();
  Output err = make_pipe();
  char name[] = "/tmp/atlas-test-input-XXXXXX";
  const UniqueFd in(::mkstemp(name));
  ::unlink(name);
  if (::write(in.get(), options.input.data(), options.input.size()) < 0 || ::lseek(in.get(), 0, SEEK_SET) != 0)
    std::abort();
  const pid_t pid = ::fork();
  if (pid < 0) std::abort();
  if (pid == 0)
    become(argv, options, options.type ? out.child.get() : in.get(), out.child.get(),
           options.terminal ? out.child.get() : err.child.get());
  out.child.reset();
  err.child.reset();
  Ran ran;
  const auto end = std::chrono::steady_clock::now() + kLimit;
  while (out.parent || err.parent) {
    std::array<pollfd, 2> fds{{{out.parent.get(), POLLIN, 0}, {err.parent.get(), POLLIN, 0}}};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0 || ::poll(fds.data(), fds.size(), static_cast<int>(left.count())) == 0) {
      ::kill(pid, SIGKILL);
      break;
    }
    if (fds[0].revents != 0 && !take(out.parent.get(), ran.out)) out.parent.reset();
    if (fds[1].revents != 0 && !take(err.parent.get(), ran.err)) err.parent.reset();
    if (options.on_output) options.on_output(ran, pid);
    const std::string typed = options.type && out.parent ? options.type(ran) : "";
    if (!typed.empty() && ::write(out.parent.get(), typed.data(), typed.size()) < 0) std::abort();
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  ran.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return ran;
}

}  // namespace atlas::test
