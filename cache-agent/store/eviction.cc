#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <tuple>

#include "cache-agent/store/equal_files.h"
#include "cache-agent/store/remove_tree.h"
#include "cache-agent/store/store_internal.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

/// Grown in steps, so that a dataset whose estimate was low does not ask for every block.
constexpr std::uint64_t kGrowStep = 64ULL * 1024 * 1024;
/// A controller that has gone for good must not hold a part of the cache for ever.
constexpr std::chrono::hours kAwaitedAtMost{1};

/// What a replica is worth keeping for: an older version nobody will ask for again; what a pending job reads stays
/// longer than what none does, the sooner the longer; then what was used lately and often.
using Worth = std::tuple<bool, std::size_t, double>;

}  // namespace

std::string place_of(const DatasetId& dataset, const GenerationId& generation) {
  return hash_of(dataset) + "/" + hex(generation);
}

std::set<std::string> mounted_replicas() {
  static constexpr std::string_view kMark = "/replicas/";
  constexpr std::size_t kPlace = 32 + 1 + 32;
  std::set<std::string> found;
  std::error_code error;
  std::set<ino_t> seen;  // mount namespaces already read
  for (const auto& process : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = process.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    struct stat st {};
    if (stat((process.path() / "ns/mnt").c_str(), &st) == 0 && !seen.insert(st.st_ino).second) continue;
    std::ifstream mounts(process.path() / "mountinfo");
    std::string line;
    while (std::getline(mounts, line)) {
      for (std::size_t at = line.find(kMark); at != std::string::npos; at = line.find(kMark, at + 1))
        if (line.size() >= at + kMark.size() + kPlace) found.insert(line.substr(at + kMark.size(), kPlace));
    }
  }
  return found;
}

/// By the quotas, and on the disk up to the low mark. Called with mutex_ held.
Space Store::free_of(const Tier& tier, const std::optional<DiskUse>& disk) const {
  Space promised = tier.reserved;  // spoken for, but not on the disk yet
  for (const auto& [key, held] : replicas_) {
    const auto& replica = *held.replica;
    const auto& state = replica.internals();
    if (replica.state() == ReplicaState::complete || state.tier != tier.options.name) continue;
    const std::uint64_t others = state.summary.entries - std::min(state.summary.entries, state.summary.files);
    promised += Space{state.charged, state.inodes}.without({state.room.used(), others + replica.files_resident()});
  }
  const Space on_disk = disk ? disk->room(tier.options.low).without(promised) : Space{};
  return tier.quota().without(tier.used).at_most(on_disk);
}

/// Takes the space if it is free.
bool Store::try_take(Tier& tier, const Space& need) {
  const auto disk = look_at_disk(tier.options.path);
  const std::lock_guard lock(mutex_);
  if (!free_of(tier, disk).fits(need)) return false;
  tier.used += need;
  tier.reserved += need;
  return true;
}

/// What could be evicted from a tier, and what goes first. Called with mutex_ held.
Store::Candidates Store::candidates_in(const Tier& tier, const std::set<std::string>& mounted) const {
  Candidates out;
  std::map<DatasetId, WallTime> newest;
  for (const auto& [key, held] : replicas_) {
    auto& observed = newest[key.first];
    observed = std::max(observed, held.observed);
  }
  Worth least;
  for (const auto& [key, held] : replicas_) {
    const auto& state = held.replica->internals();
    if (state.tier != tier.options.name) continue;
    if (!why_busy(held, mounted, true).empty()) {
      ++out.busy;
      continue;
    }
    const bool current = held.observed >= newest[key.first];
    if (current && awaited_.contains(key.first) && clock_.now() < awaited_until_) {
      ++out.busy;
      continue;
    }
    out.evictable += {state.charged, state.inodes};
    const auto wanted = current ? wanted_.find(key.first) : wanted_.end();
    const Worth worth{current, wanted == wanted_.end() ? 0 : wanted->second, held.use()};
    if (out.first && worth >= least) continue;
    out.first = key;
    least = worth;
    out.dear = worth >= Worth{true, 0, Held::use_of(clock_.wall())};
  }
  return out;
}

