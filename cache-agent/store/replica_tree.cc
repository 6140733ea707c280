#include "cache-agent/store/replica_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <vector>

#include "cache-agent/origin/beneath.h"
#include "cache-agent/origin/reader_pool.h"
#include "common/percent.h"
#include "common/units.h"

namespace atlas::agent {
namespace {

constexpr std::size_t kOpenDirectories = 64;
constexpr std::size_t kLeakBatch = 256;
constexpr std::uint64_t kLarge = 64ULL * 1024 * 1024;

timespec time_of(std::int64_t nanoseconds) {
  timespec t{};
  t.tv_sec = nanoseconds / 1'000'000'000;
  t.tv_nsec = nanoseconds % 1'000'000'000;
  if (t.tv_nsec < 0) {
    t.tv_nsec += 1'000'000'000;
    --t.tv_sec;
  }
  return t;
}

Status set_xattrs(int fd, const FileMeta& meta) {
  for (const auto& [name, value] : meta.xattrs) {
    if (fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) == 0) continue;
    if (errno == ENOTSUP || errno == EINVAL || errno == E2BIG)
      return fail(Error{Code::unimplemented, "the tier cannot hold its " + name, errno});
    return fail_errno(errno, "set " + name);
  }
  return {};
}

/// Owner before mode (chown clears setuid), ACL before mode, times last.
Status set_attributes(int fd, const EntryAttributes& a, const FileMeta* meta) {
  if (fchown(fd, a.uid, a.gid) != 0) return fail_errno(errno, "chown");
  if (meta != nullptr) ATLAS_TRY(set_xattrs(fd, *meta));
  if (fchmod(fd, a.mode) != 0) return fail_errno(errno, "chmod");
  const timespec times[2] = {time_of(a.mtime), time_of(a.mtime)};
  if (futimens(fd, times) != 0) return fail_errno(errno, "set times");
  return {};
}

Status set_attributes_at(int directory, const std::string& name, const EntryAttributes& a) {
  if (fchownat(directory, name.c_str(), a.uid, a.gid, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "chown");
  if (a.type != EntryType::symlink && fchmodat(directory, name.c_str(), a.mode, 0) != 0)
    return fail_errno(errno, "chmod");
  const timespec times[2] = {time_of(a.mtime), time_of(a.mtime)};
  if (utimensat(directory, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "set times");
  return {};
}

Status write_all(int fd, std::span<const std::byte> data, std::uint64_t offset) {
  while (!data.empty()) {
    const ssize_t wrote = pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return fail_errno(errno, "write");
    data = data.subspan(static_cast<std::size_t>(wrote));
    offset += static_cast<std::uint64_t>(wrote);
  }
  return {};
}

/// Makes a stretch read as zeros without writing them. `fresh` files have nothing there.
Status make_hole(int fd, bool fresh, std::uint64_t offset, std::uint64_t length) {
  if (fresh || length == 0) return {};
  if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(length)) == 0)
    return {};
  if (errno != EOPNOTSUPP && errno != ENOSYS) return fail_errno(errno, "make a hole");
  static const std::vector<std::byte> kZeros(kMiB.count);
  for (std::uint64_t done = 0; done < length; done += kZeros.size())
    ATLAS_TRY(
        write_all(fd, std::span(kZeros).first(std::min<std::uint64_t>(kZeros.size(), length - done)), offset + done));
  return {};
}

}  // namespace

std::string ReplicaTree::name_of(const Manifest& manifest, FileIndex index) {
  return index == 0 ? "tree" : std::string(manifest.at(index).name);
}

Result<ReplicaTree::Shared> ReplicaTree::open_directory(const Manifest& manifest, FileIndex index) const {
  {
    const std::lock_guard lock(mutex_);
    const auto it = open_.find(index);
    if (it != open_.end()) return it->second;
  }
  const std::string below = manifest.path(index);
  ATLAS_ASSIGN(UniqueFd fd,
               open_beneath(directory_.get(), below.empty() ? "tree" : "tree/" + below, O_RDONLY | O_DIRECTORY));
  auto shared = std::make_shared<const UniqueFd>(std::move(fd));
  const std::lock_guard lock(mutex_);
  if (open_.size() >= kOpenDirectories) open_.erase(open_.begin());  // low indexes first: higher ones are still to come
  open_[index] = shared;
  return shared;
}

