#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "cache-agent/store/replica_state.h"
#include "cache-agent/store/store.h"
#include "cache-agent/store/tier_probe.h"

namespace atlas::agent {

/// A tier in use; private to store/.
struct Store::Tier {
  TierOptions options;
  std::unique_ptr<TierProbe> probe;  ///< once the store is open
  Space used;                        ///< charged and reserved
  Space reserved;                    ///< of it: not yet charged to a replica
  /// Others fill the disk beyond the high mark, and nothing is left that could make way: nothing is written there.
  std::atomic<bool> crowded{false};
  std::optional<FileLock> lock;
  UniqueFd root;  ///< none: it could not be opened. The kernel tells each descriptor once of what the disk has lost: so
                  ///< it is one and the same
  std::unique_ptr<NodeManifest> database;  ///< of what lies here; none without a root
  std::vector<std::string> leftovers;      ///< to be deleted, of the process before this one
  std::atomic<bool> deleting{false};       ///< these are still there: room comes by itself
  std::string why_out;                     ///< why there is no root
  std::mutex flush_mutex;                  ///< one flush at a time; held over the disk, outermost
  std::mutex put_mutex;  ///< orders records of the same replica; taken before Store::mutex_, held over the database

  [[nodiscard]] Space quota() const {
    return {options.quota.count, options.inodes == 0 ? Space::kPlenty : options.inodes};
  }
  /// Never blocks.
  [[nodiscard]] std::string state() const {
    if (!root) return "out";
    return probe == nullptr || probe->health() == TierProbe::Health::good ? "ok" : "suspect";
  }
  [[nodiscard]] bool ok() const { return state() == "ok"; }
  /// Takes it out of use, until the next start.
  Error give_up(Error why);
};

/// A replica and what the store knows about it.
struct Store::Held {
  std::shared_ptr<Replica> replica;
  WallTime last_used{}, observed{};
  std::set<std::uint32_t> leases;
  bool unverified = false;  ///< written before the machine went down: to be checked before it grows
  double heat = 1;          ///< uses, each counting half after a day, when last_used was noted

  void used(WallTime now) {
    heat = 1 + heat * std::exp2(-std::max(0.0, days(now) - days(last_used)));
    last_used = now;
  }
  /// Recency and frequency in one: the more, the later it goes. Eight uses in a row count like one three days later.
  [[nodiscard]] double use() const { return use_of(last_used) + std::log2(heat); }
  /// Of what is used once, at that time.
  [[nodiscard]] static double use_of(WallTime time) { return days(time); }

 private:
  [[nodiscard]] static double days(WallTime time) {
    return std::chrono::duration<double, std::ratio<86400>>(time.time_since_epoch()).count();
  }
};

/// Only the agent's; one that is there is fine.
[[nodiscard]] Status make_directory(const std::string& path);
/// What the manifest, the checksums and the inodes of a replica need besides the data.
[[nodiscard]] Space overhead_of(const ManifestSummary& summary);
/// Roots of mounts anywhere on this machine that lie in a store ("/.../replicas/<dataset>/<generation>/..."), from
/// /proc/*/mountinfo: 3 ms per hundred processes.
[[nodiscard]] std::set<std::string> mounted_replicas();
/// "<dataset>/<generation>", as mounted_replicas() has them.
[[nodiscard]] std::string place_of(const DatasetId& dataset, const GenerationId& generation);

}  // namespace atlas::agent
