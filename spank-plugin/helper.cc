#include "spank-plugin/helper.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include <cerrno>

#include "common/child.h"

namespace atlas::spank {
namespace {

constexpr int kAnswerFd = 3;

/// posix_spawn's two argument objects; both calls that fill them can only fail for want of memory.
class SpawnSetup {
 public:
  explicit SpawnSetup(int answer) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_adddup2(&actions_, answer, kAnswerFd);
    for (const int fd : {0, 1, 2})
      ::posix_spawn_file_actions_addopen(&actions_, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, kAnswerFd + 1);
    ::posix_spawn_file_actions_addchdir_np(&actions_, "/");
    ::posix_spawnattr_init(&attributes_);
    sigset_t signals;
    sigemptyset(&signals);
    ::posix_spawnattr_setsigmask(&attributes_, &signals);
    sigfillset(&signals);
    ::posix_spawnattr_setsigdefault(&attributes_, &signals);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnSetup() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  int run(pid_t* pid, const std::string& program, char** argv, char** environment) {
    return ::posix_spawn(pid, program.c_str(), &actions_, &attributes_, argv, environment);
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace

Result<HelperAnswer> run_helper(const std::string& program, const std::vector<std::string>& args, SteadyTime deadline) {
  ATLAS_ASSIGN(auto pair, make_socket_pair());
  if (pair.theirs.get() == kAnswerFd) {  // dup2 onto itself would keep close-on-exec
    pair.theirs.reset(::fcntl(kAnswerFd, F_DUPFD_CLOEXEC, kAnswerFd + 1));
  }
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const auto& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  char* environment[] = {path, nullptr};
  pid_t pid = -1;
  if (const int err = SpawnSetup(pair.theirs.get()).run(&pid, program, argv.data(), environment); err != 0)
    return fail_errno(err, "cannot run " + program);
  const ChildProcess child(pid);
  pair.theirs.reset();
  auto packet = receive_packet(pair.ours.get(), deadline);
  if (!packet && packet.error().code == Code::cancelled) return fail(Code::unavailable, program + " died");
  if (!packet) return fail(packet.error().in(program));
  ATLAS_ASSIGN(auto report, decode_attach_report(packet->bytes));
  HelperAnswer answer{std::move(report), UniqueFd()};
  if (!packet->fds.empty()) answer.ns = std::move(packet->fds.front());
  return answer;
}

}  // namespace atlas::spank
