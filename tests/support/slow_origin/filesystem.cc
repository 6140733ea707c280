#include "tests/support/slow_origin/filesystem.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

namespace atlas::slow_origin {
namespace detail {
namespace {

constexpr uid_t kNobody = 65534;

void wake(fuse_req_t, void* data) {
  (*static_cast<std::function<void()>*>(data))();
}

int pass(fuse_req_t req, Filesystem& fs, Op op, fuse_ino_t ino, const char* name) {
  const std::function<std::string()> path = [&] {
    std::string result = fs.nodes.path(ino);
    if (name != nullptr) result += (result.empty() ? "" : "/") + std::string(name);
    return result;
  };
  std::function<void()> waker;
  std::function<void(std::function<void()>)> on_interrupt;
  if (fs.behaviour.honour_interrupt) {
    on_interrupt = [&](std::function<void()> wake_up) {
      if (!wake_up) return fuse_req_interrupt_func(req, nullptr, nullptr);
      waker = std::move(wake_up);
      fuse_req_interrupt_func(req, wake, &waker);
    };
  }
  return fs.gate.enter({op, fuse_req_ctx(req)->uid, path, on_interrupt});
}

}  // namespace

Passage::Passage(fuse_req_t req, Op op, fuse_ino_t ino, const char* name)
    : filesystem_(filesystem(req)), op_(op), error_(pass(req, filesystem_, op, ino, name)) {
  if (error_ != 0) fuse_reply_err(req, error_);
}

bool squashed(fuse_req_t req) {
  return filesystem(req).behaviour.root_squash && fuse_req_ctx(req)->uid == 0;
}

int squash_check(fuse_req_t req, int fd, mode_t mask) {
  if (!squashed(req)) return 0;
  struct stat st {};
  if (fstat(fd, &st) != 0) return errno;
  return (st.st_mode & mask) == mask ? 0 : EACCES;
}

int find_entry(Filesystem& fs, fuse_ino_t parent, int parent_fd, const char* name, fuse_entry_param& entry) {
  const NodeTable::Found found = fs.nodes.lookup(parent, parent_fd, name);
  if (found.error != 0) return found.error;
  entry = {};
  entry.ino = found.st.st_ino;
  entry.generation = found.generation;
  entry.attr = found.st;
  entry.attr_timeout = entry.entry_timeout = fs.behaviour.cache_seconds;
  return 0;
}

int give_to_caller(fuse_req_t req, int parent_fd, const char* name, mode_t mode) {
  const fuse_ctx* caller = fuse_req_ctx(req);
  struct stat parent {};
  if (fstat(parent_fd, &parent) != 0) return errno;
  const uid_t uid = squashed(req) ? kNobody : caller->uid;
  const gid_t gid = (parent.st_mode & S_ISGID) != 0 ? parent.st_gid : squashed(req) ? kNobody : caller->gid;
  if (fchownat(parent_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) != 0) return errno;
  // chown has cleared set-id bits of a file.
  if (S_ISREG(mode) && (mode & (S_ISUID | S_ISGID)) != 0 && fchmodat(parent_fd, name, mode & 07777, 0) != 0)
    return errno;
  return 0;
}

}  // namespace detail

namespace {

void init(void*, fuse_conn_info* conn) {
  // An operation may hang for long; it must not take the places of others (libfuse's default is 12).
  conn->max_background = 4096;
  conn->congestion_threshold = 4096;
  // READDIRPLUS would hide what a real client pays per file; splice needs descriptors that custom I/O does not have.
  conn->want &= ~static_cast<unsigned>(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ |
                                       FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  if ((conn->capable & FUSE_CAP_POSIX_ACL) != 0) conn->want |= FUSE_CAP_POSIX_ACL;
}

fuse_lowlevel_ops make_operations() {
  fuse_lowlevel_ops ops{};
  ops.init = init;
  detail::tree_operations(ops);
  detail::directory_operations(ops);
  detail::file_operations(ops);
  return ops;
}

}  // namespace

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops kOperations = make_operations();
  return kOperations;
}

}  // namespace atlas::slow_origin
