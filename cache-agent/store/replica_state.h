#pragma once
#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "cache-agent/store/block_map.h"
#include "cache-agent/store/replica.h"
#include "cache-agent/store/replica_tree.h"
#include "cache-agent/store/room.h"

namespace atlas::agent {

/// What a Replica is made of; private to store/.
struct Replica::State {
  State(DatasetId dataset_id, ManifestSummary manifest_summary, std::string tier_name, std::string directory,
        std::string root, UniqueFd fd, BlockMap map)
      : dataset(std::move(dataset_id)),
        summary(std::move(manifest_summary)),
        tier(std::move(tier_name)),
        path(std::move(directory)),
        dataset_root(std::move(root)),
        tree(std::move(fd)),
        blocks(std::move(map)) {}

  const DatasetId dataset;
  const ManifestSummary summary;
  const std::string tier;
  const std::string path;          ///< <tier>/replicas/<dataset>/<generation>
  const std::string dataset_root;  ///< absolute path at the origin, for messages and link targets
  ReplicaTree tree;
  BlockMap blocks;
  std::atomic<ReplicaState> state{ReplicaState::partial};
  std::atomic<std::uint64_t> bytes_resident{0}, files_resident{0};
  Room room;                              ///< bytes that occupy the disk, roughly, and how many may
  std::atomic<std::uint64_t> charged{0};  ///< bytes of the tier's quota that it holds; changed by the store
  std::atomic<std::uint64_t> inodes{0};  ///< the same of the quota of inodes; those of files that are still to come too
  /// What it holds and another replica is charged for: files that they share.
  std::atomic<std::uint64_t> borrowed_bytes{0}, borrowed_inodes{0};
  const std::atomic<bool>* crowded = nullptr;  ///< nothing may be written to the tier now; the store's
  std::atomic<std::int64_t> kept_before{std::numeric_limits<std::int64_t>::max()};
  /// Sees to it that what `room` has taken is charged, too; called when it is not. Set by the store.
  std::function<Status()> grow;
  mutable std::atomic<bool> flush_wanted{false};  ///< somebody reads what is not known to be on the disk
  /// Told of errors of the tier's disk; set by the store.
  std::function<void(const Error&)> failed;
  /// Told when it is complete no more; set by the store. Blocks on its database.
  std::function<void()> damaged;
  std::atomic<unsigned> looked_at{0};  ///< so many of those who hold it only compare it with its checksums
  std::atomic<bool> leaving{false};    ///< evicted: whoever only looks at it lets it go
  [[nodiscard]] bool is_crowded() const { return crowded != nullptr && crowded->load(std::memory_order_relaxed); }
  [[nodiscard]] Status charge(std::uint64_t more) {
    if (is_crowded()) return fail(Code::resource_exhausted, "others fill the disk of tier " + tier);
    if (!room.take(more)) return fail(Code::resource_exhausted, "what may be kept of it is kept");
    if (room.used() <= charged.load(std::memory_order_relaxed)) return {};
    auto grown = grow();
    if (!grown) room.give(more);
    return grown;
  }

  std::mutex grow_mutex;  ///< one grows it at a time; held over evictions, before the store's mutex

  mutable std::mutex mutex;  ///< guards what follows
  mutable std::shared_ptr<const Manifest> manifest;
  std::optional<Payer> payer;      ///< for whom it was brought here
  std::set<std::string> vouchers;  ///< key_of() principals whose walk gave exactly this generation

  /// Makes bits and counters agree; called once, before the replica is shared.
  void count_resident(const Manifest& from);
};

/// Reads <directory>/manifest.db; data_loss unless it is the manifest of exactly this generation.
[[nodiscard]] Result<std::shared_ptr<const Manifest>> load_manifest(const std::string& directory,
                                                                    const std::string& dataset_root,
                                                                    const GenerationId& expected);
[[nodiscard]] Status save_manifest(const std::string& directory, const Manifest& manifest);

}  // namespace atlas::agent
