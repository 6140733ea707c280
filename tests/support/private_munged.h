#pragma once
#include <sys/types.h>

#include <filesystem>
#include <string>

namespace atlas::test {

/// A munged of the test's own, with a fresh key and socket in a temporary directory; ends and cleans up with the
/// object. running() is false when munged is not installed or did not come up: skip the test then, saying so.
class PrivateMunged {
 public:
  PrivateMunged();
  ~PrivateMunged();
  PrivateMunged(const PrivateMunged&) = delete;
  PrivateMunged& operator=(const PrivateMunged&) = delete;

  [[nodiscard]] bool running() const { return running_; }
  [[nodiscard]] std::string socket() const { return (dir_ / "munge.sock").string(); }
  void stop();

 private:
  std::filesystem::path dir_;
  pid_t pid_ = -1;
  bool running_ = false;
};

}  // namespace atlas::test
