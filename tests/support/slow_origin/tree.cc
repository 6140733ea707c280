// Names, attributes and extended attributes.
#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <vector>

#include "tests/support/slow_origin/filesystem.h"

namespace atlas::slow_origin::detail {
namespace {

constexpr mode_t kSearch = S_IXOTH;
constexpr mode_t kChange = S_IWOTH | S_IXOTH;

void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Passage passage(req, Op::kLookup, parent, name);
  if (passage.refused()) return;
  const Fd directory = passage.fs().nodes.open(parent, O_PATH);
  if (!directory.ok()) {
    fuse_reply_err(req, directory.error());
    return;
  }
  int error = squash_check(req, directory.get(), kSearch);
  fuse_entry_param entry{};
  if (error == 0) error = find_entry(passage.fs(), parent, directory.get(), name, entry);
  if (error == 0) {
    fuse_reply_entry(req, &entry);
  } else {
    fuse_reply_err(req, error);
  }
}

void forget(fuse_req_t req, fuse_ino_t ino, std::uint64_t lookups) {
  filesystem(req).nodes.forget(ino, lookups);
  fuse_reply_none(req);
}

void forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
  for (std::size_t i = 0; i < count; ++i) filesystem(req).nodes.forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

void reply_attributes(fuse_req_t req, Filesystem& fs, fuse_ino_t ino) {
  const Fd node = fs.nodes.open(ino, O_PATH);
  struct stat st {};
  if (!node.ok()) {
    fuse_reply_err(req, node.error());
  } else if (fstat(node.get(), &st) != 0) {
    fuse_reply_err(req, errno);
  } else {
    fuse_reply_attr(req, &st, fs.behaviour.cache_seconds);
  }
}

void getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  Passage passage(req, Op::kGetattr, ino);
  if (!passage.refused()) reply_attributes(req, passage.fs(), ino);
}

timespec wanted_time(int to_set, int set_bit, int now_bit, const timespec& value) {
  if ((to_set & now_bit) != 0) return {0, UTIME_NOW};
  if ((to_set & set_bit) != 0) return value;
  return {0, UTIME_OMIT};
}

int apply_attributes(const Fd& node, const struct stat& attr, int to_set) {
  const std::string path = proc_path(node.get());
  if ((to_set & FUSE_SET_ATTR_MODE) != 0 && chmod(path.c_str(), attr.st_mode & 07777) != 0) return errno;
  if ((to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0) {
    const uid_t uid = (to_set & FUSE_SET_ATTR_UID) != 0 ? attr.st_uid : static_cast<uid_t>(-1);
    const gid_t gid = (to_set & FUSE_SET_ATTR_GID) != 0 ? attr.st_gid : static_cast<gid_t>(-1);
    if (fchownat(node.get(), "", uid, gid, AT_EMPTY_PATH) != 0) return errno;
  }
  if ((to_set & FUSE_SET_ATTR_SIZE) != 0 && truncate(path.c_str(), attr.st_size) != 0) return errno;
  if ((to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) != 0) {
    const timespec times[2] = {wanted_time(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, attr.st_atim),
                               wanted_time(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, attr.st_mtim)};
    if (utimensat(AT_FDCWD, path.c_str(), times, 0) != 0) return errno;
  }
  return 0;
}

void setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info*) {
  Passage passage(req, Op::kSetattr, ino);
  if (passage.refused()) return;
  const Fd node = passage.fs().nodes.open(ino, O_PATH);
  int error = node.error();
  if (error == 0 && squashed(req))
    error = (to_set == FUSE_SET_ATTR_SIZE) ? squash_check(req, node.get(), S_IWOTH) : EPERM;
  if (error == 0) error = apply_attributes(node, *attr, to_set);
  if (error != 0) {
    fuse_reply_err(req, error);
  } else {
    reply_attributes(req, passage.fs(), ino);
  }
}

void readlink(fuse_req_t req, fuse_ino_t ino) {
  Passage passage(req, Op::kReadlink, ino);
  if (passage.refused()) return;
  const Fd node = passage.fs().nodes.open(ino, O_PATH | O_NOFOLLOW);
  char target[PATH_MAX + 1];
  const ssize_t length = node.ok() ? readlinkat(node.get(), "", target, PATH_MAX) : -1;
  if (length < 0) {
    fuse_reply_err(req, node.ok() ? errno : node.error());
    return;
  }
  target[length] = '\0';
  fuse_reply_readlink(req, target);
}

/// Runs `make(parent_fd)` (0 or errno) as the caller's creation of `name`, and answers with the new entry.
template <typename Make>
void create_entry(fuse_req_t req, Op op, fuse_ino_t parent, const char* name, mode_t mode, bool fresh, Make make) {
  Passage passage(req, op, parent, name);
  if (passage.refused()) return;
  const Fd directory = passage.fs().nodes.open(parent, O_PATH);
  int error = directory.error();
  if (error == 0) error = squash_check(req, directory.get(), kChange);
  if (error == 0) error = make(directory.get());
  if (error == 0 && fresh) error = give_to_caller(req, directory.get(), name, mode);
  fuse_entry_param entry{};
  if (error == 0) error = find_entry(passage.fs(), parent, directory.get(), name, entry);
  if (error != 0) {
    fuse_reply_err(req, error);
  } else {
    fuse_reply_entry(req, &entry);
  }
}

