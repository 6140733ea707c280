#include "cache-agent/origin/posix_origin.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>

#include "cache-agent/origin/acl.h"
#include "cache-agent/origin/beneath.h"
#include "cache-agent/origin/walker.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

constexpr std::uint64_t kHoleUnit = 1024 * 1024;
/// Larger files are read in pieces by several threads and nodes: what the kernel reads ahead of one's end is another's,
/// and comes twice. The pieces are large, and many are under way.
constexpr std::uint64_t kReadInPieces = 8UL * 1024 * 1024;

using ListXattr = std::function<ssize_t(char*, std::size_t)>;
using GetXattr = std::function<ssize_t(const char*, void*, std::size_t)>;

bool no_xattrs_here(int err) {
  return err == ENOTSUP || err == ENODATA || err == ENOSYS;
}

/// A buffer-filling call repeated until its answer fits. Empty when there is none or it may not be read.
Result<std::optional<std::string>> grow(const std::function<ssize_t(char*, std::size_t)>& call) {
  std::string buffer(1024, '\0');
  for (;;) {
    const ssize_t got = call(buffer.data(), buffer.size());
    if (got >= 0) {
      buffer.resize(static_cast<std::size_t>(got));
      return buffer;
    }
    if (errno == ERANGE && buffer.size() < 1024 * 1024) {
      buffer.resize(buffer.size() * 4);
      continue;
    }
    if (no_xattrs_here(errno) || errno == EACCES || errno == EPERM) return std::nullopt;
    return fail_errno(errno, "extended attributes");
  }
}

Result<FileMeta> read_meta(PosixOrigin::Counters& counters, const ListXattr& list, const GetXattr& get) {
  FileMeta meta;
  counters.operations.fetch_add(1, std::memory_order_relaxed);
  ATLAS_ASSIGN(const auto names, grow(list));
  if (!names) return meta;
  for (std::size_t at = 0; at < names->size();) {
    const std::string name = names->c_str() + at;
    at += name.size() + 1;
    if (classify_xattr(name, "") == XattrClass::skip && !needs_value(name)) continue;
    counters.operations.fetch_add(1, std::memory_order_relaxed);
    ATLAS_ASSIGN(auto value, grow([&](char* into, std::size_t size) { return get(name.c_str(), into, size); }));
    if (!value) continue;
    switch (classify_xattr(name, *value)) {
      case XattrClass::keep:
        meta.xattrs.emplace_back(name, std::move(*value));
        break;
      case XattrClass::skip:
        break;
      case XattrClass::unrepresentable:
        return fail(Code::unimplemented, "its ACL (" + name + ") has no equivalent on a local file system");
    }
  }
  std::sort(meta.xattrs.begin(), meta.xattrs.end());
  return meta;
}

bool same_file(const EntryAttributes& seen, EntryAttributes expected) {
  expected.flags = 0;
  return seen == expected;
}

class PosixFile final : public OriginFile {
 public:
  PosixFile(UniqueFd fd, std::string path, EntryAttributes expected, bool sparse,
            std::shared_ptr<PosixOrigin::Counters> counters, std::shared_ptr<void> within)
      : fd_(std::move(fd)),
        path_(std::move(path)),
        expected_(expected),
        sparse_(sparse),
        counters_(std::move(counters)),
        within_(std::move(within)) {}

  Result<Piece> read(Bytes offset, std::span<std::byte> into) override {
    std::uint64_t length =
        std::min<std::uint64_t>(into.size(), expected_.size - std::min(expected_.size, offset.count));
    if (sparse_ && length != 0) {
      const off_t data = seek(offset.count, SEEK_DATA);
      if (data < 0 && errno != ENXIO) return fail_errno(errno, path_);
      const std::uint64_t next = data < 0 ? expected_.size : std::min(static_cast<std::uint64_t>(data), expected_.size);
      const std::uint64_t edge = next == expected_.size ? next : next / kHoleUnit * kHoleUnit;
      if (edge > offset.count) {
        ATLAS_TRY(unchanged());
        return Piece{Bytes{edge - offset.count}, true};
      }
      const off_t hole = seek(next, SEEK_HOLE);
      if (hole > 0) {
        const std::uint64_t end = (static_cast<std::uint64_t>(hole) + kHoleUnit - 1) / kHoleUnit * kHoleUnit;
        length = std::min(length, end - offset.count);
      }
    }
    std::uint64_t done = 0;
    while (done < length) {
      const ssize_t got = pread(fd_.get(), into.data() + done, length - done, static_cast<off_t>(offset.count + done));
      if (got < 0 && direct_ && (errno == EINVAL || errno == EOPNOTSUPP)) {  // the file's end, or its storage cannot
        ATLAS_TRY(read_directly(false));
        continue;
      }
      counters_->operations.fetch_add(1, std::memory_order_relaxed);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail_errno(errno, "cannot read " + printable(path_));
      if (got == 0) return fail(Code::aborted, printable(path_) + " became shorter while it was read");
      done += static_cast<std::uint64_t>(got);
    }
    counters_->bytes.fetch_add(done, std::memory_order_relaxed);
    ATLAS_TRY(unchanged());
    return Piece{Bytes{length}, false};
  }

