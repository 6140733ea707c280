#pragma once

#include <fuse_lowlevel.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"
#include "tests/support/slow_origin/filesystem.h"

namespace atlas::slow_origin {

/// One mounted file system and the threads that serve it. Mounts with mount(2) (so: as root), not with fusermount.
class Session {
 public:
  /// Mounts `fs` at `mountpoint` and serves it with `threads` threads; each may block in the gate.
  static Result<std::unique_ptr<Session>> start(Filesystem& fs, const std::string& source,
                                                const std::string& mountpoint, unsigned threads);
  /// Readable once the connection is gone: unmounted or aborted by somebody else.
  [[nodiscard]] int gone_fd() const { return gone_.get(); }
  /// Detaches the mount. Threads may still hang in operations: the caller ends the process with _exit(), and the kernel
  /// then answers what is open.
  void unmount();

 private:
  Session(Filesystem& fs, std::string mountpoint);
  void serve();
  static ssize_t read_request(int fd, void* buffer, std::size_t size, void* userdata);
  static ssize_t write_reply(int fd, iovec* parts, int count, void* userdata);

  fuse_session* session_ = nullptr;
  std::string mountpoint_;
  UniqueFd gone_;
  std::vector<std::thread> threads_;
};

}  // namespace atlas::slow_origin
