#include "tests/support/slow_origin/nodes.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <mutex>

namespace atlas::slow_origin {
namespace {

constexpr std::uint64_t kRoot = 1;

union HandleBuffer {
  struct file_handle header;
  char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

/// The handle of an open object as bytes; empty when its file system has none.
std::string handle_of(int fd) {
  HandleBuffer buffer{};
  buffer.header.handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;
  if (name_to_handle_at(fd, "", &buffer.header, &mount_id, AT_EMPTY_PATH) != 0) return {};
  return {buffer.bytes, sizeof(struct file_handle) + buffer.header.handle_bytes};
}

}  // namespace

std::string proc_path(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

NodeTable::NodeTable(Fd root) : root_(std::move(root)) {
  struct stat st {};
  if (fstat(root_.get(), &st) == 0) device_ = st.st_dev;
}

Fd NodeTable::open(std::uint64_t ino, int flags) const {
  flags |= O_CLOEXEC;
  if (ino == kRoot) {
    const int fd = openat(root_.get(), ".", flags);
    return Fd(fd >= 0 ? fd : -errno);
  }
  HandleBuffer buffer{};
  int kept = -1;
  {
    const std::shared_lock guard(mutex_);
    const auto node = nodes_.find(ino);
    if (node == nodes_.end()) return Fd(-ESTALE);
    if (node->second.handle.empty()) {
      kept = node->second.fd.get();  // stays open while the kernel knows the inode, and it asks about no other
    } else {
      std::memcpy(buffer.bytes, node->second.handle.data(), node->second.handle.size());
    }
  }
  const int fd =
      kept >= 0 ? ((flags & O_PATH) != 0 ? fcntl(kept, F_DUPFD_CLOEXEC, 0) : ::open(proc_path(kept).c_str(), flags))
                : open_by_handle_at(root_.get(), &buffer.header, flags);
  return Fd(fd >= 0 ? fd : -errno);
}

NodeTable::Found NodeTable::lookup(std::uint64_t parent, int parent_fd, const char* name) {
  Found found;
  const int raw = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (raw < 0) {
    found.error = errno;
    return found;
  }
  Fd fd(raw);
  if (fstat(fd.get(), &found.st) != 0) {
    found.error = errno;
    return found;
  }
  if (found.st.st_dev != device_) {
    found.error = EXDEV;  // another file system mounted inside the mirrored directory: inode numbers could clash
    return found;
  }
  std::string handle = handle_of(fd.get());
  found.generation = handle.empty() ? 0 : std::hash<std::string>{}(handle);
  const std::lock_guard guard(mutex_);
  Node& node = nodes_[found.st.st_ino];
  if (node.lookups == 0 || node.handle != handle) {
    if (handle.empty()) node.fd = std::move(fd);
    node.handle = std::move(handle);
    node.generation = found.generation;
  }
  node.parent = parent;
  node.name = name;
  ++node.lookups;
  return found;
}

void NodeTable::forget(std::uint64_t ino, std::uint64_t lookups) {
  const std::lock_guard guard(mutex_);
  const auto node = nodes_.find(ino);
  if (node == nodes_.end()) return;
  node->second.lookups -= std::min(lookups, node->second.lookups);
  if (node->second.lookups == 0) nodes_.erase(node);
}

std::string NodeTable::path(std::uint64_t ino) const {
  const std::shared_lock guard(mutex_);
  std::string path;
  for (int depth = 0; ino != kRoot && depth < 4096; ++depth) {
    const auto node = nodes_.find(ino);
    if (node == nodes_.end()) break;
    path.insert(0, path.empty() ? node->second.name : node->second.name + "/");
    ino = node->second.parent;
  }
  return path;
}

}  // namespace atlas::slow_origin
