// Data of a writable view: written to the origin at once, read from the cache as long as that is the same.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "cache-agent/view/fuse/connection.h"
#include "cache-agent/view/fuse/view_core.h"
#include "cache-agent/view/fuse/writable.h"

namespace atlas::view {
namespace {

using Answer = Writable::Answer;
using OpenFile = Writable::OpenFile;

/// What of the caller's flags is for the origin. Of O_DIRECT the kernel keeps the promise here, and its alignment need
/// not suit the origin; O_NONBLOCK, should a pipe have taken the file's place meanwhile.
int flags_for_origin(int flags) {
  return (flags & (O_ACCMODE | O_TRUNC | O_APPEND | O_SYNC | O_DSYNC)) | O_NONBLOCK | O_NOCTTY;
}

bool writes(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
}

/// Where an append ends the origin decides, not the kernel's idea of the file's size; so nothing of it goes through the
/// page cache. All others begin with what the file has now: its pages are dropped.
void set_modes(fuse_file_info& info, const OpenFile& file) {
  info.direct_io = file.appends ? 1 : 0;
  info.keep_cache = 0;
}

void open(fuse_req_t req, fuse_ino_t node, fuse_file_info* info) {
  auto& self = writable_of(req);
  if (writes(info->flags)) self.nodes.touch(node);
  self.run(req, node, [&self, node, info = *info]() -> Answer {
    auto fd = self.open(node, flags_for_origin(info.flags));
    if (!fd) return refuse(fd.error());
    const auto live = Writable::look(fd->get());
    if (!live) return refuse(live.error());
    static_cast<void>(self.nodes.cached(node, live->st));
    const auto file = std::make_shared<OpenFile>(OpenFile{std::move(*fd), node, (info.flags & O_APPEND) != 0});
    return [&self, file, info](fuse_req_t r) mutable {
      set_modes(info, *file);
      info.fh = self.keep(file);
      if (fuse_reply_open(r, &info) != 0) self.close(info.fh);
    };
  });
}

void create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  auto& self = writable_of(req);
  self.nodes.touch_name(parent, name);
  const mode_t mask = fuse_req_ctx(req)->umask;
  self.run(req, parent, [&self, parent, mode, mask, name = std::string(name), info = *info]() -> Answer {
    const auto directory = self.open(parent, O_PATH | O_DIRECTORY);
    if (!directory) return refuse(directory.error());
    if (!set_mask(mask)) return refuse(EPERM);
    const int flags = flags_for_origin(info.flags) | (info.flags & O_EXCL) | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
    UniqueFd fd(::openat(directory->get(), name.c_str(), flags, mode & 07777));
    if (!fd) return refuse(errno);
    const auto live = Writable::look(fd.get());
    if (!live) return refuse(live.error());
    if (!S_ISREG(live->st.st_mode)) return refuse(ESTALE);
    const auto file = std::make_shared<OpenFile>(OpenFile{std::move(fd), 0, (info.flags & O_APPEND) != 0});
    return [&self, parent, name, live = *live, file, info](fuse_req_t r) mutable {
      const auto entry = entry_of(self, parent, name, live);
      file->node = entry.ino;
      self.nodes.touch(entry.ino);
      set_modes(info, *file);
      info.fh = self.keep(file);
      if (fuse_reply_create(r, &entry, &info) == 0) return;
      self.nodes.forget(entry.ino, 1);
      self.close(info.fh);
    };
  });
}

/// What is answered with less than was asked for, the kernel takes for the file's end, and fills its page with zeros.
Answer read_origin(Writable& self, const OpenFile& file, std::size_t size, off_t offset) {
  std::string data(size, '\0');
  std::size_t got = 0;
  bool ended = false;
  while (got < size) {
    const off_t at = offset + static_cast<off_t>(got);
    const ssize_t n = pread(file.fd.get(), data.data() + got, size - got, at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return refuse(errno);
    if (n == 0) {
      struct stat st {};
      if (fstat(file.fd.get(), &st) != 0) return refuse(errno);
      if (st.st_size <= at) break;
      if (std::exchange(ended, true)) return refuse(EIO);  // it has not grown just now
      continue;
    }
    ended = false;
    got += static_cast<std::size_t>(n);
  }
  data.resize(got);
  self.count(Bytes{got});
  return [data = std::move(data)](fuse_req_t req) { fuse_reply_buf(req, data.data(), data.size()); };
}

void read(fuse_req_t req, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* info) {
  auto& self = writable_of(req);
  const auto file = self.file(info->fh);
  if (!file) return void(fuse_reply_err(req, ESTALE));
  size = std::min<std::size_t>(size, kMaxRead.count);
  if (const auto index = self.nodes.unchanged(node)) {
    // When the origin turns out to have another file, that one is read.
    return Connection::of(req).core().read(
        req, *index, size, static_cast<std::uint64_t>(offset),
        [&self, file, size, offset](const std::shared_ptr<Parked>& parked) {
          self.nodes.touch(file->node);
          self.run(parked, [&self, file, size, offset] { return read_origin(self, *file, size, offset); });
        });
  }
  self.run(req, node, [&self, file, size, offset] { return read_origin(self, *file, size, offset); });
}

void write(fuse_req_t req, fuse_ino_t node, const char* data, std::size_t size, off_t offset, fuse_file_info* info) {
  auto& self = writable_of(req);
  self.nodes.touch(node);
  const auto file = self.file(info->fh);
  if (!file) return void(fuse_reply_err(req, ESTALE));
  self.run(req, node, [&self, file, bytes = std::string(data, size), offset]() -> Answer {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t n =
          pwrite(file->fd.get(), bytes.data() + done, bytes.size() - done, offset + static_cast<off_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && done == 0) return refuse(errno);
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    self.count(Bytes{});
    return [done](fuse_req_t r) { fuse_reply_write(r, done); };
  });
}

/// A close: storage that writes later tells here what it could not write.
void flush(fuse_req_t req, fuse_ino_t node, fuse_file_info* info) {
  auto& self = writable_of(req);
  const auto file = self.file(info->fh);
  if (!file) return void(fuse_reply_err(req, ESTALE));
  self.run(req, node, [file]() -> Answer {
    const int copy = fcntl(file->fd.get(), F_DUPFD_CLOEXEC, 3);
    return copy >= 0 && ::close(copy) == 0 ? done() : refuse(errno);
  });
}

void release(fuse_req_t req, fuse_ino_t /*node*/, fuse_file_info* info) {
  writable_of(req).close(info->fh);
  fuse_reply_err(req, 0);
}

void fsync(fuse_req_t req, fuse_ino_t node, int data_only, fuse_file_info* info) {
  auto& self = writable_of(req);
  const auto file = self.file(info->fh);
  if (!file) return void(fuse_reply_err(req, ESTALE));
  self.run(req, node, [file, data_only]() -> Answer {
    return (data_only != 0 ? fdatasync(file->fd.get()) : ::fsync(file->fd.get())) == 0 ? done() : refuse(errno);
  });
}

void fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length, fuse_file_info* info) {
  auto& self = writable_of(req);
  self.nodes.touch(node);
  const auto file = self.file(info->fh);
  if (!file) return void(fuse_reply_err(req, ESTALE));
  self.run(req, node, [file, mode, offset, length]() -> Answer {
    return ::fallocate(file->fd.get(), mode, offset, length) == 0 ? done() : refuse(errno);
  });
}

void lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, fuse_file_info* info) {
  auto& self = writable_of(req);
  const auto file = self.file(info->fh);
  if (!file) return void(fuse_reply_err(req, ESTALE));
  self.run(req, node, [file, offset, whence]() -> Answer {
    // A descriptor of its own: reads and writes here say where they are, so its position is nobody's.
    const off_t found = ::lseek(file->fd.get(), offset, whence);
    if (found < 0) return refuse(errno);
    return [found](fuse_req_t r) { fuse_reply_lseek(r, found); };
  });
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops& ops) {
  ops.open = Edge<open>::call;
  ops.create = Edge<create>::call;
  ops.read = Edge<read>::call;
  ops.write = Edge<write>::call;
  ops.flush = Edge<flush>::call;
  ops.release = Edge<release>::call;
  ops.fsync = Edge<fsync>::call;
  ops.fallocate = Edge<fallocate>::call;
  ops.lseek = Edge<lseek>::call;
}

}  // namespace atlas::view
