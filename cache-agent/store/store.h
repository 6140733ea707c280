#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "cache-agent/store/replica.h"
#include "cache-agent/store/sharing.h"
#include "cache-agent/store/space.h"
#include "cache-agent/store/tier_probe.h"
#include "common/identity.h"
#include "common/result.h"
#include "common/units.h"
#include "db/file_lock.h"
#include "db/node_manifest.h"

namespace atlas::agent {

/// A directory of this node that replicas live in.
struct TierOptions {
  std::string name;
  std::string path;
  Bytes quota;
  std::uint64_t inodes = 0;  ///< 0 = no limit
  /// Parts of its file system: filled up to `low` by us; filled beyond `high` by others, we give way down to `low`.
  double low = 1, high = 1;
};

/// As TierState of the wire: "ok", "suspect" (erred or did not answer a moment ago: takes nothing new until it has been
/// seen to work), "out" (could not be opened), or "crowded" (others fill its file system, and nothing is left that
/// could make way).
struct TierInfo {
  std::string name;
  Bytes quota, used;
  std::string state;
  std::uint64_t inodes = 0, inodes_used = 0;  ///< the quota (0 = none), what of it is used
  std::string why;                            ///< it is out
};

struct Evicted {
  Bytes bytes;
  std::uint32_t replicas = 0;
  std::vector<std::string> kept;  ///< why what stayed stayed
};

struct StoreOptions {
  std::vector<TierOptions> tiers;
  TierProbe::Options probe{};
  std::string boot;  ///< this boot's id (/proc/sys/kernel/random/boot_id)
  /// Files of other replicas among which those equal to a new replica's are looked for; four times as many as it has
  /// itself, if that is more.
  std::uint64_t equal_files_among = 4'000'000;
  /// Absolute path of a dataset at its origin, for messages.
  std::function<std::string(const DatasetId&)> absolute = [](const DatasetId& d) { return "/" + d.path; };
};

class Store;

/// Space of a tier that is spoken for. Given back when it goes, unless Store::open() took it.
class Reservation {
 public:
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&&) = delete;
  Reservation(const Reservation&) = delete;
  ~Reservation();
  [[nodiscard]] const std::string& tier() const { return tier_; }

 private:
  friend class Store;
  Reservation(Store& store, std::string tier, Space space) : store_(&store), tier_(std::move(tier)), space_(space) {}
  Store* store_;
  std::string tier_;
  Space space_;
  bool some_ = false;  ///< of reserve_some()
};

/// The replicas of a node in their tiers: space, leases, pins, eviction, what survives a restart. Thread-safe; calls
/// that touch the disk block and say so.
class Store {
 public:
  /// Takes the tiers (one process per tier), opens their databases, brings back what earlier processes left: complete
  /// replicas at once; partial ones too, after a crash of the machine only what still matches its checksums. A tier
  /// that cannot be opened or read is "out", with all that is on it, and left as it is; an error only if that is true
  /// of all. Blocks.
  [[nodiscard]] static Result<std::unique_ptr<Store>> open(StoreOptions options, const Clock& clock);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// nullptr when there is none.
  [[nodiscard]] std::shared_ptr<Replica> find(const DatasetId& dataset, const GenerationId& generation) const;
  /// The most recently observed complete replica.
  [[nodiscard]] std::shared_ptr<Replica> newest_complete(const DatasetId& dataset) const;

  /// Same, of those that a walk of this principal (key_of()) has shown.
  [[nodiscard]] std::shared_ptr<Replica> newest_complete_for(const DatasetId& dataset,
                                                             const std::string& principal) const;
  /// What is not here yet of the dataset goes to this tier, if there is one of that name with room; "" = to any.
  void prefer(const DatasetId& dataset, const std::string& tier);

