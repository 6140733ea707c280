// The kernel's requests. All but reads and unknown extended attributes are answered from the manifest at once.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

#include "cache-agent/view/fuse/connection.h"
#include "cache-agent/view/fuse/view_core.h"

namespace atlas::view {
namespace {

using agent::EntryType;
using agent::FileIndex;
using agent::FileMeta;

/// A generation never changes, so what the kernel knows of it stays true.
constexpr double kForEver = 1e9;
constexpr std::size_t kListingBuffer = 64 * 1024;

ViewCore& core_of(fuse_req_t req) {
  return Connection::of(req).core();
}

/// How the kernel reads a file is a property of its node: while one is open, it cannot change over. So a large file has
/// two nodes, with one inode number to be seen: the first is read through us, this bit makes the one that the kernel
/// reads by itself. A lookup says which one is right at that moment, and an open of the wrong one is sent to look
/// again.
constexpr fuse_ino_t kPassed = fuse_ino_t{1} << 32;

FileIndex index_of(fuse_ino_t node) {
  return static_cast<FileIndex>((node & ~kPassed) - 1);
}

/// The one translation from C++ to the kernel: no exception passes, and the request is answered. (One that is parked
/// before the exception comes is answered by its deadline.)
template <class Handler>
void guarded(fuse_req_t req, fuse_ino_t node, Handler&& handler) {
  auto& core = core_of(req);
  if (!core.attributes.has(node & ~kPassed)) {
    fuse_reply_err(req, ESTALE);
    return;
  }
  try {
    handler(core, index_of(node));
  } catch (const std::exception&) {
    fuse_reply_err(req, EIO);
  }
}

bool passes(fuse_req_t req, const ViewCore& core, FileIndex index) {
  const auto* backings = Connection::of(req).backings();
  return backings != nullptr && core.passable(index, backings->vouched(index)) && !backings->refused(index);
}

fuse_entry_param entry_of(fuse_req_t req, const ViewCore& core, FileIndex index) {
  fuse_entry_param entry{};
  entry.attr = core.attributes.of(index);
  entry.ino = entry.attr.st_ino;
  if (passes(req, core, index_of(entry.ino))) entry.ino |= kPassed;
  entry.attr_timeout = entry.entry_timeout = kForEver;
  return entry;
}

void init(void* self, fuse_conn_info* conn) {
  auto& connection = *static_cast<Connection*>(self);
  connection.capable(conn->capable);
  conn->want &= ~static_cast<unsigned>(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                       FUSE_CAP_SPLICE_MOVE);
  conn->want |=
      conn->capable & static_cast<unsigned>(FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPEN_SUPPORT |
                                            FUSE_CAP_NO_OPENDIR_SUPPORT | FUSE_CAP_READDIRPLUS |
                                            FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS);
#ifdef FUSE_CAP_PASSTHROUGH
  if ((conn->capable & static_cast<unsigned>(FUSE_CAP_PASSTHROUGH)) != 0 && connection.pass()) {
    conn->want |= static_cast<unsigned>(FUSE_CAP_PASSTHROUGH);
    conn->max_backing_stack_depth = FUSE_BACKING_STACKED_UNDER;  // so that a job may put an overlay on top
  }
#endif
  conn->max_read = static_cast<unsigned>(kMaxRead.count);
  conn->max_background = 512;
  conn->congestion_threshold = 384;
  conn->time_gran = 1;
}

void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  guarded(req, parent, [&](ViewCore& core, FileIndex directory) {
    const auto found = core.manifest->child(directory, name);
    fuse_entry_param entry{};
    entry.entry_timeout = kForEver;  // what is not there will never be
    if (found) entry = entry_of(req, core, *found);
    fuse_reply_entry(req, &entry);
  });
}

void getattr(fuse_req_t req, fuse_ino_t node, fuse_file_info* /*info*/) {
  guarded(req, node, [&](ViewCore& core, FileIndex index) {
    const auto st = core.attributes.of(index);
    fuse_reply_attr(req, &st, kForEver);
  });
}

void readlink(fuse_req_t req, fuse_ino_t node) {
  guarded(req, node, [&](ViewCore& core, FileIndex index) {
    const auto entry = core.manifest->at(index);
    if (!entry.is(EntryType::symlink)) {
      fuse_reply_err(req, EINVAL);
    } else {
      fuse_reply_readlink(req, std::string(entry.target).c_str());
    }
  });
}

void open_passed([[maybe_unused]] fuse_req_t req, [[maybe_unused]] ViewCore& core, [[maybe_unused]] FileIndex index,
                 [[maybe_unused]] std::int32_t backing, [[maybe_unused]] fuse_file_info* info) {
#ifdef FUSE_CAP_PASSTHROUGH
  Backings& backings = *Connection::of(req).backings();
  info->backing_id = backing;
  core.note_passed();
  if (fuse_reply_open(req, info) != 0) backings.release(index);  // nobody waits for it any more, or will close it
#endif
}

/// Tells a close of the root which way it was opened.
constexpr std::uint64_t kRootPassed = 1;

/// A dataset that is one file has the one node that the kernel gave it at its birth: no lookup leads to it.
void open_root(fuse_req_t req, fuse_file_info info) {
  auto& core = core_of(req);
  Backings& backings = *Connection::of(req).backings();
  const std::int32_t id = backings.open_root(passes(req, core, 0));
  if (id != 0) {
    info.fh = kRootPassed;
    return open_passed(req, core, 0, id, &info);
  }
  info.keep_cache = 1;
  if (fuse_reply_open(req, &info) != 0) backings.close_root(false);
}

void open_only(fuse_req_t req, ViewCore& core, const fuse_file_info& info) {
  Backings& backings = *Connection::of(req).backings();
  if (!backings.root_passed() || core.passable(0, true)) return open_root(req, info);
  backings.came_back(0);  // it has lost a block, and no other way to be read as long as it is open
  core.when_whole(req, 0, [info](fuse_req_t r) { open_root(r, info); });
}

/// Where the kernel reads large files by itself. ESTALE makes it look the path up again, once, and open what it finds.
/// What a path does not lead to gets no ESTALE: an open by /proc/self/fd, which comes a second time, and one by an
/// overlay file system on top, which is told by O_NOATIME.
void open_either(fuse_req_t req, ViewCore& core, fuse_ino_t node, FileIndex index, fuse_file_info* info) {
  Backings& backings = *Connection::of(req).backings();
  const bool passed = (node & kPassed) != 0;
  if (passes(req, core, index)) {
    const auto id = backings.acquire(index);
    if (id && passed) return open_passed(req, core, index, *id, info);
    if (id) {
      backings.release(index);
      if ((info->flags & O_NOATIME) == 0 && backings.send_away(index)) return void(fuse_reply_err(req, ESTALE));
    }
  }
  if (passed) {  // it has lost a block
    backings.came_back(index);
    return void(fuse_reply_err(req, ESTALE));
  }
  info->keep_cache = 1;
  fuse_reply_open(req, info);
}

/// Once the kernel has heard ENOSYS it opens by itself, for the life of the connection, and keeps its pages.
void open(fuse_req_t req, fuse_ino_t node, fuse_file_info* info) {
  guarded(req, node, [&](ViewCore& core, FileIndex index) {
    const auto entry = core.manifest->at(index);
    if (entry.is(EntryType::file) && entry.opaque()) {
      fuse_reply_err(req, EACCES);
    } else if (Connection::of(req).backings() != nullptr && index == 0) {
      open_only(req, core, *info);
    } else if (Connection::of(req).backings() != nullptr) {
      open_either(req, core, node, index, info);
    } else if ((Connection::of(req).capable() & FUSE_CAP_NO_OPEN_SUPPORT) != 0) {
      fuse_reply_err(req, ENOSYS);
    } else {
      info->keep_cache = 1;
      fuse_reply_open(req, info);
    }
  });
}

void opendir(fuse_req_t req, fuse_ino_t node, fuse_file_info* info) {
  guarded(req, node, [&](ViewCore& core, FileIndex index) {
    if (core.manifest->at(index).opaque()) {
      fuse_reply_err(req, EACCES);
    } else if ((Connection::of(req).capable() & FUSE_CAP_NO_OPENDIR_SUPPORT) != 0) {
      fuse_reply_err(req, ENOSYS);
    } else {
      info->keep_cache = info->cache_readdir = 1;
      fuse_reply_open(req, info);
    }
  });
}

void release(fuse_req_t req, fuse_ino_t node, fuse_file_info* info) {
  Backings* backings = Connection::of(req).backings();
  // The kernel may have heard the answer from an earlier agent: whether that one has counted it nobody knows.
  if (fuse_reply_err(req, 0) != 0 || backings == nullptr) return;
  if (node == FUSE_ROOT_ID) return backings->close_root(info->fh == kRootPassed);
  if ((node & kPassed) != 0) backings->release(index_of(node));
}

void releasedir(fuse_req_t req, fuse_ino_t /*node*/, fuse_file_info* /*info*/) {
  fuse_reply_err(req, 0);
}

/// The offset of an entry is that of the next: 0 is ".", 1 "..", then the children.
template <class Add>
void list(fuse_req_t req, fuse_ino_t node, std::size_t size, off_t offset, Add&& add) {
  guarded(req, node, [&](ViewCore& core, FileIndex index) {
    const auto directory = core.manifest->at(index);
    if (!directory.is(EntryType::directory)) return void(fuse_reply_err(req, ENOTDIR));
    if (directory.opaque()) return void(fuse_reply_err(req, EACCES));
    std::vector<char> buffer(std::min(size, kListingBuffer));
    std::size_t used = 0;
    for (auto at = static_cast<std::uint64_t>(offset); at < directory.children + 2ULL; ++at) {
      const FileIndex child = at == 0 ? index : at == 1 ? directory.parent : directory.first_child + FileIndex(at - 2);
      const std::string name = at == 0 ? "." : at == 1 ? ".." : std::string(core.manifest->at(child).name);
      const std::size_t need = add(core, buffer.data() + used, buffer.size() - used, name, child, off_t(at + 1));
      if (need > buffer.size() - used) break;
      used += need;
    }
    fuse_reply_buf(req, buffer.data(), used);
  });
}

void readdir(fuse_req_t req, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* /*info*/) {
  list(req, node, size, offset,
       [req](ViewCore& core, char* at, std::size_t room, const std::string& name, FileIndex child, off_t next) {
         const auto st = core.attributes.of(child);
         return fuse_add_direntry(req, at, room, name.c_str(), &st, next);
       });
}

void readdirplus(fuse_req_t req, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* /*info*/) {
  list(req, node, size, offset,
       [req](ViewCore& core, char* at, std::size_t room, const std::string& name, FileIndex child, off_t next) {
         const auto entry = entry_of(req, core, child);
         return fuse_add_direntry_plus(req, at, room, name.c_str(), &entry, next);
       });
}

void read(fuse_req_t req, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* /*info*/) {
  guarded(req, node,
          [&](ViewCore& core, FileIndex index) { core.read(req, index, size, static_cast<std::uint64_t>(offset)); });
}

void lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, fuse_file_info* /*info*/) {
  guarded(req, node, [&](ViewCore& core, FileIndex index) {
    const auto found = core.seek(index, offset, whence);
    if (found < 0) {
      fuse_reply_err(req, static_cast<int>(-found));
    } else {
      fuse_reply_lseek(req, found);
    }
  });
}

