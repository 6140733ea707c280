// Open files and their data.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>

#include "tests/support/slow_origin/filesystem.h"

namespace atlas::slow_origin::detail {
namespace {

/// Of a handle: its reads may be answered with less than they ask for.
constexpr std::uint64_t kMayBeShort = 1ULL << 32U;

int fd_of(const fuse_file_info* info) {
  return static_cast<int>(info->fh & (kMayBeShort - 1));
}

mode_t access_bits(int flags) {
  switch (flags & O_ACCMODE) {
    case O_RDONLY:
      return S_IROTH;
    case O_WRONLY:
      return S_IWOTH;
    default:
      return S_IROTH | S_IWOTH;
  }
}

void open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) {
  Passage passage(req, Op::kOpen, ino);
  if (passage.refused()) return;
  // Checked before O_TRUNC could do harm.
  const Fd node = passage.fs().nodes.open(ino, O_PATH);
  int error = node.error();
  if (error == 0) error = squash_check(req, node.get(), access_bits(info->flags));
  if (error != 0) {
    fuse_reply_err(req, error);
    return;
  }
  // The kernel sends absolute offsets, so O_APPEND has no meaning here; pages are dropped at each open (no keep_cache).
  Fd fd = passage.fs().nodes.open(ino, info->flags & ~(O_NOFOLLOW | O_APPEND | O_CREAT | O_EXCL | O_DIRECT));
  if (!fd.ok()) {
    fuse_reply_err(req, fd.error());
    return;
  }
  info->fh = static_cast<std::uint64_t>(fd.get());
  if (const auto how = passage.fs().gate.shortens(passage.fs().nodes.path(ino))) {
    info->direct_io = how->cached ? 0 : 1;
    info->fh |= kMayBeShort;
  }
  if (fuse_reply_open(req, info) == 0) (void)fd.release();  // release() closes it
}

void create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  Passage passage(req, Op::kCreate, parent, name);
  if (passage.refused()) return;
  const Fd directory = passage.fs().nodes.open(parent, O_PATH);
  int error = directory.error();
  if (error == 0) error = squash_check(req, directory.get(), S_IWOTH | S_IXOTH);
  Fd fd;
  bool made = false;
  if (error == 0) {
    const int flags = (info->flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW) & ~(O_APPEND | O_DIRECT);
    int raw = openat(directory.get(), name, flags | O_EXCL, mode);
    made = raw >= 0;
    if (!made && errno == EEXIST && (info->flags & O_EXCL) == 0) raw = openat(directory.get(), name, flags, mode);
    fd = Fd(raw >= 0 ? raw : -errno);
    error = fd.error();
  }
  if (error == 0 && made) error = give_to_caller(req, directory.get(), name, mode | S_IFREG);
  fuse_entry_param entry{};
  if (error == 0) error = find_entry(passage.fs(), parent, directory.get(), name, entry);
  if (error != 0) {
    fuse_reply_err(req, error);
    return;
  }
  info->fh = static_cast<std::uint64_t>(fd.get());
  if (fuse_reply_create(req, &entry, info) == 0) (void)fd.release();
}

void release(fuse_req_t req, fuse_ino_t, fuse_file_info* info) {
  const Fd closed(fd_of(info));
  fuse_reply_err(req, 0);
}

void read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* info) {
  Passage passage(req, Op::kRead, ino);
  if (passage.refused()) return;
  auto& gate = passage.fs().gate;
  if ((info->fh & kMayBeShort) != 0) {
    struct stat st {};
    const auto how = gate.shortens(passage.fs().nodes.path(ino));
    if (how && how->most < size && fstat(fd_of(info), &st) == 0 &&
        offset + static_cast<off_t>(how->most) < st.st_size) {
      size = how->most;
      gate.note_short();
    }
  }
  const std::unique_ptr<char[]> data(new char[size]);
  const ssize_t got = pread(fd_of(info), data.get(), size, offset);
  if (got < 0) {
    fuse_reply_err(req, errno);
    return;
  }
  gate.moved(Op::kRead, fuse_req_ctx(req)->uid, static_cast<std::uint64_t>(got));
  fuse_reply_buf(req, data.get(), static_cast<std::size_t>(got));
}

void write(fuse_req_t req, fuse_ino_t ino, const char* data, std::size_t size, off_t offset, fuse_file_info* info) {
  Passage passage(req, Op::kWrite, ino);
  if (passage.refused()) return;
  const ssize_t put = pwrite(fd_of(info), data, size, offset);
  if (put < 0) {
    fuse_reply_err(req, errno);
    return;
  }
  passage.fs().gate.moved(Op::kWrite, fuse_req_ctx(req)->uid, static_cast<std::uint64_t>(put));
  fuse_reply_write(req, static_cast<std::size_t>(put));
}

void fsync(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* info) {
  Passage passage(req, Op::kFsync, ino);
  if (passage.refused()) return;
  fuse_reply_err(req, (datasync != 0 ? ::fdatasync(fd_of(info)) : ::fsync(fd_of(info))) == 0 ? 0 : errno);
}

void fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* info) {
  Passage passage(req, Op::kFallocate, ino);
  if (passage.refused()) return;
  fuse_reply_err(req, ::fallocate(fd_of(info), mode, offset, length) == 0 ? 0 : errno);
}

void lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* info) {
  Passage passage(req, Op::kLseek, ino);
  if (passage.refused()) return;
  const off_t found = ::lseek(fd_of(info), offset, whence);  // the kernel sends SEEK_DATA and SEEK_HOLE only
  if (found < 0) {
    fuse_reply_err(req, errno);
  } else {
    fuse_reply_lseek(req, found);
  }
}

}  // namespace

void file_operations(fuse_lowlevel_ops& ops) {
  ops.open = open;
  ops.create = create;
  ops.release = release;
  ops.read = read;
  ops.write = write;
  ops.fsync = fsync;
  ops.fallocate = fallocate;
  ops.lseek = lseek;
}

}  // namespace atlas::slow_origin::detail
