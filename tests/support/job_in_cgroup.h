#pragma once
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace atlas::testing {

/// A cgroup like those that Slurm makes for a job (of the freezer hierarchy, or of v2), with processes in it that do as
/// they are told. All of it is gone with the object.
class JobInCgroup {
 public:
  /// `hierarchy`: where one is mounted.
  JobInCgroup(const std::filesystem::path& hierarchy, unsigned job_id)
      : top_(hierarchy / ("atlas_test_" + std::to_string(::getpid()))), job_(top_ / ("job_" + std::to_string(job_id))) {
    std::filesystem::create_directories(job_ / "step_0");
  }
  ~JobInCgroup() {
    for (const auto& [child, pipe] : pipes_) ::close(pipe);
    for (const auto child : children_) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    for (const auto& directory : {job_ / "step_0", job_, top_}) ::rmdir(directory.c_str());
  }
  JobInCgroup(const JobInCgroup&) = delete;
  JobInCgroup& operator=(const JobInCgroup&) = delete;

  /// A process of the job, that waits to be told with what() what to do; what that returns is finish()'s.
  pid_t spawn(const std::function<int()>& what) {
    int go[2];
    if (::pipe2(go, O_CLOEXEC) != 0) std::abort();
    const pid_t child = ::fork();
    if (child == 0) {
      std::ofstream(job_ / "step_0/cgroup.procs") << ::getpid() << std::flush;
      ::close(go[1]);
      for (const auto& [other, pipe] : pipes_) ::close(pipe);
      char token = 0;
      if (::read(go[0], &token, 1) != 1) ::_exit(99);
      const int result = what();
      char end = 0;
      while (::read(go[0], &end, 1) > 0) {
      }  // stays, with its counters, until it is told to end
      ::_exit(result);
    }
    ::close(go[0]);
    children_.push_back(child);
    pipes_[child] = go[1];
    return child;
  }
  void go(pid_t child) {
    const char token = 'g';
    if (::write(pipes_.at(child), &token, 1) != 1) std::abort();
  }
  /// What it returned; waits for its end.
  int finish(pid_t child) {
    ::close(pipes_.at(child));
    pipes_.erase(child);
    int status = 0;
    ::waitpid(child, &status, 0);
    std::erase(children_, child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  [[nodiscard]] std::filesystem::path path() const { return job_; }

 private:
  std::filesystem::path top_, job_;
  std::vector<pid_t> children_;
  std::map<pid_t, int> pipes_;
};

/// Reads a file once, past the page cache; 0 if that went well. For a process of a job.
inline int read_directly(const std::string& path) {
  constexpr std::size_t kPiece = 64 * 1024;
  void* buffer = nullptr;
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd < 0 || ::posix_memalign(&buffer, 4096, kPiece) != 0) return 1;
  ssize_t got = 0;
  while ((got = ::read(fd, buffer, kPiece)) > 0) {
  }
  ::close(fd);
  std::free(buffer);
  return got == 0 ? 0 : 2;
}

}  // namespace atlas::testing
