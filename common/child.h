#pragma once
#include <sys/types.h>
#include <functional>

#include "common/packet.h"
#include "common/result.h"

namespace atlas {

/// A forked or spawned process that is never waited for longer than it deserves.
class ChildProcess {
 public:
  explicit ChildProcess(pid_t pid, std::function<void(pid_t)> when_stuck = {})
      : pid_(pid), when_stuck_(std::move(when_stuck)) {}
  ChildProcess(ChildProcess&& other) noexcept : pid_(other.pid_), when_stuck_(std::move(other.when_stuck_)) {
    other.pid_ = -1;
  }
  ChildProcess& operator=(ChildProcess&&) = delete;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  /// Kills it if it still runs and reaps it; one stuck in the kernel is left behind after kPatience, when_stuck is
  /// told.
  ~ChildProcess();
  [[nodiscard]] pid_t pid() const { return pid_; }

  static constexpr std::chrono::milliseconds kPatience{100};

 private:
  pid_t pid_;
  std::function<void(pid_t)> when_stuck_;
};

struct ChildLimits {
  std::chrono::milliseconds limit;
  int keep = -1;                               ///< a descriptor the child keeps
  std::function<void(pid_t)> when_stuck = {};  ///< told of a child that a SIGKILL did not end
};

/// Runs `work` in a forked child and returns the packet it made, or deadline_exceeded after the limit: the way to touch
/// a file system that may hang. The child keeps no descriptor but `keep` and has no stdin, stdout or stderr, so that
/// one stuck in the kernel holds nobody's pipe. `work` must not start threads; if it throws or dies: internal.
[[nodiscard]] Result<Packet> run_in_child(const std::function<Packet()>& work, const ChildLimits& limits);

}  // namespace atlas
