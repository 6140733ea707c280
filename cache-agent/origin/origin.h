#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>

#include "cache-agent/manifest/ids.h"
#include "cache-agent/manifest/manifest.h"
#include "common/patterns.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "common/units.h"

namespace atlas::agent {

/// Who is served first when an origin's operations are all in use.
enum class Urgency : std::uint8_t { fault, read_ahead, warm_running, warm_queued, move };
inline constexpr std::size_t kUrgencies = 5;

/// Operations and bytes that an origin was asked for by this process.
struct OriginCounters {
  std::uint64_t operations = 0;
  std::uint64_t bytes = 0;
};

/// A file of an origin, opened as a user. Used by one thread at a time, on the origin's pool.
class OriginFile {
 public:
  virtual ~OriginFile() = default;
  /// One stretch of the file: data, or a hole.
  struct Piece {
    Bytes length;  ///< of data in `into`; of a hole: it ends on a boundary of 1 MiB, or with the file
    bool hole = false;
  };
  /// Reads from `offset` until `into` is full, the file ends, or a hole of at least 1 MiB begins.
  /// aborted when the file is no longer the one the walk saw: size, mtime and ctime are compared after the read.
  [[nodiscard]] virtual Result<Piece> read(Bytes offset, std::span<std::byte> into) = 0;
  /// Only pieces of it will be read: the storage need not read ahead of what is asked for.
  virtual void expect_pieces() {}
  /// Each byte of it will be read once, in large pieces and into memory that begins on a page: this node's own memory
  /// need not keep it.
  virtual void expect_no_second_read() {}
  /// user.* xattrs and POSIX ACLs. unimplemented when it has an ACL of another kind, which no local file can carry.
  [[nodiscard]] virtual Result<FileMeta> meta() = 0;
};

/// Shared storage. Every call blocks and is made as a principal: the storage decides what he may see.
class Origin {
 public:
  virtual ~Origin() = default;
  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual const std::string& root() const = 0;

  /// All entries of a dataset, in parallel, given to the sink by the calling thread. What the principal may not read is
  /// opaque, not an error. Call it from a thread that is not one of the origin's own. permission_denied, not_found,
  /// invalid_argument (neither directory nor file, or reached through a symlink) concern the root and name path and
  /// user; unavailable when the storage fails; cancelled when asked to stop, even if the storage hangs.
  /// Files that match `exclude` are left out; directories are given as windows, and not listed.
  [[nodiscard]] virtual Status walk(const Principal& as, const std::string& dataset, const Patterns& exclude,
                                    EntrySink& sink, std::stop_token stop) = 0;
  /// May the principal read the dataset's root? Same errors as walk(); deadline_exceeded when the storage is silent.
  [[nodiscard]] virtual Status check_access(const Principal& as, const std::string& dataset,
                                            std::chrono::milliseconds limit) = 0;
  /// Opens a regular file, `path` below root(), as the thread it runs on: only from run_for() or run(). `expected` is
  /// what the walk saw; aborted when the file is another one by now, permission_denied when it became unreadable.
  [[nodiscard]] virtual Result<std::unique_ptr<OriginFile>> open(const std::string& path,
                                                                 const EntryAttributes& expected) = 0;
  /// ACL and user.* xattrs of a directory, or the ACL of an entry that cannot be opened; only from run().
  [[nodiscard]] virtual Result<FileMeta> meta_of(const std::string& path, const EntryAttributes& expected) = 0;

  /// A descriptor of what is there now, whatever it is, opened as the thread it runs on: only from run(). Neither above
  /// the origin's root nor through a symlink.
  [[nodiscard]] virtual Result<UniqueFd> open_live(const std::string& path, int flags) = 0;
  /// An operation that was made with such a descriptor, and how much data it brought.
  virtual void count(Bytes read) = 0;

  /// Runs a task on the origin's pool, as the principal. Never blocks. The task gets an error, and must not touch the
  /// storage, when the thread could not become that principal.
  virtual void run(const Principal& as, Urgency urgency, std::function<void(Status)> task) = 0;
  /// Same, for a task that opens `path` first of all: it begins when nobody else is just opening its directory, so that
  /// one that takes long holds one thread of the pool, and not those of all who read its files.
  virtual void run_for(const std::string& path, const Principal& as, Urgency urgency,
                       std::function<void(Status)> task) = 0;
  [[nodiscard]] virtual OriginCounters counters() const = 0;
};

}  // namespace atlas::agent
