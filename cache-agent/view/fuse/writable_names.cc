// Names and attributes of a writable view: each request is made at the origin, as the job's user.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <exception>

#include "cache-agent/view/fuse/connection.h"
#include "cache-agent/view/fuse/view_core.h"
#include "cache-agent/view/fuse/writable.h"

namespace atlas::view {
namespace {

using Answer = Writable::Answer;

constexpr double kAttributes = 1.0;
constexpr std::size_t kListingBuffer = 64 * 1024;
constexpr std::size_t kLongestValue = 64 * 1024;  // of an extended attribute

void init(void* self, fuse_conn_info* conn) {
  static_cast<Connection*>(self)->capable(conn->capable);
  conn->want = conn->capable &
               static_cast<unsigned>(FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_DONT_MASK |
                                     FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_HANDLE_KILLPRIV);
  conn->max_read = static_cast<unsigned>(kMaxRead.count);
  conn->max_write = static_cast<unsigned>(kMaxWrite.count);
  conn->max_background = 64;
  conn->congestion_threshold = 48;
  conn->time_gran = 1;
}

/// The path of what a descriptor stands for, symlinks included; leads nowhere else.
std::string link_of(const UniqueFd& fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}

/// Has `work` done in a directory.
template <class Act>
void in_directory(fuse_req_t req, fuse_ino_t parent, Act&& act) {
  auto& self = writable_of(req);
  self.run(req, parent, [&self, parent, act = std::forward<Act>(act)]() -> Answer {
    const auto directory = self.open(parent, O_PATH | O_DIRECTORY);
    if (!directory) return refuse(directory.error());
    return act(self, *directory);
  });
}

/// Same, with a node itself, whatever it is.
template <class Act>
void at_node(fuse_req_t req, fuse_ino_t node, Act&& act) {
  auto& self = writable_of(req);
  self.run(req, node, [&self, node, act = std::forward<Act>(act)]() -> Answer {
    const auto fd = self.find(node);
    if (!fd) return refuse(fd.error());
    return act(self, *fd);
  });
}

/// What has just been made at a name.
Answer made(Writable& self, const UniqueFd& directory, fuse_ino_t parent, const std::string& name) {
  const auto live = Writable::look_at(directory.get(), name.c_str());
  if (!live) return refuse(live.error());
  return tell_entry(self, parent, name, *live);
}

void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  in_directory(req, parent, [parent, name = std::string(name)](Writable& self, const UniqueFd& directory) {
    return made(self, directory, parent, name);
  });
}

void forget(fuse_req_t req, fuse_ino_t node, std::uint64_t times) {
  writable_of(req).nodes.forget(node, times);
  fuse_reply_none(req);
}

void forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
  for (std::size_t i = 0; i < count; ++i) writable_of(req).nodes.forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

Answer attributes(Writable& self, fuse_ino_t node, int fd) {
  const auto live = Writable::look(fd);
  if (!live) return refuse(live.error());
  static_cast<void>(self.nodes.cached(node, live->st));
  return [st = live->st](fuse_req_t req) { fuse_reply_attr(req, &st, kAttributes); };
}

void getattr(fuse_req_t req, fuse_ino_t node, fuse_file_info* info) {
  auto& self = writable_of(req);
  // An open file may have no name any more.
  if (const auto file = info != nullptr ? self.file(info->fh) : nullptr)
    return self.run(req, node, [&self, node, file] { return attributes(self, node, file->fd.get()); });
  at_node(req, node, [node](Writable& view, const UniqueFd& fd) { return attributes(view, node, fd.get()); });
}

timespec time_for(const timespec& time, int set, int now, int given) {
  if ((given & now) != 0) return {0, UTIME_NOW};
  return (given & set) != 0 ? time : timespec{0, UTIME_OMIT};
}

/// 0, or why not. The order of chown and chmod is that of chown(1), which takes bits away.
int change(const UniqueFd& fd, const struct stat& to, int what) {
  const std::string link = link_of(fd);
  if ((what & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0) {
    const uid_t uid = (what & FUSE_SET_ATTR_UID) != 0 ? to.st_uid : static_cast<uid_t>(-1);
    const gid_t gid = (what & FUSE_SET_ATTR_GID) != 0 ? to.st_gid : static_cast<gid_t>(-1);
    if (fchownat(fd.get(), "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) return errno;
  }
  if ((what & FUSE_SET_ATTR_MODE) != 0 && chmod(link.c_str(), to.st_mode & 07777) != 0) return errno;
  if ((what & FUSE_SET_ATTR_SIZE) != 0 && truncate(link.c_str(), to.st_size) != 0) return errno;
  if ((what & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW)) != 0) {
    const timespec times[2] = {time_for(to.st_atim, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, what),
                               time_for(to.st_mtim, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, what)};
    if (utimensat(AT_FDCWD, link.c_str(), times, 0) != 0) return errno;
  }
  return 0;
}

void setattr(fuse_req_t req, fuse_ino_t node, struct stat* to, int what, fuse_file_info* info) {
  auto& self = writable_of(req);
  self.nodes.touch(node);
  const auto file = info != nullptr ? self.file(info->fh) : nullptr;
  const bool by_handle = (what & FUSE_SET_ATTR_SIZE) != 0 && file != nullptr;
  self.run(req, node, [&self, node, file, to = *to, what, by_handle]() -> Answer {
    if (by_handle && ftruncate(file->fd.get(), to.st_size) != 0) return refuse(errno);
    const int rest = by_handle ? what & ~FUSE_SET_ATTR_SIZE : what;
    if (file) {
      if (const int error = change(file->fd, to, rest); error != 0) return refuse(error);
      return attributes(self, node, file->fd.get());
    }
    const auto fd = self.find(node);
    if (!fd) return refuse(fd.error());
    if (const int error = change(*fd, to, rest); error != 0) return refuse(error);
    return attributes(self, node, fd->get());
  });
}

void readlink(fuse_req_t req, fuse_ino_t node) {
  at_node(req, node, [](Writable&, const UniqueFd& fd) -> Answer {
    std::string target(PATH_MAX, '\0');
    const ssize_t size = readlinkat(fd.get(), "", target.data(), target.size());
    if (size < 0) return refuse(errno);
    target.resize(static_cast<std::size_t>(size));
    return [target](fuse_req_t r) { fuse_reply_readlink(r, target.c_str()); };
  });
}

/// Whatever makes a name: `make` gives 0 or an errno.
template <class Make>
void make_name(fuse_req_t req, fuse_ino_t parent, const char* name, Make&& make) {
  const mode_t mask = fuse_req_ctx(req)->umask;
  writable_of(req).nodes.touch_name(parent, name);
  in_directory(req, parent,
               [parent, mask, name = std::string(name), make = std::forward<Make>(make)](Writable& self,
                                                                                         const UniqueFd& directory) {
                 // A default ACL overrides it, which only the origin knows.
                 if (!set_mask(mask)) return refuse(EPERM);
                 if (const int error = make(self, directory, name.c_str()); error != 0) return refuse(error);
                 return made(self, directory, parent, name);
               });
}

void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  make_name(req, parent, name, [mode, device](Writable&, const UniqueFd& directory, const char* at) {
    return ::mknodat(directory.get(), at, mode, device) == 0 ? 0 : errno;
  });
}

void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  make_name(req, parent, name, [mode](Writable&, const UniqueFd& directory, const char* at) {
    return ::mkdirat(directory.get(), at, mode) == 0 ? 0 : errno;
  });
}

void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  make_name(req, parent, name, [target = std::string(target)](Writable&, const UniqueFd& directory, const char* at) {
    return ::symlinkat(target.c_str(), directory.get(), at) == 0 ? 0 : errno;
  });
}