void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  create_entry(req, Op::kMknod, parent, name, mode, true,
               [&](int directory) { return mknodat(directory, name, mode, device) == 0 ? 0 : errno; });
}

void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  create_entry(req, Op::kMkdir, parent, name, mode | S_IFDIR, true,
               [&](int directory) { return mkdirat(directory, name, mode) == 0 ? 0 : errno; });
}

void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  create_entry(req, Op::kSymlink, parent, name, S_IFLNK, true,
               [&](int directory) { return symlinkat(target, directory, name) == 0 ? 0 : errno; });
}

void link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  create_entry(req, Op::kLink, parent, name, 0, false, [&](int directory) {
    const Fd node = filesystem(req).nodes.open(ino, O_PATH);
    if (!node.ok()) return node.error();
    return linkat(AT_FDCWD, proc_path(node.get()).c_str(), directory, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
  });
}

void remove(fuse_req_t req, Op op, fuse_ino_t parent, const char* name, int flags) {
  Passage passage(req, op, parent, name);
  if (passage.refused()) return;
  const Fd directory = passage.fs().nodes.open(parent, O_PATH);
  int error = directory.error();
  if (error == 0) error = squash_check(req, directory.get(), kChange);
  if (error == 0 && unlinkat(directory.get(), name, flags) != 0) error = errno;
  fuse_reply_err(req, error);
}

void unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  remove(req, Op::kUnlink, parent, name, 0);
}
void rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  remove(req, Op::kRmdir, parent, name, AT_REMOVEDIR);
}

void rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned flags) {
  Passage passage(req, Op::kRename, parent, name);
  if (passage.refused()) return;
  const Fd from = passage.fs().nodes.open(parent, O_PATH);
  const Fd to = passage.fs().nodes.open(new_parent, O_PATH);
  int error = from.ok() ? to.error() : from.error();
  if (error == 0) error = squash_check(req, from.get(), kChange);
  if (error == 0) error = squash_check(req, to.get(), kChange);
  if (error == 0 && renameat2(from.get(), name, to.get(), new_name, flags) != 0) error = errno;
  fuse_reply_err(req, error);
}

void statfs(fuse_req_t req, fuse_ino_t ino) {
  Passage passage(req, Op::kStatfs, ino);
  if (passage.refused()) return;
  struct statvfs st {};
  if (fstatvfs(passage.fs().nodes.root_fd(), &st) != 0) {
    fuse_reply_err(req, errno);
  } else {
    fuse_reply_statfs(req, &st);
  }
}

/// Calls `read(path, buffer, size)` and answers as getxattr and listxattr must: a size, the bytes, or an error.
template <typename Read>
void reply_xattr(fuse_req_t req, Op op, fuse_ino_t ino, std::size_t size, Read read) {
  Passage passage(req, op, ino);
  if (passage.refused()) return;
  const Fd node = passage.fs().nodes.open(ino, O_PATH | O_NOFOLLOW);
  if (!node.ok()) {
    fuse_reply_err(req, node.error());
    return;
  }
  std::vector<char> value(size);
  const ssize_t length = read(proc_path(node.get()).c_str(), size == 0 ? nullptr : value.data(), size);
  if (length < 0) {
    fuse_reply_err(req, errno);
  } else if (size == 0) {
    fuse_reply_xattr(req, static_cast<std::size_t>(length));
  } else {
    fuse_reply_buf(req, value.data(), static_cast<std::size_t>(length));
  }
}

void getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, std::size_t size) {
  reply_xattr(req, Op::kGetxattr, ino, size,
              [name](const char* path, char* value, std::size_t room) { return ::getxattr(path, name, value, room); });
}

void listxattr(fuse_req_t req, fuse_ino_t ino, std::size_t size) {
  reply_xattr(req, Op::kListxattr, ino, size,
              [](const char* path, char* value, std::size_t room) { return ::listxattr(path, value, room); });
}

template <typename Change>
void change_xattr(fuse_req_t req, Op op, fuse_ino_t ino, Change change) {
  Passage passage(req, op, ino);
  if (passage.refused()) return;
  const Fd node = passage.fs().nodes.open(ino, O_PATH | O_NOFOLLOW);
  int error = squashed(req) ? EPERM : node.error();
  if (error == 0 && change(proc_path(node.get()).c_str()) != 0) error = errno;
  fuse_reply_err(req, error);
}

void setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, std::size_t size, int flags) {
  change_xattr(req, Op::kSetxattr, ino, [&](const char* path) { return ::setxattr(path, name, value, size, flags); });
}

void removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  change_xattr(req, Op::kRemovexattr, ino, [&](const char* path) { return ::removexattr(path, name); });
}

}  // namespace

void tree_operations(fuse_lowlevel_ops& ops) {
  ops.lookup = lookup;
  ops.forget = forget;
  ops.forget_multi = forget_multi;
  ops.getattr = getattr;
  ops.setattr = setattr;
  ops.readlink = readlink;
  ops.mknod = mknod;
  ops.mkdir = mkdir;
  ops.symlink = symlink;
  ops.link = link;
  ops.unlink = unlink;
  ops.rmdir = rmdir;
  ops.rename = rename;
  ops.statfs = statfs;
  ops.getxattr = getxattr;
  ops.setxattr = setxattr;
  ops.listxattr = listxattr;
  ops.removexattr = removexattr;
}

}  // namespace atlas::slow_origin::detail