  void expect_pieces() override { posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_RANDOM); }

  /// Past the node's page cache it takes a sixth less of the CPU, all of a piece is asked for at once, and what jobs
  /// have in memory stays there.
  void expect_no_second_read() override {
    if (expected_.size > kReadInPieces) (void)read_directly(true);  // refused: then by way of the page cache
  }

  Result<FileMeta> meta() override {
    return read_meta(
        *counters_, [&](char* into, std::size_t size) { return flistxattr(fd_.get(), into, size); },
        [&](const char* name, void* into, std::size_t size) { return fgetxattr(fd_.get(), name, into, size); });
  }

 private:
  [[nodiscard]] Status read_directly(bool direct) {
    const int flags = fcntl(fd_.get(), F_GETFL);
    if (flags < 0 || fcntl(fd_.get(), F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) != 0)
      return fail_errno(errno, printable(path_));
    direct_ = direct;
    return {};
  }
  [[nodiscard]] off_t seek(std::uint64_t from, int whence) const {
    counters_->operations.fetch_add(1, std::memory_order_relaxed);
    return lseek(fd_.get(), static_cast<off_t>(from), whence);
  }
  [[nodiscard]] Status unchanged() const {
    struct stat st {};
    if (fstat(fd_.get(), &st) != 0) return fail_errno(errno, printable(path_));
    if (!same_file(attributes_of(st), expected_))
      return fail(Code::aborted, printable(path_) + " changed while it was read");
    return {};
  }

  UniqueFd fd_;
  std::string path_;
  EntryAttributes expected_;
  bool sparse_, direct_ = false;
  std::shared_ptr<PosixOrigin::Counters> counters_;
  std::shared_ptr<void> within_;  ///< its directory stays open for those that are opened next
};