void Store::want(const std::vector<DatasetId>& soonest_first, std::size_t held) {
  const std::lock_guard lock(mutex_);
  wanted_.clear();
  awaited_ = {soonest_first.begin(),
              soonest_first.begin() + static_cast<std::ptrdiff_t>(std::min(held, soonest_first.size()))};
  awaited_until_ = clock_.now() + kAwaitedAtMost;
  for (std::size_t i = 0; i < soonest_first.size(); ++i)
    wanted_.try_emplace(soonest_first[i], soonest_first.size() - i);
}

/// Takes `most`, or what there is, evicting what nobody needs, what is worth least first, until it fits. Nothing is
/// evicted in vain: not when not even `least` could be had so, and for the sake of more than that nothing that pending
/// jobs read or that is used more than what comes: some of it would be read again in any case, and all of the other.
Result<Space> Store::make_room(Tier& tier, const Space& least, const Space& most) {
  std::set<std::string> mounted;
  bool scanned = false;
  for (;;) {
    if (try_take(tier, most)) return most;
    if (!tier.quota().fits(least))
      return fail(Code::resource_exhausted,
                  "tier " + tier.options.name + " has a quota of " + format_size(tier.options.quota) +
                      (tier.options.inodes == 0 ? "" : " and " + std::to_string(tier.options.inodes) + " inodes"));
    if (!std::exchange(scanned, true)) mounted = mounted_replicas();
    const auto disk = look_at_disk(tier.options.path);
    Candidates candidates;
    Space free;
    {
      const std::lock_guard lock(mutex_);
      candidates = candidates_in(tier, mounted);
      free = free_of(tier, disk);
      if ((!candidates.first || candidates.dear) && free.fits(least)) {
        const Space got = free.at_most(most);
        tier.used += got;
        tier.reserved += got;
        return got;
      }
    }
    if (!candidates.first || !(free + candidates.evictable).fits(least)) {
      std::string has = format_size(Bytes{free.bytes});
      if (free.inodes < Space::kPlenty / 2) has += " and " + std::to_string(free.inodes) + " inodes";
      return fail(
          Code::resource_exhausted,
          "tier " + tier.options.name + " has " + has + " free within its quota and on its disk" +
              (candidates.first ? ", and " + format_size(Bytes{candidates.evictable.bytes}) + " to evict" : "") + "; " +
              std::to_string(candidates.busy) + " replicas there are in use or pinned");
    }
    if (const auto removed = remove(*candidates.first); !removed && removed.error().code != Code::failed_precondition)
      return fail(removed.error());
  }
}

void Store::give_way() {
  for (const auto& tier : tiers_)
    if (tier->ok()) give_way(*tier);
}

void Store::give_way(Tier& tier) {
  if (tier.deleting) return;
  const auto disk = look_at_disk(tier.options.path);
  if (!disk) return;
  if (disk->beyond(tier.options.high) == Space{}) {
    if (tier.crowded.exchange(false) && gave_way_) gave_way_("tier " + tier.options.name + " has room again");
    return;
  }
  const auto mounted = mounted_replicas();
  // What is removed is counted, not seen: some file systems show it later.
  Space removed;
  std::uint32_t replicas = 0;
  while (disk->beyond(tier.options.low).without(removed) != Space{}) {
    std::optional<Key> first;
    {
      const std::lock_guard lock(mutex_);
      first = candidates_in(tier, mounted).first;
    }
    if (!first) break;
    const auto gone = remove(*first);
    if (gone) {
      removed += *gone;
      ++replicas;
    } else if (gone.error().code != Code::failed_precondition) {
      break;
    }
  }
  const bool crowded = disk->beyond(tier.options.high).without(removed) != Space{};
  const bool news = tier.crowded.exchange(crowded) != crowded;
  if (!gave_way_ || (replicas == 0 && !news)) return;
  gave_way_("others fill the disk of tier " + tier.options.name + ": " + std::to_string(replicas) + " replicas, " +
            format_size(Bytes{removed.bytes}) + ", made way" +
            (crowded ? "; what is left is in use or pinned, and nothing more is written until there is room" : ""));
}

