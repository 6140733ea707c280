// Reading directories. An open directory is a DIR of its own, so that two readers do not share an offset.
#include <dirent.h>
#include <fcntl.h>

#include <cerrno>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/support/slow_origin/filesystem.h"

namespace atlas::slow_origin::detail {
namespace {

struct OpenDirectory {
  explicit OpenDirectory(DIR* opened) : stream(opened) {}
  ~OpenDirectory() { closedir(stream); }
  OpenDirectory(const OpenDirectory&) = delete;
  OpenDirectory& operator=(const OpenDirectory&) = delete;

  std::mutex mutex;  ///< guards the rest: threads of one reader may share a descriptor
  DIR* stream;
  dirent* pending = nullptr;  ///< read, but did not fit into the last answer
  off_t at = 0;
};

OpenDirectory& from(const fuse_file_info* info) {
  return *reinterpret_cast<OpenDirectory*>(
      info->fh);  // NOLINT(performance-no-int-to-ptr): fh is libfuse's place for it
}

void opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) {
  Passage passage(req, Op::kOpendir, ino);
  if (passage.refused()) return;
  Fd fd = passage.fs().nodes.open(ino, O_RDONLY | O_DIRECTORY);
  int error = fd.error();
  if (error == 0) error = squash_check(req, fd.get(), S_IROTH);
  DIR* stream = error == 0 ? fdopendir(fd.get()) : nullptr;
  if (stream == nullptr) {
    fuse_reply_err(req, error != 0 ? error : errno);
    return;
  }
  (void)fd.release();  // the stream owns it now
  auto opened = std::make_unique<OpenDirectory>(stream);
  info->fh = reinterpret_cast<std::uint64_t>(opened.get());
  if (fuse_reply_open(req, info) == 0) (void)opened.release();  // releasedir() deletes it
}

/// Fills `answer` with the entries from `offset` on. Returns the bytes used, or a negative errno.
ssize_t fill(fuse_req_t req, OpenDirectory& directory, off_t offset, std::vector<char>& answer) {
  std::size_t used = 0;
  const std::lock_guard guard(directory.mutex);
  if (offset != directory.at) {
    seekdir(directory.stream, offset);
    directory.pending = nullptr;
    directory.at = offset;
  }
  for (;;) {
    errno = 0;
    if (directory.pending == nullptr) directory.pending = ::readdir(directory.stream);
    if (directory.pending == nullptr) {
      if (errno != 0 && used == 0) return -errno;
      break;
    }
    const dirent& found = *directory.pending;
    struct stat st {};
    st.st_ino = found.d_ino;
    st.st_mode = static_cast<mode_t>(found.d_type) << 12;
    const std::size_t room = answer.size() - used;
    const std::size_t need = fuse_add_direntry(req, answer.data() + used, room, found.d_name, &st, found.d_off);
    if (need > room) break;
    used += need;
    directory.at = found.d_off;
    directory.pending = nullptr;
  }
  return static_cast<ssize_t>(used);
}

void readdir(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info* info) {
  Passage passage(req, Op::kReaddir, ino);
  if (passage.refused()) return;
  std::vector<char> answer(size);
  const ssize_t used = fill(req, from(info), offset, answer);
  // Answered without the directory's lock: the reader may close it at once, and releasedir() then frees the lock.
  if (used < 0) {
    fuse_reply_err(req, static_cast<int>(-used));
  } else {
    fuse_reply_buf(req, answer.data(), static_cast<std::size_t>(used));
  }
}

void releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info* info) {
  delete &from(info);
  fuse_reply_err(req, 0);
}

void fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* info) {
  Passage passage(req, Op::kFsync, ino);
  if (passage.refused()) return;
  const int fd = dirfd(from(info).stream);
  fuse_reply_err(req, (datasync != 0 ? fdatasync(fd) : fsync(fd)) == 0 ? 0 : errno);
}

}  // namespace

void directory_operations(fuse_lowlevel_ops& ops) {
  ops.opendir = opendir;
  ops.readdir = readdir;
  ops.releasedir = releasedir;
  ops.fsyncdir = fsyncdir;
}

}  // namespace atlas::slow_origin::detail