  /// Room for a generation that is not here yet (or for the rest of it), in the first tier that has it free, else in
  /// the first that has it after evicting what nobody needs: older versions first, then what no pending job reads, the
  /// least used first, then what is read last. resource_exhausted says what is in the way. Blocks while evicting.
  [[nodiscard]] Result<Reservation> reserve(const DatasetId& dataset, const ManifestSummary& summary);
  /// Same, of what there is room for: at most `most` bytes of data (0 = all), at least a twentieth of it. A replica
  /// that is opened with it keeps no more than that, until somebody reserves room for all of it.
  [[nodiscard]] Result<Reservation> reserve_some(const DatasetId& dataset, const ManifestSummary& summary, Bytes most);
  /// Same, when an older generation in one of the tiers holds part of it: there only the difference is asked for, if it
  /// is free. Otherwise the lender is let go (it may have to make room) and all of it is asked for.
  [[nodiscard]] Result<Reservation> reserve(const DatasetId& dataset, const ManifestSummary& summary, Lender& lender);
  /// The complete replica of another generation that has the most of this one's files. Blocks.
  [[nodiscard]] Lender lender_for(const DatasetId& dataset, const Manifest& manifest) const;
  /// What a reservation of all of a generation (nothing said), or of so much data of it at most (0 = all), would ask
  /// for, if `lent` bytes of it come from an older one.
  struct Need {
    Bytes have, most, least;  ///< of the quota: charged already, wanted beyond that, not worth it with less
    Bytes overhead;           ///< of what is charged: not data
  };
  [[nodiscard]] Need need_of(const DatasetId& dataset, const ManifestSummary& summary, std::optional<Bytes> most,
                             Bytes lent) const;
  /// The replica of this generation, made if need be (partial, empty). What is reserved is brought for `payer`: from
  /// now on the replica is his. Blocks.
  [[nodiscard]] Result<std::shared_ptr<Replica>> open(const DatasetId& dataset,
                                                      std::shared_ptr<const Manifest> manifest, Reservation reservation,
                                                      const std::optional<Payer>& payer = {});
  /// A principal's own walk produced exactly this generation at `when`. Blocks.
  [[nodiscard]] Status vouch(const Replica& replica, const Principal& as, WallTime when);
  /// Where a sealed replica, not complete yet, has files that another one of its tier has too, equal in every byte and
  /// attribute, they become one. What cannot be shared stays as it is. Others of the same owner are looked at first,
  /// then those used last, as many as StoreOptions::equal_files_among allows: a job waits for it. Says what it looked
  /// at. Blocks: compares all that are equal.
  struct LookedAt {
    std::uint32_t replicas = 0;
    std::uint64_t files = 0;  ///< at most, of these
  };
  LookedAt share_equal_files(const std::shared_ptr<Replica>& replica);
  /// A sealed replica becomes complete for good: one sync of its file system, then the record. Blocks.
  [[nodiscard]] Status complete(const std::shared_ptr<Replica>& replica);
  /// A warm-up ended without completing: what was reserved but not written is given back.
  void settle(const std::shared_ptr<Replica>& replica);
  /// Has a tier's disk take what was written to it. If it has lost anything since the last time, the error says so, and
  /// each replica in question has been compared with its checksums: what differs is no longer resident. Blocks.
  [[nodiscard]] Status flush(const std::string& tier);
  /// Same for every tier of which somebody reads what is not known to be on the disk. Now and then.
  void flush_what_is_read();
  /// Where others fill the disk beyond a tier's high mark: evicts what nobody needs, as reserve() does, down to the low
  /// mark; if that is not enough, nothing more is written there until there is room again. Now and then; blocks while
  /// evicting.
  void give_way();
  /// Deletes what earlier processes threw away and had not deleted. Once, some time after the start: blocks for as long
  /// as the disks need, until told to stop.
  void empty_trash(const std::stop_token& stop);
  /// What give_way() did, for the log. Set once, before use.
  void on_giving_way(std::function<void(const std::string&)> tell) { gave_way_ = std::move(tell); }
  /// Takes note of an error met while writing to a tier: EIO and the like make it suspect.
  void note_failure(const std::string& tier, const Error& error);
  /// Compares every block with its checksum; what differs makes the replica partial again. Blocks for long.
  [[nodiscard]] Result<Replica::Verified> verify(const std::shared_ptr<Replica>& replica,
                                                 const Replica::Step& step = {});
  /// Every generation of a dataset that is here.
  [[nodiscard]] std::vector<std::shared_ptr<Replica>> replicas_of(const DatasetId& dataset) const;

  void lease(const Replica& replica, std::uint32_t job_id);
  void unlease(std::uint32_t job_id);
  /// Blocks (database).
  [[nodiscard]] Result<std::uint32_t> pin(const DatasetId& dataset, bool pinned);
  void touch(const Replica& replica);
  /// What pending jobs are going to read, soonest first: only what else could go goes before it. The first `held` do
  /// not go at all, for an hour at most. Replaces what was said before.
  void want(const std::vector<DatasetId>& soonest_first, std::size_t held = 0);
  /// Removes replicas of a dataset (one generation, or all) that no job holds, nothing is mounted from, and no warm-up
  /// writes. Pinned ones too: who asks for this has the right to. Blocks.
  [[nodiscard]] Evicted evict(const DatasetId& dataset, const std::optional<GenerationId>& generation);