bool kept(std::string_view name) {
  return name.starts_with("user.") || name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

void reply_sized(fuse_req_t req, const std::string& value, std::size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, value.size());
  } else if (size < value.size()) {
    fuse_reply_err(req, ERANGE);
  } else {
    fuse_reply_buf(req, value.data(), value.size());
  }
}

void getxattr(fuse_req_t req, fuse_ino_t node, const char* name, std::size_t size) {
  guarded(req, node, [&](ViewCore& core, FileIndex index) {
    if (!kept(name)) return void(fuse_reply_err(req, ENODATA));
    core.with_meta(req, index, [wanted = std::string(name), size](fuse_req_t r, const FileMeta& meta) {
      for (const auto& [key, value] : meta.xattrs)
        if (key == wanted) return reply_sized(r, value, size);
      fuse_reply_err(r, ENODATA);
    });
  });
}

void listxattr(fuse_req_t req, fuse_ino_t node, std::size_t size) {
  guarded(req, node, [&](ViewCore& core, FileIndex index) {
    core.with_meta(req, index, [size](fuse_req_t r, const FileMeta& meta) {
      std::string names;
      for (const auto& [key, value] : meta.xattrs) names.append(key).push_back('\0');
      reply_sized(r, names, size);
    });
  });
}

void statfs(fuse_req_t req, fuse_ino_t node) {
  guarded(req, node, [&](ViewCore& core, FileIndex /*index*/) {
    const auto& summary = core.manifest->summary();
    struct statvfs st {};
    st.f_bsize = st.f_frsize = 4096;
    st.f_blocks = (summary.bytes + 4095) / 4096;
    st.f_files = summary.entries;
    st.f_namemax = 255;
    fuse_reply_statfs(req, &st);
  });
}

/// Nothing is counted per node: all of them are positions in the manifest.
void forget(fuse_req_t req, fuse_ino_t /*node*/, std::uint64_t /*times*/) {
  fuse_reply_none(req);
}

void forget_multi(fuse_req_t req, std::size_t /*count*/, fuse_forget_data* /*forgets*/) {
  fuse_reply_none(req);
}

}  // namespace

const fuse_lowlevel_ops& view_operations() {
  static const fuse_lowlevel_ops kOps = [] {
    fuse_lowlevel_ops ops{};
    ops.init = init;
    ops.lookup = lookup;
    ops.forget = forget;
    ops.forget_multi = forget_multi;
    ops.getattr = getattr;
    ops.readlink = readlink;
    ops.open = open;
    ops.release = release;
    ops.read = read;
    ops.lseek = lseek;
    ops.opendir = opendir;
    ops.releasedir = releasedir;
    ops.readdir = readdir;
    ops.readdirplus = readdirplus;
    ops.getxattr = getxattr;
    ops.listxattr = listxattr;
    ops.statfs = statfs;
    return ops;
  }();
  return kOps;
}

}  // namespace atlas::view