void link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char* name) {
  writable_of(req).nodes.touch(node);
  make_name(req, parent, name, [node](Writable& self, const UniqueFd& directory, const char* at) {
    const auto fd = self.open(node, O_PATH);
    if (!fd) return errno_of(fd.error());
    return ::linkat(AT_FDCWD, link_of(*fd).c_str(), directory.get(), at, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
  });
}

void remove(fuse_req_t req, fuse_ino_t parent, const char* name, int flags) {
  writable_of(req).nodes.touch_name(parent, name);
  in_directory(req, parent, [flags, name = std::string(name)](Writable&, const UniqueFd& directory) {
    return ::unlinkat(directory.get(), name.c_str(), flags) == 0 ? done() : refuse(errno);
  });
}

void unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  remove(req, parent, name, 0);
}

void rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  remove(req, parent, name, AT_REMOVEDIR);
}

void rename(fuse_req_t req, fuse_ino_t from, const char* old_name, fuse_ino_t to, const char* new_name,
            unsigned flags) {
  auto& nodes = writable_of(req).nodes;
  nodes.touch_name(from, old_name);
  nodes.touch_name(to, new_name);
  in_directory(req, from,
               [from, to, flags, old_name = std::string(old_name), new_name = std::string(new_name)](
                   Writable& self, const UniqueFd& directory) -> Answer {
                 const auto target = self.open(to, O_PATH | O_DIRECTORY);
                 if (!target) return refuse(target.error());
                 if (::renameat2(directory.get(), old_name.c_str(), target->get(), new_name.c_str(), flags) != 0)
                   return refuse(errno);
                 if (const auto live = Writable::look_at(target->get(), new_name.c_str()))
                   self.nodes.moved(*live, to, new_name);
                 if ((flags & RENAME_EXCHANGE) != 0)
                   if (const auto live = Writable::look_at(directory.get(), old_name.c_str()))
                     self.nodes.moved(*live, from, old_name);
                 return done();
               });
}

