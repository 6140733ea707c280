#pragma once

#include <fuse_lowlevel.h>

#include <string>

#include "tests/support/slow_origin/gate.h"
#include "tests/support/slow_origin/nodes.h"

namespace atlas::slow_origin {

struct Behaviour {
  bool root_squash = false;       ///< uid 0 gets what "other" gets, and what it creates belongs to nobody
  bool honour_interrupt = false;  ///< a hung operation ends with EINTR when its caller is killed (Lustre's does not)
  double cache_seconds = 1;       ///< how long the kernel may trust attributes and names, as a Lustre client under its
                                  ///< locks; 0 = asks every time
};

/// The state behind one mount. The kernel checks modes, owners and ACLs (default_permissions); this mirrors the rest.
struct Filesystem {
  NodeTable nodes;
  Gate& gate;
  Behaviour behaviour;
};

/// What libfuse calls; `userdata` of the session is a Filesystem. Every handler answers its request exactly once.
const fuse_lowlevel_ops& operations();

namespace detail {

inline Filesystem& filesystem(fuse_req_t req) {
  return *static_cast<Filesystem*>(fuse_req_userdata(req));
}

/// One operation's stay inside: enters the gate on construction (and may block there), leaves it on destruction.
class Passage {
 public:
  Passage(fuse_req_t req, Op op, fuse_ino_t ino, const char* name = nullptr);
  ~Passage() { filesystem_.gate.leave(); }
  Passage(const Passage&) = delete;
  Passage& operator=(const Passage&) = delete;

  /// True when the gate refused; the request is answered then.
  [[nodiscard]] bool refused() const { return error_ != 0; }
  Filesystem& fs() { return filesystem_; }
  [[nodiscard]] Op op() const { return op_; }

 private:
  Filesystem& filesystem_;
  Op op_;
  int error_;
};

/// 0, or EACCES when the caller is a squashed root and "other" lacks one of `mask`'s bits (4 read, 2 write, 1 search).
int squash_check(fuse_req_t req, int fd, mode_t mask);
bool squashed(fuse_req_t req);

void tree_operations(fuse_lowlevel_ops& ops);       // names, attributes, xattrs
void directory_operations(fuse_lowlevel_ops& ops);  // opendir, readdir
void file_operations(fuse_lowlevel_ops& ops);       // open, create, read, write

/// Answers a lookup of `name` in the opened directory `parent_fd`.
int find_entry(Filesystem& fs, fuse_ino_t parent, int parent_fd, const char* name, fuse_entry_param& entry);
/// Gives a fresh object to the caller, as the kernel would have: his uid, his gid unless the directory is setgid.
int give_to_caller(fuse_req_t req, int parent_fd, const char* name, mode_t mode);

}  // namespace detail
}  // namespace atlas::slow_origin
