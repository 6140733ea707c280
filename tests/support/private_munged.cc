#include "tests/support/private_munged.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "proto/munge.h"

namespace atlas::test {

PrivateMunged::PrivateMunged() {
  std::string pattern = (std::filesystem::temp_directory_path() / "atlas-munge-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return;
  dir_ = pattern;
  std::filesystem::permissions(dir_, static_cast<std::filesystem::perms>(0755));
  std::ofstream key(dir_ / "key", std::ios::binary);
  std::random_device random;
  for (int i = 0; i < 1024; ++i) key.put(static_cast<char>(random()));
  key.close();
  std::filesystem::permissions(dir_ / "key", static_cast<std::filesystem::perms>(0600));

  std::vector<std::string> words = {"munged",
                                    "--foreground",
                                    "--force",
                                    "--num-threads=2",
                                    "--key-file=" + (dir_ / "key").string(),
                                    "--socket=" + socket(),
                                    "--pid-file=" + (dir_ / "pid").string(),
                                    "--log-file=" + (dir_ / "log").string(),
                                    "--seed-file=" + (dir_ / "seed").string()};
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    execvp("munged", argv.data());
    execv("/usr/sbin/munged", argv.data());
    _exit(127);
  }
  const Munge probe(socket());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!running_ && pid_ > 0 && waitpid(pid_, nullptr, WNOHANG) == 0 && std::chrono::steady_clock::now() < deadline) {
    running_ = std::filesystem::exists(socket()) && probe.encode("x").has_value();
    if (!running_) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void PrivateMunged::stop() {
  if (pid_ > 0) {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
  }
  pid_ = -1;
  running_ = false;
}

PrivateMunged::~PrivateMunged() {
  stop();
  std::error_code ignored;
  if (!dir_.empty()) std::filesystem::remove_all(dir_, ignored);
}

}  // namespace atlas::test