void opendir(fuse_req_t req, fuse_ino_t node, fuse_file_info* info) {
  auto& self = writable_of(req);
  self.run(req, node, [&self, node, info = *info]() -> Answer {
    const auto fd = self.open(node, O_RDONLY | O_DIRECTORY);  // may the user list it?
    if (!fd) return refuse(fd.error());
    return [info](fuse_req_t r) mutable { fuse_reply_open(r, &info); };
  });
}

void releasedir(fuse_req_t req, fuse_ino_t /*node*/, fuse_file_info* /*info*/) {
  fuse_reply_err(req, 0);
}

struct Dirent {
  std::uint64_t inode;
  std::int64_t next;
  unsigned short length;
  unsigned char type;
  char name[1];
};

/// Each call begins where the last one ended, by the origin's own cookies: no directory is held open.
void readdir(fuse_req_t req, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* /*info*/) {
  auto& self = writable_of(req);
  self.run(req, node, [&self, node, size = std::min(size, kListingBuffer), offset]() -> Answer {
    const auto fd = self.open(node, O_RDONLY | O_DIRECTORY);
    if (!fd) return refuse(fd.error());
    if (offset != 0 && lseek(fd->get(), offset, SEEK_SET) < 0) return refuse(errno);
    std::string listed(kListingBuffer, '\0'), out(size, '\0');
    std::size_t used = 0;
    for (bool full = false; !full;) {
      const long got = syscall(SYS_getdents64, fd->get(), listed.data(), listed.size());
      if (got < 0) return refuse(errno);
      if (got == 0) break;
      for (long at = 0; at < got && !full;) {
        const auto* one = reinterpret_cast<const Dirent*>(listed.data() + at);
        struct stat st {};
        st.st_ino = one->inode;
        st.st_mode = static_cast<mode_t>(DTTOIF(one->type));
        const auto need = fuse_add_direntry(nullptr, out.data() + used, size - used, one->name, &st, one->next);
        full = need > size - used;
        if (!full) used += need;
        at += one->length;
      }
    }
    out.resize(used);
    return [out = std::move(out)](fuse_req_t r) { fuse_reply_buf(r, out.data(), out.size()); };
  });
}

void fsyncdir(fuse_req_t req, fuse_ino_t node, int data_only, fuse_file_info* /*info*/) {
  auto& self = writable_of(req);
  self.run(req, node, [&self, node, data_only]() -> Answer {
    const auto fd = self.open(node, O_RDONLY | O_DIRECTORY);
    if (!fd) return refuse(fd.error());
    return (data_only != 0 ? fdatasync(fd->get()) : fsync(fd->get())) == 0 ? done() : refuse(errno);
  });
}

void statfs(fuse_req_t req, fuse_ino_t node) {
  at_node(req, node, [](Writable&, const UniqueFd& fd) -> Answer {
    struct statvfs st {};
    if (fstatvfs(fd.get(), &st) != 0) return refuse(errno);
    return [st](fuse_req_t r) { fuse_reply_statfs(r, &st); };
  });
}

