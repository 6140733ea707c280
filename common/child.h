#pragma once
#include <sys/types.h>
#include <functional>

#include "common/packet.h"
#include "common/result.h"

namespace atlas {

/// A forked or spawned process that is never waited for longer than it deserves.
class ChildProcess {
 public:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  ChildProcess(ChildProcess&& other) noexcept : pid_(other.pid_) { other.pid_ = -1; }
  ChildProcess& operator=(ChildProcess&&) = delete;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  /// Kills it if it still runs and reaps it; one stuck in the kernel is left behind after kPatience.
  ~ChildProcess();
  [[nodiscard]] pid_t pid() const { return pid_; }

  static constexpr std::chrono::milliseconds kPatience{100};

 private:
  pid_t pid_;
};

/// Runs `work` in a forked child and returns the packet it made, or deadline_exceeded after `limit`: the way to touch a
/// file system that may hang. The child keeps no descriptor but `keep` and has no stdin, stdout or stderr, so that one
/// stuck in the kernel holds nobody's pipe. `work` must not start threads; if it throws or dies: internal.
[[nodiscard]] Result<Packet> run_in_child(const std::function<Packet()>& work, std::chrono::milliseconds limit,
                                          int keep = -1);

}  // namespace atlas
