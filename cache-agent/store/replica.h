#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache-agent/manifest/ids.h"
#include "cache-agent/manifest/manifest.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "common/units.h"

namespace atlas::agent {

/// Data is resident, checked and counted in blocks of this size.
inline constexpr Bytes kBlock = kMiB;

/// xxh3-64 of each block of an extent, in order.
using BlockSums = std::vector<std::uint64_t>;

enum class Verify { no, yes };

/// How a replica is mounted: always read-only, nosuid, nodev, noatime and private.
struct MountFlags {
  bool noexec = false;  ///< when the origin is mounted noexec
  /// What belongs to one user is shown as the other's, and the other way round.
  struct Swap {
    uid_t owner = 0, shown_as = 0;
  };
  std::optional<Swap> swap{};
};

/// One generation of one dataset in one tier of this node. Thread-safe. Partial until sealed; sealed replicas never
/// change. The store evicts a replica only while nobody else holds the object.
class Replica {
 public:
  struct State;
  explicit Replica(std::unique_ptr<State> state);  ///< by the store
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;
  ~Replica();

  [[nodiscard]] const DatasetId& dataset() const;
  [[nodiscard]] const GenerationId& generation() const { return summary().generation; }
  [[nodiscard]] const ManifestSummary& summary() const;
  [[nodiscard]] const std::string& tier() const;
  /// The dataset is one regular file, not a directory.
  [[nodiscard]] bool is_file() const { return summary().is_file; }
  [[nodiscard]] ReplicaState state() const;
  /// What is resident, at most summary().bytes and summary().files.
  [[nodiscard]] Bytes bytes_resident() const;
  [[nodiscard]] std::uint64_t files_resident() const;

  /// The manifest; read from disk when it is not in memory (blocks). data_loss when it cannot be read.
  [[nodiscard]] Result<std::shared_ptr<const Manifest>> manifest() const;

  /// Gives the memory of a complete replica's manifest back: 70 bytes per entry, and hardly anybody asks for it again.
  void forget_manifest();

  /// True when every block that the extent touches is here. Never blocks; lock-free once the manifest is loaded.
  [[nodiscard]] bool resident(const Manifest& manifest, const Extent& extent) const;
  /// Does the disk have what is resident of the extent, so that it may be read without comparing it with its checksums?
  /// Never blocks; asks for a flush if not.
  [[nodiscard]] bool proven(const Manifest& manifest, const Extent& extent) const;
  /// True for a resident block that is known to be zeros only. As resident().
  [[nodiscard]] bool zeros(const Manifest& manifest, FileIndex file, Bytes block) const;
  /// A resident file, to be read from directly by who has asked resident() first. Blocks.
  [[nodiscard]] Result<UniqueFd> open_file(const Manifest& manifest, FileIndex file) const;
  /// Extended attributes of a file whose first block is resident. Blocks.
  [[nodiscard]] Result<FileMeta> meta_of(const Manifest& manifest, FileIndex file) const;
  /// Is what a reader misses of this file to be kept? Not of one that changed after the time given last (nanoseconds
  /// since the epoch): it may go on changing.
  void keep_only_before(std::int64_t time);
  [[nodiscard]] bool keeps(const EntryAttributes& file) const;
  /// May what is missing of the blocks that the extent touches be kept, too, as far as is known? Never blocks.
  [[nodiscard]] bool has_room_for(const Manifest& manifest, const Extent& extent) const;
  /// Nothing but the tier says how much of it may be kept.
  [[nodiscard]] bool may_hold_all() const;
  /// Makes directories, links and special files; before the first commit. May be repeated. Blocks.
  [[nodiscard]] Status prepare();
  /// Writes a piece that begins on a block boundary and ends on one or at the file's end: data first, then the bits.
  /// Blocks of zeros become holes. `sums` are the checksums made where the data was read; `meta` (needed with the first
  /// block of a file) carries its xattrs and ACL. Blocks. resource_exhausted when the tier is full, internal
  /// when it fails, unimplemented when it cannot hold the file's ACL.
  [[nodiscard]] Status commit(const Extent& extent, std::span<const std::byte> data, const BlockSums& sums,
                              const FileMeta* meta);
  /// Same for a piece that the origin knows to be a hole.
  [[nodiscard]] Status commit_hole(const Extent& extent, const FileMeta* meta);
  /// The data of a whole file has come by other means than commit(): its blocks become resident with these checksums.
  [[nodiscard]] Status adopt(const Extent& whole, const BlockSums& sums);
  /// Reads resident bytes. not_found when they are not resident; data_loss when a checksum does not match: the bit is
  /// cleared first, so that the next fetch brings the block again. Blocks.
  [[nodiscard]] Result<Bytes> read(const Extent& extent, std::span<std::byte> into, Verify verify);
  struct Verified {
    std::uint64_t checked = 0, bad = 0;  ///< blocks
  };
  /// Told of the bytes compared so far; false = stop there (cancelled).
  using Step = std::function<bool(Bytes checked)>;
  /// Compares every resident block with its checksum; clears the bits of those that differ. Blocks for long.
  [[nodiscard]] Result<Verified> verify(const Step& step = {});
  /// Gives everything its final owner, mode and times, when all blocks are resident. `as` is the principal of the walk,
  /// `metas` the ACLs and xattrs of directories and opaque entries. The replica is complete only after
  /// Store::complete().
  [[nodiscard]] Status seal(const Principal& as, const std::map<FileIndex, FileMeta>& metas);

  /// Complete, and either without opaque entries or made from a walk by exactly this principal (normalized).
  [[nodiscard]] bool mountable_for(const Principal& principal) const {
    return why_not_mountable_for(principal).empty();
  }
  /// Why not, one sentence for the job's stderr; "" when mountable.
  [[nodiscard]] std::string why_not_mountable_for(const Principal& principal) const;
  /// Why a partial replica cannot be shown to a principal, one sentence; "" when it can be.
  [[nodiscard]] std::string why_not_viewable_for(const Principal& principal) const;
  /// `copies` detached mounts of the tree (of the file, for a dataset of one file): read-only, nosuid, nodev, noatime,
  /// private. failed_precondition when not complete, unavailable when the kernel refuses.
  [[nodiscard]] Result<std::vector<UniqueFd>> mounts(int copies, MountFlags flags) const;

  [[nodiscard]] State& internals() { return *state_; }  ///< for the store
  [[nodiscard]] const State& internals() const { return *state_; }

 private:
  [[nodiscard]] Status finish_commit(const Manifest& manifest, const Extent& extent, const BlockSums& sums);
  void lose(const Manifest::Entry& entry, std::uint64_t number);
  [[nodiscard]] tl::unexpected<Error> disk_failure(Error error, const std::string& path) const;
  std::unique_ptr<State> state_;
};

}  // namespace atlas::agent
