#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <shared_mutex>
#include <string>
#include <unordered_map>

#include "common/unique_fd.h"

namespace atlas::slow_origin {

/// A descriptor, or the errno of the call that should have made one.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd_or_error) : fd_(fd_or_error >= 0 ? fd_or_error : -1), error_(fd_or_error < 0 ? -fd_or_error : 0) {}
  [[nodiscard]] bool ok() const { return static_cast<bool>(fd_); }
  [[nodiscard]] int get() const { return fd_.get(); }
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] int release() { return fd_.release(); }

 private:
  UniqueFd fd_;
  int error_ = 0;
};

/// "/proc/self/fd/N": reaches the object of an O_PATH descriptor in calls that take a path.
std::string proc_path(int fd);

/// Every inode the kernel knows of, by its inode number in the mirrored directory (1 = the directory itself).
/// Keeps file handles, not descriptors, so that a million files cost no open files and renames beneath do no harm;
/// where the file system has no handles, one O_PATH descriptor each. Thread-safe.
class NodeTable {
 public:
  /// `root` is a readable descriptor of the mirrored directory.
  explicit NodeTable(Fd root);

  struct Found {
    int error = 0;
    struct stat st {};
    std::uint64_t generation = 0;  ///< differs when an inode number was used again for another file
  };

  [[nodiscard]] int root_fd() const { return root_.get(); }
  /// Opens the node with `flags` (O_PATH works for all kinds). ESTALE when it was deleted beneath.
  [[nodiscard]] Fd open(std::uint64_t ino, int flags) const;
  /// Finds `name` in `parent` and counts one lookup of it; the caller answers the kernel with it.
  Found lookup(std::uint64_t parent, int parent_fd, const char* name);
  void forget(std::uint64_t ino, std::uint64_t lookups);
  /// A path below the root by which the node was last looked up, for patterns.
  [[nodiscard]] std::string path(std::uint64_t ino) const;

 private:
  struct Node {
    std::string handle;  ///< type and bytes as name_to_handle_at gave them; empty = `fd` is used
    Fd fd;
    std::uint64_t parent = 0;
    std::string name;
    std::uint64_t lookups = 0;
    std::uint64_t generation = 0;
  };

  mutable std::shared_mutex mutex_;  ///< guards nodes_
  std::unordered_map<std::uint64_t, Node> nodes_;
  Fd root_;
  dev_t device_ = 0;
};

}  // namespace atlas::slow_origin