  /// Why nothing may be read from the replica now, if its disk hangs; else "". Never blocks.
  [[nodiscard]] std::string why_silent(const Replica& replica) const;
  [[nodiscard]] std::vector<ReplicaInfo> inventory() const;
  [[nodiscard]] ReplicaInfo info(const Replica& replica) const;
  [[nodiscard]] std::vector<TierInfo> tiers() const;
  /// Called after a replica appeared, completed, went or changed its leases; not under a lock. Set once, before use.
  void on_change(std::function<void(const ReplicaInfo&)> callback) { changed_ = std::move(callback); }
  [[nodiscard]] NodeManifest& database() { return *database_; }

 private:
  struct Tier;
  struct Held;
  using Key = std::pair<DatasetId, GenerationId>;
  friend class Reservation;

  Store(StoreOptions options, const Clock& clock);
  [[nodiscard]] Status open_tier(Tier& tier);
  void part_records();
  [[nodiscard]] Status recover(Tier& tier);
  Error give_up(Tier& tier, Error why);
  [[nodiscard]] bool better_than_other(const ReplicaRow& row);
  [[nodiscard]] Status throw_away_unknown(Tier& tier, const std::set<std::string>& known);
  [[nodiscard]] std::string new_trash(const Tier& tier);
  void note_damage(const Key& key);
  [[nodiscard]] Result<std::shared_ptr<Replica>> bring_back(const ReplicaRow& row, Tier& tier);
  [[nodiscard]] Result<std::shared_ptr<Replica>> make(const DatasetId& dataset,
                                                      std::shared_ptr<const Manifest> manifest, const Tier& tier,
                                                      bool create);
  [[nodiscard]] std::string directory_of(const Tier& tier, const DatasetId& dataset,
                                         const GenerationId& generation) const;
  [[nodiscard]] Status put(const Key& key);
  [[nodiscard]] Status grow(const Key& key);
  [[nodiscard]] std::string preferred(const DatasetId& dataset) const;
  [[nodiscard]] std::vector<Tier*> tiers_for(const DatasetId& dataset) const;
  [[nodiscard]] Space free_of(const Tier& tier, const std::optional<DiskUse>& disk) const;
  [[nodiscard]] bool try_take(Tier& tier, const Space& need);
  [[nodiscard]] Result<Space> make_room(Tier& tier, const Space& least, const Space& most);
  struct Candidates {
    std::optional<Key> first;  ///< to go
    bool dear = false;         ///< it is worth more than what is used for the first time now
    Space evictable;
    std::uint32_t busy = 0;
  };
  [[nodiscard]] Candidates candidates_in(const Tier& tier, const std::set<std::string>& mounted) const;
  void give_way(Tier& tier);
  [[nodiscard]] static bool in_use(const Replica& replica, long holders);
  [[nodiscard]] std::string why_busy(const Held& held, const std::set<std::string>& mounted, bool pins_count) const;
  [[nodiscard]] Result<Space> remove(const Key& key);
  [[nodiscard]] Space hand_over(const Replica& leaving, const std::string& path);
  void charge(Replica& heir, const Space& space);
  void give_back(const std::string& tier, const Space& space);
  [[nodiscard]] Tier* tier_named(const std::string& name) const;
  [[nodiscard]] ReplicaInfo describe(const Held& held) const;
  void announce(const ReplicaInfo& info) const;

  StoreOptions options_;
  const Clock& clock_;
  NodeManifest* database_ = nullptr;          ///< of the first tier that could be opened: what is not one tier's
  std::vector<std::unique_ptr<Tier>> tiers_;  ///< fixed after open(); what changes in a tier is guarded by mutex_
  std::function<void(const ReplicaInfo&)> changed_;
  std::function<void(const std::string&)> gave_way_;

  mutable std::mutex announce_mutex_;  ///< orders what on_change() is told; taken before mutex_
  mutable std::mutex mutex_;  ///< guards what follows; taken before a replica's own mutex, never held over disk work
  std::map<Key, Held> replicas_;
  std::set<DatasetId> pins_;
  std::map<DatasetId, std::size_t> wanted_;  ///< by pending jobs; the higher, the sooner
  std::set<DatasetId> awaited_;              ///< by jobs that follow on others
  SteadyTime awaited_until_{};
  std::map<DatasetId, std::string> preferred_;
  std::atomic<std::uint64_t> trash_count_{0};
};

}  // namespace atlas::agent
