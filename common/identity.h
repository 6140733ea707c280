#pragma once
#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/units.h"

namespace atlas {

/// A dataset: an origin's name and the canonical path below its root ("" = the root itself, no leading slash, any bytes
/// but NUL).
struct DatasetId {
  std::string origin;
  std::string path;
  auto operator<=>(const DatasetId&) const = default;
};

/// xxh3-128 of the canonical manifest: equal on all nodes without coordination. All zero = none.
struct GenerationId {
  std::array<unsigned char, 16> digest{};
  auto operator<=>(const GenerationId&) const = default;
  [[nodiscard]] bool empty() const { return *this == GenerationId{}; }
  /// The 16 bytes as they travel and are stored; anything but 16 bytes reads as none.
  [[nodiscard]] std::string bytes() const { return {reinterpret_cast<const char*>(digest.data()), digest.size()}; }
  [[nodiscard]] static GenerationId of(std::string_view bytes) {
    GenerationId id;
    if (bytes.size() == id.digest.size()) std::memcpy(id.digest.data(), bytes.data(), bytes.size());
    return id;
  }
};

/// One observed version of a dataset.
struct Generation {
  GenerationId id;
  Bytes bytes;
  std::uint64_t files = 0;
  std::uint64_t entries = 0;        ///< files, directories, links and others
  std::uint64_t opaque = 0;         ///< entries the walking user may not read
  std::uint64_t outward_links = 0;  ///< symlinks that leave the dataset
  WallTime observed{};
  std::optional<std::uint32_t> owner{};  ///< of the dataset's root at the origin
  bool operator==(const Generation&) const = default;
};

/// One attempt of a job to run: a requeued job is another attempt, a reused id another submit time.
struct JobKey {
  std::string cluster;
  std::uint32_t job_id = 0;
  std::uint32_t restarts = 0;
  std::chrono::sys_seconds submitted{};
  auto operator<=>(const JobKey&) const = default;
};

/// A node, and where its cache agent listens (host:port).
struct NodeAddress {
  std::string node, address;
  auto operator<=>(const NodeAddress&) const = default;
};

/// Whose eyes the origin is read with: from Slurm's job record or a munge credential, never from an environment.
struct Principal {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  ///< empty = the node resolves them
  bool operator==(const Principal&) const = default;
};

/// For whom a replica was brought to a node: whose cache space it takes.
struct Payer {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;  ///< the group the job, or who asked for the warm-up, runs under
  std::string account;    ///< of Slurm; "" = no job's
  bool operator==(const Payer&) const = default;
};

enum class ReplicaState { absent, partial, complete };

/// What one node holds of one generation.
struct ReplicaInfo {
  DatasetId dataset;
  Generation generation;
  ReplicaState state = ReplicaState::absent;
  Bytes bytes_resident;
  std::uint64_t files_resident = 0;
  std::string tier;
  WallTime last_used{};
  bool pinned = false;
  std::vector<std::uint32_t> leases;  ///< ids of the jobs that hold it
  Bytes charged{};                    ///< of the tier's quota
  std::optional<Payer> payer{};       ///< none = nobody is known
  bool operator==(const ReplicaInfo&) const = default;
};

enum class WarmPhase { none, walking, fetching, sealing, complete, failed, verifying };

/// How far a warm-up is.
struct WarmProgress {
  WarmPhase phase = WarmPhase::none;
  DatasetId dataset;
  std::string node;
  Bytes bytes_done, bytes_total;
  std::uint64_t files_done = 0, files_total = 0;
  Bytes origin_bytes;  ///< data read from the origin for this warm-up so far
  Bytes per_second;
  std::chrono::milliseconds eta{-1};  ///< -1 = not known
  std::uint64_t failures = 0;
  std::string message;  ///< why it failed
  Generation generation;
  std::uint64_t bad_blocks = 0;  ///< that differed from their checksums and were, or will be, fetched again
  Bytes peer_bytes;              ///< data read from other nodes' caches for this warm-up so far
  std::uint64_t skipped = 0;     ///< files left out of it: not asked for, or changed a moment ago
};

}  // namespace atlas
