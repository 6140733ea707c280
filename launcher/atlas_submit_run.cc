#include "launcher/atlas_submit_run.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>

#include "common/unique_fd.h"

namespace atlas {
namespace {

constexpr const char* kSbatch = "sbatch";

/// A script that was read from standard input, as a file to read again.
Result<UniqueFd> as_file(std::string_view text) {
  UniqueFd fd(::memfd_create("atlas-submit-script", MFD_CLOEXEC));
  if (!fd) return fail_errno(errno, "cannot hold the script from standard input");
  while (!text.empty()) {
    const auto written = ::write(fd.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail_errno(errno, "cannot hold the script from standard input");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return fail_errno(errno, "cannot hold the script from standard input");
  return fd;
}

std::vector<char*> argv_of(const std::vector<std::string>& arguments) {
  std::vector<char*> out{const_cast<char*>(kSbatch)};
  for (const auto& argument : arguments) out.push_back(const_cast<char*>(argument.c_str()));
  out.push_back(nullptr);
  return out;
}

Error cannot_start(int err) {
  if (err == ENOENT) return {Code::not_found, "sbatch is not in PATH: is this a submit host of the cluster?", err};
  return fail_errno(err, "cannot run sbatch").value();
}

}  // namespace

Error exec_sbatch(const SubmitPlan& plan) {
  UniqueFd script;
  if (plan.stdin_script) {
    auto file = as_file(*plan.stdin_script);
    if (!file) return std::move(file).error();
    script = std::move(*file);
    if (::dup2(script.get(), STDIN_FILENO) < 0) return fail_errno(errno, "cannot hand the script to sbatch").value();
  }
  auto argv = argv_of(plan.sbatch);
  ::execvp(kSbatch, argv.data());
  return cannot_start(errno);
}

Result<int> run_sbatch(const SubmitPlan& plan, const std::function<void(std::string_view)>& on_line) {
  UniqueFd script;
  if (plan.stdin_script) {
    ATLAS_ASSIGN(script, as_file(*plan.stdin_script));
  }
  std::array<int, 2> out{}, failure{};
  if (::pipe2(out.data(), O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
  UniqueFd out_read(out[0]), out_write(out[1]);
  if (::pipe2(failure.data(), O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
  UniqueFd failure_read(failure[0]), failure_write(failure[1]);
  auto argv = argv_of(plan.sbatch);
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "cannot start sbatch");
  if (child == 0) {
    if (script) ::dup2(script.get(), STDIN_FILENO);
    ::dup2(out_write.get(), STDOUT_FILENO);
    ::execvp(kSbatch, argv.data());
    const int err = errno;
    static_cast<void>(!::write(failure_write.get(), &err, sizeof err));
    ::_exit(127);
  }
  out_write.reset();
  failure_write.reset();
  std::string pending;
  std::array<char, 4096> buffer{};
  while (true) {
    const auto got = ::read(out_read.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    pending.append(buffer.data(), static_cast<std::size_t>(got));
    for (auto end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
      on_line(std::string_view(pending).substr(0, end));
      pending.erase(0, end + 1);
    }
  }
  if (!pending.empty()) on_line(pending);
  int err = 0;
  const bool started = ::read(failure_read.get(), &err, sizeof err) != sizeof err;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!started) return fail(cannot_start(err));
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::optional<std::uint32_t> job_id_in(std::string_view line) {
  static constexpr std::string_view kSubmitted = "Submitted batch job ";
  const auto at = line.find(kSubmitted);
  if (at != std::string_view::npos) line.remove_prefix(at + kSubmitted.size());
  std::uint32_t id = 0;
  const auto [end, ec] = std::from_chars(line.data(), line.data() + line.size(), id);
  const bool ends_well = end == line.data() + line.size() || *end == ';' || *end == ' ';
  if (ec != std::errc() || id == 0 || !ends_well) return std::nullopt;
  return id;
}

}  // namespace atlas