std::string_view parent_of(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::string_view name_of(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

tl::unexpected<Error> cannot_open(const std::string& path, int err) {
  if (err == ENOENT || err == ENOTDIR || err == ELOOP)
    return fail(Error{Code::aborted, printable(path) + " went away after it was listed", err});
  return fail_errno(err, "cannot open " + printable(path));
}

}  // namespace

PosixOrigin::PosixOrigin(std::string name, std::string root, unsigned operations)
    : name_(std::move(name)), root_(std::move(root)), pool_(operations) {}

Status PosixOrigin::walk(const Principal& as, const std::string& dataset, const Patterns& exclude, EntrySink& sink,
                         std::stop_token stop) {
  // A walk decides whether a job may start, so it does not wait behind the reads of somebody's warm-up.
  return walk_tree({root_, dataset, as, counters_}, exclude, sink, stop, [this, &as](std::function<void(Status)> task) {
    pool_.post(as, Urgency::read_ahead, std::move(task));
  });
}

Status PosixOrigin::check_access(const Principal& as, const std::string& dataset, std::chrono::milliseconds limit) {
  struct Answer {
    std::mutex mutex;  // guards what follows
    std::condition_variable ready;
    std::optional<Status> status;
  };
  const auto answer = std::make_shared<Answer>();
  pool_.post(as, Urgency::fault, [answer, context = WalkContext{root_, dataset, as, counters_}](const Status& able) {
    Status status = able;
    if (able) {
      const auto root = look_at_root(context);
      if (!root) status = fail(root.error());
    }
    const std::lock_guard lock(answer->mutex);
    answer->status = std::move(status);
    answer->ready.notify_all();
  });
  std::unique_lock lock(answer->mutex);
  if (!answer->ready.wait_for(lock, limit, [&] { return answer->status.has_value(); }))
    return fail(Code::deadline_exceeded, "origin " + name_ + " did not answer within " + format_duration(limit));
  return *answer->status;
}

Result<std::unique_ptr<OriginFile>> PosixOrigin::open(const std::string& path, const EntryAttributes& expected) {
  const auto asked = std::chrono::steady_clock::now();
  bool fresh = false;
  auto file = open_since(asked - OpenDirectories::kTrusted, path, expected, fresh);
  // Where an earlier opening of its directory does not lead to the file, its path may.
  if (!file && !fresh) file = open_since(asked, path, expected, fresh);
  return file;
}

Result<std::unique_ptr<OriginFile>> PosixOrigin::open_since(OpenDirectories::Time since, const std::string& path,
                                                            const EntryAttributes& expected, bool& fresh) {
  const std::string where = root_ + "/" + path;
  const auto directory = directories_.open(root_, std::string(parent_of(path)), since);
  fresh = !directory || directory->fresh;
  counters_->operations.fetch_add(fresh ? 2 : 1, std::memory_order_relaxed);
  if (!directory && directory.error().code == Code::unavailable) return fail(directory.error());  // no such origin now
  if (!directory) return cannot_open(where, directory.error().sys_errno);
  auto fd = open_beneath(directory->fd->get(), name_of(path), O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!fd) return cannot_open(where, fd.error().sys_errno);
  // What its client has just learned will do, if that is what was expected; after each read the storage is asked.
  struct stat st {};
  const auto as_expected = [&] { return same_file(attributes_of(st), expected); };
  const auto has_holes = [&] {
    return static_cast<std::uint64_t>(st.st_blocks) * 512 < static_cast<std::uint64_t>(st.st_size);
  };
  const bool known =
      fstatat(fd->get(), "", &st, AT_EMPTY_PATH | AT_STATX_DONT_SYNC) == 0 && as_expected() && !has_holes();
  if (!known && fstat(fd->get(), &st) != 0) return fail_errno(errno, printable(path));
  if (!as_expected()) return fail(Code::aborted, printable(where) + " changed after it was listed");
  if (expected.size > kReadInPieces) posix_fadvise(fd->get(), 0, 0, POSIX_FADV_RANDOM);  // refused: it is only advice
  return std::make_unique<PosixFile>(std::move(*fd), where, expected, has_holes(), counters_, directory->directory);
}

Result<FileMeta> PosixOrigin::meta_of(const std::string& path, const EntryAttributes& expected) {
  ATLAS_ASSIGN(const UniqueFd root, open_origin_root(root_));
  counters_->operations.fetch_add(1, std::memory_order_relaxed);
  ATLAS_ASSIGN(const UniqueFd fd, open_beneath(root.get(), path, O_PATH));
  struct stat st {};
  if (fstat(fd.get(), &st) != 0) return fail_errno(errno, printable(path));
  if (attributes_of(st).type != expected.type)
    return fail(Code::aborted, printable(root_ + "/" + path) + " changed after it was listed");
  // An O_PATH descriptor takes no xattr calls itself; its link in /proc does, and leads nowhere else.
  const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
  return read_meta(
      *counters_, [&](char* into, std::size_t size) { return listxattr(link.c_str(), into, size); },
      [&](const char* name, void* into, std::size_t size) { return getxattr(link.c_str(), name, into, size); });
}

Result<UniqueFd> PosixOrigin::open_live(const std::string& path, int flags) {
  ATLAS_ASSIGN(const UniqueFd root, open_origin_root(root_));
  counters_->operations.fetch_add(1, std::memory_order_relaxed);
  return open_beneath(root.get(), path, flags);
}

void PosixOrigin::count(Bytes read) {
  counters_->operations.fetch_add(1, std::memory_order_relaxed);
  counters_->bytes.fetch_add(read.count, std::memory_order_relaxed);
}

void PosixOrigin::run(const Principal& as, Urgency urgency, std::function<void(Status)> task) {
  pool_.post(as, urgency, std::move(task));
}

void PosixOrigin::run_for(const std::string& path, const Principal& as, Urgency urgency,
                          std::function<void(Status)> task) {
  pool_.post(as, urgency, [this, path, as, urgency, task = std::move(task)](const Status& able) {
    if (!able) return task(able);
    const auto turn = directories_.turn(std::string(parent_of(path)),
                                        [this, path, as, urgency, task] { run_for(path, as, urgency, task); });
    if (turn) task(able);
  });
}

OriginCounters PosixOrigin::counters() const {
  return {counters_->operations.load(std::memory_order_relaxed), counters_->bytes.load(std::memory_order_relaxed)};
}

}  // namespace atlas::agent