void access(fuse_req_t req, fuse_ino_t node, int mask) {
  at_node(req, node, [mask](Writable&, const UniqueFd& fd) {
    return syscall(SYS_faccessat2, fd.get(), "", mask, AT_EACCESS | AT_EMPTY_PATH) == 0 ? done() : refuse(errno);
  });
}

/// Asked for before each write; the mount is nosuid, which makes file capabilities void.
bool void_here(const char* name) {
  return std::strcmp(name, "security.capability") == 0;
}

Answer sized(std::string value, ssize_t got, std::size_t room) {
  if (got < 0) return refuse(errno);
  value.resize(static_cast<std::size_t>(got));
  return [value = std::move(value), room](fuse_req_t r) {
    if (room == 0) {
      fuse_reply_xattr(r, value.size());
    } else if (value.size() > room) {
      fuse_reply_err(r, ERANGE);
    } else {
      fuse_reply_buf(r, value.data(), value.size());
    }
  };
}

void getxattr(fuse_req_t req, fuse_ino_t node, const char* name, std::size_t size) {
  if (void_here(name)) return void(fuse_reply_err(req, ENODATA));
  at_node(req, node, [name = std::string(name), size](Writable&, const UniqueFd& fd) {
    std::string value(kLongestValue, '\0');
    const ssize_t got = ::getxattr(link_of(fd).c_str(), name.c_str(), value.data(), value.size());
    return sized(std::move(value), got, size);
  });
}

void listxattr(fuse_req_t req, fuse_ino_t node, std::size_t size) {
  at_node(req, node, [size](Writable&, const UniqueFd& fd) {
    std::string names(kLongestValue, '\0');
    const ssize_t got = ::listxattr(link_of(fd).c_str(), names.data(), names.size());
    return sized(std::move(names), got, size);
  });
}

void setxattr(fuse_req_t req, fuse_ino_t node, const char* name, const char* value, std::size_t size, int flags) {
  writable_of(req).nodes.touch(node);
  at_node(
      req, node, [name = std::string(name), value = std::string(value, size), flags](Writable&, const UniqueFd& fd) {
        const std::string link = link_of(fd);
        return ::setxattr(link.c_str(), name.c_str(), value.data(), value.size(), flags) == 0 ? done() : refuse(errno);
      });
}

void removexattr(fuse_req_t req, fuse_ino_t node, const char* name) {
  writable_of(req).nodes.touch(node);
  at_node(req, node, [name = std::string(name)](Writable&, const UniqueFd& fd) {
    return ::removexattr(link_of(fd).c_str(), name.c_str()) == 0 ? done() : refuse(errno);
  });
}

}  // namespace

const fuse_lowlevel_ops& writable_operations() {
  static const fuse_lowlevel_ops kOps = [] {
    fuse_lowlevel_ops ops{};
    ops.init = init;
    ops.lookup = Edge<lookup>::call;
    ops.forget = forget;
    ops.forget_multi = forget_multi;
    ops.getattr = Edge<getattr>::call;
    ops.setattr = Edge<setattr>::call;
    ops.readlink = Edge<readlink>::call;
    ops.mknod = Edge<mknod>::call;
    ops.mkdir = Edge<mkdir>::call;
    ops.symlink = Edge<symlink>::call;
    ops.link = Edge<link>::call;
    ops.unlink = Edge<unlink>::call;
    ops.rmdir = Edge<rmdir>::call;
    ops.rename = Edge<rename>::call;
    ops.opendir = Edge<opendir>::call;
    ops.releasedir = Edge<releasedir>::call;
    ops.readdir = Edge<readdir>::call;
    ops.fsyncdir = Edge<fsyncdir>::call;
    ops.statfs = Edge<statfs>::call;
    ops.access = Edge<access>::call;
    ops.getxattr = Edge<getxattr>::call;
    ops.listxattr = Edge<listxattr>::call;
    ops.setxattr = Edge<setxattr>::call;
    ops.removexattr = Edge<removexattr>::call;
    add_file_operations(ops);
    return ops;
  }();
  return kOps;
}

}  // namespace atlas::view