Result<ReplicaTree::Shared> ReplicaTree::directory_of(const Manifest& manifest, FileIndex index) const {
  if (index != 0) return open_directory(manifest, manifest.at(index).parent);
  UniqueFd copy(fcntl(directory_.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return fail_errno(errno, "replica's directory");
  return std::make_shared<const UniqueFd>(std::move(copy));
}

Status ReplicaTree::make_special(const Manifest& manifest, FileIndex index) {
  const auto entry = manifest.at(index);
  ATLAS_ASSIGN(const Shared parent, directory_of(manifest, index));
  const std::string name = name_of(manifest, index);
  const auto& a = entry.attributes;
  int made = 0;
  switch (a.type) {
    case EntryType::directory:
      made = mkdirat(parent->get(), name.c_str(), 0700);
      break;
    case EntryType::symlink:
      made = symlinkat(std::string(entry.target).c_str(), parent->get(), name.c_str());
      break;
    case EntryType::fifo:
      made = mknodat(parent->get(), name.c_str(), S_IFIFO | 0600, 0);
      break;
    case EntryType::socket:
      made = mknodat(parent->get(), name.c_str(), S_IFSOCK | 0600, 0);
      break;
    case EntryType::char_device:
      made = mknodat(parent->get(), name.c_str(), S_IFCHR | 0600, a.rdev);
      break;
    case EntryType::block_device:
      made = mknodat(parent->get(), name.c_str(), S_IFBLK | 0600, a.rdev);
      break;
    case EntryType::file:
      return {};
  }
  if (made != 0 && errno != EEXIST) return fail_errno(errno, "make " + printable(manifest.path(index)));
  if (a.type == EntryType::directory) return {};
  return set_attributes_at(parent->get(), name, a);
}

Status ReplicaTree::make_skeleton(const Manifest& manifest) {
  for (FileIndex i = 0; i < manifest.size(); ++i) {
    const auto entry = manifest.at(i);
    if (entry.is(EntryType::file) || entry.leader != i) continue;
    if (auto made = make_special(manifest, i); !made) return fail(made.error().in(printable(manifest.path(i))));
  }
  return {};
}

Status ReplicaTree::write(const Manifest& manifest, const Piece& piece) {
  const auto entry = manifest.at(piece.file);
  ATLAS_ASSIGN(const Shared parent, directory_of(manifest, piece.file));
  const std::string name = name_of(manifest, piece.file);
  bool fresh = true;
  UniqueFd fd(openat(parent->get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd && errno == EEXIST) {
    fresh = false;
    fd = UniqueFd(openat(parent->get(), name.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  }
  if (!fd) return fail_errno(errno, "open");
  struct stat st {};
  if (!fresh && fstat(fd.get(), &st) != 0) return fail_errno(errno, "stat");
  // A file of several pieces gets its size with the first one: pieces arrive in any order.
  const std::uint64_t size = entry.attributes.size;
  if (static_cast<std::uint64_t>(st.st_size) != size && (piece.data.size() != size || piece.length != size || !fresh) &&
      ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
    return fail_errno(errno, "set size");
  if (piece.data.empty()) {
    ATLAS_TRY(make_hole(fd.get(), fresh, piece.offset, piece.length));
  } else {
    bool ends_in_hole = false;
    for (std::size_t block = 0; block < piece.zero.size();) {
      std::size_t end = block + 1;  // of a run of equal blocks
      while (end < piece.zero.size() && piece.zero[end] == piece.zero[block]) ++end;
      const std::size_t from = block * kMiB.count, to = std::min<std::size_t>(end * kMiB.count, piece.data.size());
      if (piece.zero[block]) {
        ATLAS_TRY(make_hole(fd.get(), fresh, piece.offset + from, to - from));
      } else {
        ATLAS_TRY(write_all(fd.get(), piece.data.subspan(from, to - from), piece.offset + from));
      }
      ends_in_hole = piece.zero[block];
      block = end;
    }
    if (fresh && ends_in_hole && piece.offset + piece.length == size &&
        ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
      return fail_errno(errno, "set size");
    if (size >= kLarge)  // start writing now: a job that starts next must not wait for gigabytes of dirty pages
      sync_file_range(fd.get(), static_cast<off_t>(piece.offset), static_cast<off_t>(piece.length),
                      SYNC_FILE_RANGE_WRITE);
  }
  if (piece.finish) return set_attributes(fd.get(), entry.attributes, piece.meta);
  return piece.meta != nullptr ? set_xattrs(fd.get(), *piece.meta) : Status{};
}

Result<UniqueFd> ReplicaTree::open_file(const Manifest& manifest, FileIndex file) const {
  ATLAS_ASSIGN(const Shared parent, directory_of(manifest, file));
  UniqueFd fd(openat(parent->get(), name_of(manifest, file).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "open");
  return fd;
}

Result<std::vector<std::pair<std::string, std::string>>> read_xattrs(int fd, bool (*wanted)(std::string_view name)) {
  std::string names(64 * 1024, '\0'), value(64 * 1024, '\0');  // the kernel's own limits
  const ssize_t size = flistxattr(fd, names.data(), names.size());
  if (size < 0 && errno != ENOTSUP) return fail_errno(errno, "list xattrs");
  std::vector<std::pair<std::string, std::string>> found;
  for (ssize_t at = 0; at < size;) {
    const std::string name = names.c_str() + at;
    at += static_cast<ssize_t>(name.size()) + 1;
    if (!wanted(name)) continue;
    const ssize_t length = fgetxattr(fd, name.c_str(), value.data(), value.size());
    if (length < 0) return fail_errno(errno, name);
    found.emplace_back(name, value.substr(0, static_cast<std::size_t>(length)));
  }
  return found;
}

Result<FileMeta> ReplicaTree::meta_of(const Manifest& manifest, FileIndex file) const {
  ATLAS_ASSIGN(const UniqueFd fd, open_file(manifest, file));
  FileMeta meta;
  ATLAS_ASSIGN(meta.xattrs, read_xattrs(fd.get(), [](std::string_view name) {
                 return name.starts_with("user.") || name.starts_with("system.posix_acl_");
               }));
  return meta;
}

Result<std::size_t> ReplicaTree::read(const Manifest& manifest, FileIndex file, std::uint64_t offset,
                                      std::span<std::byte> into) const {
  ATLAS_ASSIGN(const UniqueFd fd, open_file(manifest, file));
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = pread(fd.get(), into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

Status ReplicaTree::make_link(const Manifest& manifest, FileIndex index) {
  const FileIndex leader = manifest.at(index).leader;
  ATLAS_ASSIGN(const Shared from, directory_of(manifest, leader));
  ATLAS_ASSIGN(const Shared to, directory_of(manifest, index));
  if (linkat(from->get(), name_of(manifest, leader).c_str(), to->get(), name_of(manifest, index).c_str(), 0) != 0 &&
      errno != EEXIST)
    return fail_errno(errno, "link");
  return {};
}

Status ReplicaTree::link_from(const ReplicaTree& other, const Manifest& theirs, FileIndex from,
                              const Manifest& manifest, FileIndex to) const {
  ATLAS_ASSIGN(const Shared there, other.directory_of(theirs, from));
  ATLAS_ASSIGN(const Shared here, directory_of(manifest, to));
  // EEXIST is no success: a broken warm-up may have left half a file under that name.
  if (linkat(there->get(), name_of(theirs, from).c_str(), here->get(), name_of(manifest, to).c_str(), 0) != 0)
    return fail_errno(errno, "link");
  return {};
}

Status ReplicaTree::replace_by_link(const Manifest& manifest, FileIndex file, const ReplicaTree& other,
                                    const Manifest& theirs, FileIndex from) const {
  static constexpr const char* kFresh = "fresh-link";  // beside the tree: no name of the user's is in its way
  ATLAS_ASSIGN(const Shared there, other.directory_of(theirs, from));
  ATLAS_ASSIGN(const Shared here, directory_of(manifest, file));
  if (unlinkat(directory_.get(), kFresh, 0) != 0 && errno != ENOENT) return fail_errno(errno, "remove a link");
  if (linkat(there->get(), name_of(theirs, from).c_str(), directory_.get(), kFresh, 0) != 0)
    return fail_errno(errno, "link");
  if (renameat(directory_.get(), kFresh, here->get(), name_of(manifest, file).c_str()) == 0) return {};
  const int err = errno;
  unlinkat(directory_.get(), kFresh, 0);
  return fail_errno(err, "rename a link");
}

Status ReplicaTree::restore_times(const Manifest& manifest, FileIndex directory) const {
  ATLAS_ASSIGN(const Shared fd, open_directory(manifest, directory));
  const auto time = time_of(manifest.at(directory).attributes.mtime);
  const timespec times[2] = {time, time};
  return futimens(fd->get(), times) == 0 ? Status{} : Status(fail_errno(errno, "set times"));
}

Result<ReplicaTree::Inode> ReplicaTree::inode_of(const Manifest& manifest, FileIndex file) const {
  ATLAS_ASSIGN(const Shared parent, directory_of(manifest, file));
  struct stat st {};
  if (fstatat(parent->get(), name_of(manifest, file).c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
    return fail_errno(errno, "stat");
  return Inode{st.st_nlink, static_cast<std::uint64_t>(st.st_blocks) * 512};
}

Status ReplicaTree::finish_file(const Manifest& manifest, FileIndex index) {
  ATLAS_ASSIGN(const Shared parent, directory_of(manifest, index));
  const UniqueFd fd(openat(parent->get(), name_of(manifest, index).c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "open");
  return set_attributes(fd.get(), manifest.at(index).attributes, nullptr);
}

Status ReplicaTree::make_opaque(const Manifest& manifest, FileIndex index, const FileMeta* meta) {
  const auto& a = manifest.at(index).attributes;
  ATLAS_ASSIGN(const Shared parent, directory_of(manifest, index));
  const UniqueFd fd(
      openat(parent->get(), name_of(manifest, index).c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, "open");
  if (ftruncate(fd.get(), static_cast<off_t>(a.size)) != 0) return fail_errno(errno, "set size");
  return set_attributes(fd.get(), a, meta);
}

Status ReplicaTree::finish(const Manifest& manifest, const Principal& as, const std::map<FileIndex, FileMeta>& metas) {
  const auto meta_of = [&](FileIndex i) {
    const auto it = metas.find(i);
    return it == metas.end() ? nullptr : &it->second;
  };
  const auto finish_one = [&](FileIndex i) -> Status {
    const auto entry = manifest.at(i);
    if (entry.leader != i) return make_link(manifest, i);
    if (!entry.is(EntryType::file)) return {};
    if (entry.opaque()) return make_opaque(manifest, i, meta_of(i));
    return entry.blocks > 1 ? finish_file(manifest, i) : Status{};
  };
  for (FileIndex i = 0; i < manifest.size(); ++i)
    if (auto done = finish_one(i); !done) return fail(done.error().in(printable(manifest.path(i))));
  // Children have higher indexes than their directories.
  for (FileIndex i = manifest.size(); i-- > 0;) {
    if (!manifest.at(i).is(EntryType::directory)) continue;
    ATLAS_ASSIGN(const Shared directory, open_directory(manifest, i));
    if (auto done = set_attributes(directory->get(), manifest.at(i).attributes, meta_of(i)); !done)
      return fail(done.error().in(printable(manifest.path(i))));
  }
  return close_what_leaks(manifest, as);
}

/// An origin may refuse what the attributes seem to allow (rules of its own, on the server). Whatever the walking
/// principal could open in the replica although the origin refused it is taken from everyone.
Status ReplicaTree::close_what_leaks(const Manifest& manifest, const Principal& as) {
  if (manifest.summary().opaque == 0 || geteuid() != 0) return {};
  std::vector<UniqueFd> batch;
  Status status;
  const auto judge = [&] {
    std::vector<bool> leaks(batch.size());
    // A thread of its own: it gives up the rights that would open everything.
    std::thread([&] {
      status = drop_reader_capabilities();
      if (status) status = become(as);
      for (std::size_t i = 0; status && i < batch.size(); ++i)
        leaks[i] = syscall(SYS_faccessat2, batch[i].get(), "", R_OK, AT_EACCESS | AT_EMPTY_PATH) == 0;
    }).join();
    for (std::size_t i = 0; status && i < batch.size(); ++i) {
      if (!leaks[i]) continue;
      const std::string link = "/proc/self/fd/" + std::to_string(batch[i].get());
      if (chown(link.c_str(), 0, 0) != 0 || chmod(link.c_str(), 0) != 0 ||
          (removexattr(link.c_str(), "system.posix_acl_access") != 0 && errno != ENODATA && errno != ENOTSUP))
        status = fail_errno(errno, "close an unreadable entry");
    }
    batch.clear();
  };
  for (FileIndex i = 0; status && i < manifest.size(); ++i) {
    const auto entry = manifest.at(i);
    if (!entry.opaque() || entry.leader != i) continue;
    ATLAS_ASSIGN(const Shared parent, directory_of(manifest, i));
    UniqueFd fd(openat(parent->get(), name_of(manifest, i).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return fail_errno(errno, printable(manifest.path(i)));
    batch.push_back(std::move(fd));
    if (batch.size() == kLeakBatch) judge();
  }
  if (status && !batch.empty()) judge();
  return status;
}

void ReplicaTree::forget(const Manifest& manifest, FileIndex file) const {
  const auto parent = directory_of(manifest, file);
  if (!parent) return;
  const UniqueFd fd(openat((*parent)->get(), name_of(manifest, file).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (fd) posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
}

void ReplicaTree::forget_large_files(const Manifest& manifest) const {
  for (FileIndex i = 0; i < manifest.size(); ++i) {
    const auto entry = manifest.at(i);
    if (entry.blocks != 0 && entry.attributes.size >= kLarge) forget(manifest, i);
  }
}

}  // namespace atlas::agent