Status Store::grow(const Key& key) {
  const auto replica = find(key.first, key.second);
  if (!replica) return fail(Code::aborted, show(key.first) + ": the replica was evicted while it was written");
  auto& state = replica->internals();
  const std::lock_guard one_at_a_time(state.grow_mutex);
  const std::uint64_t used = state.room.used(), charged = state.charged;
  if (used <= charged) return {};  // somebody else has just got enough for both
  const std::uint64_t more = used - charged;
  Tier& tier = *tier_named(state.tier);
  ATLAS_ASSIGN(const Space got, make_room(tier, {more, 0}, {std::max(more, kGrowStep), 0}));
  const std::lock_guard lock(mutex_);
  tier.reserved -= got;
  state.charged += got.bytes;
  return {};
}

void Store::give_back(const std::string& tier, const Space& space) {
  const std::lock_guard lock(mutex_);
  Tier* t = tier_named(tier);
  t->used -= space;
  t->reserved -= space;
}

/// Who only compares it with its checksums lets it go when it is evicted.
bool Store::in_use(const Replica& replica, long holders) {
  return holders > 1 + long{replica.internals().looked_at};
}

/// Called with mutex_ held, so nobody can take another reference meanwhile.
std::string Store::why_busy(const Held& held, const std::set<std::string>& mounted, bool pins_count) const {
  if (!held.leases.empty()) return "job " + std::to_string(*held.leases.begin()) + " holds it";
  if (in_use(*held.replica, held.replica.use_count())) return "it is being warmed or read";
  if (pins_count && pins_.contains(held.replica->dataset())) return "it is pinned";
  if (mounted.contains(place_of(held.replica->dataset(), held.replica->generation()))) return "it is mounted";
  return "";
}

Result<Space> Store::remove(const Key& key) {
  std::shared_ptr<Replica> replica;
  std::string trash;
  {
    const std::lock_guard lock(mutex_);
    const auto it = replicas_.find(key);
    if (it == replicas_.end() || !it->second.leases.empty() ||
        in_use(*it->second.replica, it->second.replica.use_count()))
      return fail(Code::failed_precondition, "it came into use");
    replica = std::move(it->second.replica);
    replica->internals().leaving = true;
    replicas_.erase(it);
    trash = new_trash(*tier_named(replica->tier()));
  }
  const auto& state = replica->internals();
  // Out of sight first: whatever happens next, no half of it is ever taken for a replica.
  Status status;
  if (rename(state.path.c_str(), trash.c_str()) != 0 && errno != ENOENT)
    status = fail_errno(errno, "evict " + state.path);
  if (status) status = tier_named(state.tier)->database->drop_replica(key.first, key.second);
  const Space space = hand_over(*replica, trash);
  if (status) status = remove_tree(trash);
  {
    const std::lock_guard lock(mutex_);
    tier_named(state.tier)->used -= space;
  }
  if (!status) note_failure(state.tier, status.error());
  announce(info(*replica));
  if (!status) return fail(status.error());
  return space;
}

/// What a replica that goes gives back: files that it shares with others and is charged for stay on the disk, and are
/// charged to one of those from now on.
Space Store::hand_over(const Replica& leaving, const std::string& path) {
  const auto& state = leaving.internals();
  Space left{state.charged, state.inodes};
  auto shared = shared_with_others(path);
  Space to_give;
  for (const auto& [inode, bytes] : shared) to_give += {bytes, 1};
  to_give = to_give.without({state.borrowed_bytes, state.borrowed_inodes}).at_most(left);
  if (to_give == Space{}) return left;
  std::optional<Key> kin;  // of the same dataset: who took over what has no key yet is one of these
  std::vector<Key> heirs;
  {
    const std::lock_guard lock(mutex_);
    std::uint64_t most = 0;
    for (const auto& [key, held] : replicas_) {
      if (held.replica->tier() != leaving.tier()) continue;
      heirs.push_back(key);
      const std::uint64_t charged = held.replica->internals().charged;
      if (key.first != leaving.dataset() || (kin && charged <= most)) continue;
      kin = key;
      most = charged;
    }
  }
  const auto give = [&](Replica& heir, const Space& space) {
    const Space taken = space.at_most(to_give);
    left -= taken;
    to_give -= taken;
    if (taken != Space{}) charge(heir, taken);
  };
  if (const auto keys = load_keys(path)) {
    for (const auto& [dataset, generation] : heirs) {  // one at a time: what is held cannot be evicted
      const auto heir = to_give == Space{} ? nullptr : find(dataset, generation);
      if (!heir) continue;
      // What it was charged for before it is charged for already.
      const auto& its = heir->internals();
      give(*heir, take_over(*heir, *keys, shared).at_most({its.borrowed_bytes, its.borrowed_inodes}));
      heir->forget_manifest();
    }
  }
  if (const auto heir = kin ? find(kin->first, kin->second) : nullptr) give(*heir, to_give);
  return left;
}

