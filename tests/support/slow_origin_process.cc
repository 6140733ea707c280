#include "tests/support/slow_origin_process.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "common/unique_fd.h"
#include "tests/support/slow_origin/control.h"

namespace atlas {

SlowOrigin::SlowOrigin(const std::string& directory, const std::string& mountpoint,
                       const std::vector<std::string>& arguments)
    : mountpoint_(mountpoint), socket_(mountpoint + ".sock") {
  std::vector<std::string> words{ATLAS_SLOW_ORIGIN, "serve", directory, mountpoint, "--socket", socket_};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
  const UniqueFd reader(ends[0]);
  {
    const UniqueFd writer(ends[1]);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(writer.get(), STDOUT_FILENO);
      execv(ATLAS_SLOW_ORIGIN, argv.data());
      _exit(127);
    }
  }
  // It says one line when it is mounted.
  pollfd wait{reader.get(), POLLIN, 0};
  char byte = 0;
  if (pid_ < 0 || poll(&wait, 1, 10'000) != 1 || read(reader.get(), &byte, 1) != 1)
    throw std::runtime_error("atlas-slow-origin did not come up at " + mountpoint);
}

SlowOrigin::~SlowOrigin() {
  kill(pid_, SIGTERM);
  waitpid(pid_, nullptr, 0);
  umount2(mountpoint_.c_str(), MNT_DETACH);
}

std::string SlowOrigin::tell(const std::vector<std::string>& words) const {
  const auto answer = slow_origin::ask(socket_, words);
  if (!answer) throw std::runtime_error(answer.error().message);
  return *answer;
}

std::uint64_t SlowOrigin::hanging() const {
  return nlohmann::json::parse(tell({"stats"})).at("hanging").get<std::uint64_t>();
}

std::uint64_t SlowOrigin::shortened() const {
  return nlohmann::json::parse(tell({"stats"})).at("short").get<std::uint64_t>();
}

std::uint64_t SlowOrigin::operations() const {
  return nlohmann::json::parse(tell({"stats"})).at("ops_total").get<std::uint64_t>();
}

std::uint64_t SlowOrigin::operations(const std::string& kind) const {
  return nlohmann::json::parse(tell({"stats"})).at("ops").value(kind, std::uint64_t{0});
}

std::uint64_t SlowOrigin::read_bytes() const {
  return nlohmann::json::parse(tell({"stats"})).at("read_bytes").get<std::uint64_t>();
}

}  // namespace atlas
