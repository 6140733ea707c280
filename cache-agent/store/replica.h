#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
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
};

class ReplicaFiles;

/// One generation of one dataset in one tier of this node. Thread-safe. Partial until sealed; sealed replicas never
/// change. The directory of a replica that was evicted while somebody holds the object lives on in the tier's trash
/// until the last holder lets go.
class Replica {
 public:
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;
  ~Replica();

  [[nodiscard]] const DatasetId& dataset() const;
  [[nodiscard]] const GenerationId& generation() const;
  [[nodiscard]] const ManifestSummary& summary() const;
  [[nodiscard]] const std::string& tier() const;
  /// The dataset is one regular file, not a directory.
  [[nodiscard]] bool is_file() const;
  [[nodiscard]] ReplicaState state() const;
  /// What is resident, at most summary().bytes and summary().files.
  [[nodiscard]] Bytes bytes_resident() const;
  [[nodiscard]] std::uint64_t files_resident() const;

  /// The manifest; read from disk when it is not in memory (blocks). data_loss when it cannot be read.
  [[nodiscard]] Result<std::shared_ptr<const Manifest>> manifest();

  /// True when every block that the extent touches is here. Lock-free, never blocks.
  [[nodiscard]] bool resident(const Extent& extent) const;
  /// Writes a piece that begins on a block boundary and ends on one or at the file's end: data first, then the bits.
  /// Runs of zero blocks become holes. `meta` (needed with the first block of a file) carries its xattrs and ACL.
  /// Blocks. resource_exhausted when the tier is full, unavailable when it fails.
  [[nodiscard]] Status commit(const Extent& extent, std::span<const std::byte> data, const BlockSums& sums,
                              const FileMeta* meta);
  /// Same for a piece that the origin knows to be a hole.
  [[nodiscard]] Status commit_hole(const Extent& extent, const FileMeta* meta);
  /// Reads resident bytes. not_found when they are not resident; data_loss when a checksum does not match: the bits are
  /// cleared first, so that the next fetch brings the data again. Blocks.
  [[nodiscard]] Result<Bytes> read(const Extent& extent, std::span<std::byte> into, Verify verify) const;

  /// Complete, sealed, and either without opaque entries or made from a walk by exactly this principal.
  [[nodiscard]] bool mountable_for(const Principal& principal) const;
  /// Why not, one sentence for the job's stderr; "" when mountable.
  [[nodiscard]] std::string why_not_mountable_for(const Principal& principal) const;
  /// `copies` detached mounts of the tree (of the file, for a dataset of one file): read-only, nosuid, nodev, noatime,
  /// private. failed_precondition when not complete, unavailable when the kernel refuses.
  [[nodiscard]] Result<std::vector<UniqueFd>> mounts(int copies, MountFlags flags) const;

 private:
  friend class ReplicaFiles;
  friend class Store;
  struct State;
  explicit Replica(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace atlas::agent