void Store::charge(Replica& heir, const Space& space) {
  auto& state = heir.internals();
  state.charged += space.bytes;
  state.inodes += space.inodes;
  state.borrowed_bytes -= std::min<std::uint64_t>(space.bytes, state.borrowed_bytes);
  state.borrowed_inodes -= std::min<std::uint64_t>(space.inodes, state.borrowed_inodes);
  state.room.add(space.bytes);
  static_cast<void>(put({heir.dataset(), heir.generation()}));  // at worst the next start counts too low
  announce(info(heir));
}

Evicted Store::evict(const DatasetId& dataset, const std::optional<GenerationId>& generation) {
  Evicted outcome;
  const auto mounted = mounted_replicas();
  std::vector<Key> victims;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = replicas_.lower_bound({dataset, {}}); it != replicas_.end() && it->first.first == dataset; ++it) {
      if (generation && it->first.second != *generation) continue;
      const std::string why = why_busy(it->second, mounted, false);
      if (why.empty()) {
        victims.push_back(it->first);
      } else {
        outcome.kept.push_back(show(dataset) + " " + hex(it->first.second).substr(0, 8) + ": " + why);
      }
    }
  }
  for (const auto& key : victims) {
    const auto removed = remove(key);
    if (removed) {
      outcome.bytes += Bytes{removed->bytes};
      ++outcome.replicas;
    } else {
      outcome.kept.push_back(show(dataset) + " " + hex(key.second).substr(0, 8) + ": " + removed.error().message);
    }
  }
  return outcome;
}

void Store::lease(const Replica& replica, std::uint32_t job_id) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = replicas_.find({replica.dataset(), replica.generation()});
    if (it == replicas_.end() || !it->second.leases.insert(job_id).second) return;
    it->second.used(clock_.wall());
  }
  announce(info(replica));
}

void Store::unlease(std::uint32_t job_id) {
  std::vector<ReplicaInfo> changed;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [key, held] : replicas_) {
      if (held.leases.erase(job_id) == 0) continue;
      held.last_used = clock_.wall();
      changed.push_back(describe(held));
    }
  }
  for (const auto& about : changed) {
    // Only the order of eviction depends on it: a lost record costs nothing.
    static_cast<void>(
        tier_named(about.tier)->database->touch_replica(about.dataset, about.generation.id, about.last_used));
    announce(about);
  }
}

void Store::touch(const Replica& replica) {
  const WallTime now = clock_.wall();
  {
    const std::lock_guard lock(mutex_);
    const auto it = replicas_.find({replica.dataset(), replica.generation()});
    if (it == replicas_.end()) return;
    it->second.last_used = now;
  }
  static_cast<void>(tier_named(replica.tier())->database->touch_replica(replica.dataset(), replica.generation(), now));
}

Result<std::uint32_t> Store::pin(const DatasetId& dataset, bool pinned) {
  ATLAS_TRY(database_->set_pin(dataset, pinned));
  std::vector<ReplicaInfo> changed;
  {
    const std::lock_guard lock(mutex_);
    if (pinned) {
      pins_.insert(dataset);
    } else {
      pins_.erase(dataset);
    }
    for (auto it = replicas_.lower_bound({dataset, {}}); it != replicas_.end() && it->first.first == dataset; ++it)
      changed.push_back(describe(it->second));
  }
  for (const auto& about : changed) announce(about);
  return static_cast<std::uint32_t>(changed.size());
}

}  // namespace atlas::agent
