#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache-agent/manifest/ids.h"
#include "common/result.h"
#include "common/units.h"

namespace atlas::agent {

enum class EntryType : std::uint8_t { directory, file, symlink, fifo, socket, char_device, block_device };

/// What the walk could not see.
enum EntryFlags : std::uint8_t {
  kOpaque = 1,   ///< the walking principal may not read it (a directory: may not list it)
  kUnknown = 2,  ///< not even its attributes could be read; shown root-owned, mode 000. Always with kOpaque
  kBlind = 4,    ///< a directory that may be entered but not listed: what is in it cannot be known. With kOpaque
  kWindow = 8,   ///< a directory that stays the origin's own (excluded): what is in it is not looked at
};

/// Attributes of one entry as the origin reported them. Times are nanoseconds since the epoch.
struct EntryAttributes {
  EntryType type = EntryType::file;
  std::uint8_t flags = 0;
  std::uint32_t mode = 0;  ///< permission bits, setuid, setgid, sticky (07777)
  uid_t uid = 0;
  gid_t gid = 0;
  std::uint64_t size =
      0;  ///< of a regular file or a link's target; 0 for others: sizes of directories are the file system's own
  std::int64_t mtime = 0;
  std::int64_t ctime = 0;
  std::uint64_t rdev = 0;  ///< of device nodes
  bool operator==(const EntryAttributes&) const = default;
};

/// One entry of a walk, before it has a place in a manifest.
struct WalkedEntry {
  std::string name;  ///< empty for the root
  EntryAttributes attributes;
  std::string target;                   ///< of a symlink
  std::uint64_t device = 0, inode = 0;  ///< identify hard links; compared only when links > 1
  std::uint64_t links = 1;
  std::uint64_t allocated = 0;  ///< bytes that a file occupies at the origin, at most its size
};

/// Extended attributes of a file or directory that a replica keeps: user.* and POSIX ACLs.
struct FileMeta {
  std::vector<std::pair<std::string, std::string>> xattrs;
  bool operator==(const FileMeta&) const = default;
};

/// More directories that stay the origin's own than this cannot be shown in a job's view.
inline constexpr std::size_t kMostWindows = 64;
/// Their paths travel in one packet of 64 KiB, with those of the job's other datasets.
inline constexpr std::size_t kMostWindowBytes = 16 * 1024;

/// What is asked of a manifest without having it in memory.
struct ManifestSummary {
  GenerationId generation;
  std::uint64_t bytes = 0;  ///< of readable regular files, hard links once
  std::uint64_t files = 0;  ///< readable regular files, hard links once
  std::uint64_t entries = 0;
  std::uint64_t opaque = 0;
  std::uint64_t blind = 0;
  std::uint64_t outward_links = 0;
  std::uint64_t allocated = 0;         ///< estimate of the disk space a replica needs
  std::uint64_t blocks = 0;            ///< number of residency bits
  bool is_file = false;                ///< the root is a regular file
  uid_t owner = 0;                     ///< of the root
  std::vector<std::string> windows{};  ///< paths of directories that are the origin's own; of many the first only
  bool operator==(const ManifestSummary&) const = default;
};

/// One observed version of a dataset, immutable. Entry 0 is the root; the children of a directory are contiguous and
/// sorted by name (bytes), directories in the order of their parents: the order is a function of the tree alone, and
/// parents come before children. About 70 bytes per entry.
class Manifest {
 public:
  /// A view of one entry; valid as long as the manifest.
  struct Entry {
    EntryAttributes attributes;
    std::string_view name;
    std::string_view target;
    FileIndex parent = 0;
    FileIndex first_child = 0;  ///< directories
    std::uint32_t children = 0;
    FileIndex leader = 0;  ///< of a hard link group: its first entry, which alone has blocks; else the entry itself
    std::uint32_t first_block = 0;  ///< of the file's residency bits
    std::uint32_t blocks = 0;  ///< a regular file that is its own leader and not opaque: at least 1, also when empty
    [[nodiscard]] bool is(EntryType type) const { return attributes.type == type; }
    [[nodiscard]] bool opaque() const { return (attributes.flags & kOpaque) != 0; }
  };

  [[nodiscard]] const ManifestSummary& summary() const { return summary_; }
  [[nodiscard]] FileIndex size() const { return static_cast<FileIndex>(entries_.size()); }
  [[nodiscard]] Entry at(FileIndex index) const;
  /// Path below the root, "" for the root.
  [[nodiscard]] std::string path(FileIndex index) const;
  /// Binary search among a directory's children.
  [[nodiscard]] std::optional<FileIndex> child(FileIndex directory, std::string_view name) const;
  [[nodiscard]] std::optional<FileIndex> find(std::string_view path) const;

 private:
  friend class ManifestLoader;
  struct Compact {
    std::uint64_t size;  // for devices rdev
    std::int64_t mtime, ctime;
    std::uint32_t name;  // offset in arena_: one length byte, then the name
    std::uint32_t parent;
    std::uint32_t link;   // directory: first child; symlink: offset of target in arena_; file: leader
    std::uint32_t extra;  // directory: number of children; symlink: target length; file: first block
    std::uint32_t owner;  // index in owners_
    EntryType type;
    std::uint8_t flags;
  };
  struct Owner {
    std::uint32_t mode;
    uid_t uid;
    gid_t gid;
    auto operator<=>(const Owner&) const = default;
  };
  std::vector<Compact> entries_;
  std::vector<Owner> owners_;
  std::string arena_;
  ManifestSummary summary_;
};

/// Takes what a walk finds. Called by one thread at a time.
class EntrySink {
 public:
  virtual ~EntrySink() = default;
  /// The root comes first (parent is ignored); then the entries of directories, a directory known by the token that
  /// add() returned for it. Tokens count up from 0 in the order of add().
  virtual std::uint32_t add(std::uint32_t parent, WalkedEntry entry) = 0;
};

/// Collects what a walk finds and makes the manifest of it. Not thread-safe.
class ManifestBuilder final : public EntrySink {
 public:
  /// `dataset_root` is the dataset's absolute path: links that leave it are counted.
  /// With `quiet_directories` a directory's times are those of the newest thing in it: what was left out of the tree
  /// comes and goes without a trace.
  explicit ManifestBuilder(std::string dataset_root, bool quiet_directories = false)
      : dataset_root_(std::move(dataset_root)), quiet_directories_(quiet_directories) {}
  std::uint32_t add(std::uint32_t parent, WalkedEntry entry) override;
  [[nodiscard]] std::size_t size() const { return found_.size(); }
  /// out_of_range when there is more than a manifest can hold (2^32 - 1 entries, blocks or bytes of names);
  /// failed_precondition without a root.
  [[nodiscard]] Result<Manifest> build() &&;

 private:
  struct Found {
    WalkedEntry entry;
    std::uint32_t parent;
  };
  void quieten_directories();
  std::string dataset_root_;
  bool quiet_directories_;
  std::vector<Found> found_;
};

/// Puts a manifest together from entries in the manifest's own order; the way back from a database.
class ManifestLoader {
 public:
  struct Row {
    FileIndex parent = 0;
    FileIndex leader = 0;
    std::string_view name, target;
    EntryAttributes attributes;
    std::uint64_t allocated = 0;  ///< only the sum is kept
  };
  explicit ManifestLoader(std::string dataset_root);
  ~ManifestLoader();
  ManifestLoader(const ManifestLoader&) = delete;
  ManifestLoader& operator=(const ManifestLoader&) = delete;
  /// data_loss when the row is not what may come next (order, parent, leader, name); out_of_range as for build().
  [[nodiscard]] Status add(const Row& row);
  /// The manifest; its generation() is computed from the rows, so comparing it with the expected one proves them whole.
  [[nodiscard]] Result<Manifest> finish() &&;

 private:
  friend class ManifestBuilder;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace atlas::agent
