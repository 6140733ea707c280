#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "cache-agent/store/store_internal.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

/// Grown in steps, so that a dataset whose estimate was low does not ask for every block.
constexpr std::uint64_t kGrowStep = 64ULL * 1024 * 1024;

std::uint64_t free_on_disk(const std::string& path) {
  struct statvfs st {};
  if (statvfs(path.c_str(), &st) != 0) return 0;
  return static_cast<std::uint64_t>(st.f_bavail) * st.f_frsize;
}

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

/// Takes the space if it is free, by the quota and on the disk.
bool Store::try_take(Tier& tier, std::uint64_t need) {
  return take_most(tier, need, need) == need;
}

/// Takes what is free, by the quota and on the disk: from `least` to `most`; nothing, and says 0, when it is less.
std::uint64_t Store::take_most(Tier& tier, std::uint64_t least, std::uint64_t most) {
  const std::uint64_t disk = free_on_disk(tier.options.path);
  const std::lock_guard lock(mutex_);
  std::uint64_t promised = tier.reserved;  // spoken for, but not on the disk yet
  for (const auto& [key, held] : replicas_) {
    const auto& state = held.replica->internals();
    const std::uint64_t charged = state.charged, written = state.room.used();
    if (held.replica->state() != ReplicaState::complete && state.tier == tier.options.name && charged > written)
      promised += charged - written;
  }
  const auto left = [](std::uint64_t of, std::uint64_t used) { return of - std::min(of, used); };
  const std::uint64_t free = std::min(left(tier.options.quota.count, tier.used), left(disk, promised));
  if (free < least) return 0;
  const std::uint64_t got = std::min(free, most);
  tier.used += got;
  tier.reserved += got;
  return got;
}

Status Store::make_room(Tier& tier, std::uint64_t need) {
  std::set<std::string> mounted;
  bool scanned = false;
  for (;;) {
    if (try_take(tier, need)) return {};
    if (need > tier.options.quota.count)
      return fail(Code::resource_exhausted,
                  "tier " + tier.options.name + " has a quota of " + format_size(tier.options.quota));
    if (!std::exchange(scanned, true)) mounted = mounted_replicas();
    std::optional<Key> victim;
    std::uint32_t busy = 0;
    {
      const std::lock_guard lock(mutex_);
      WallTime oldest{};
      for (const auto& [key, held] : replicas_) {
        if (held.replica->tier() != tier.options.name) continue;
        if (!why_busy(held, mounted, true).empty()) {
          ++busy;
          continue;
        }
        if (victim && held.last_used >= oldest) continue;
        victim = key;
        oldest = held.last_used;
      }
    }
    if (!victim)
      return fail(Code::resource_exhausted,
                  "tier " + tier.options.name + " has " +
                      format_size(Bytes{tier.options.quota.count - std::min(tier.options.quota.count, tier.used)}) +
                      " free of its quota and " + format_size(Bytes{free_on_disk(tier.options.path)}) +
                      " on its disk; " + std::to_string(busy) + " replicas there are in use or pinned");
    if (const auto removed = remove(*victim); !removed && removed.error().code != Code::failed_precondition)
      return fail(removed.error());
  }
}

Status Store::grow(const Key& key, std::uint64_t more) {
  const auto replica = find(key.first, key.second);
  if (!replica) return fail(Code::aborted, show(key.first) + ": the replica was evicted while it was written");
  Tier& tier = *tier_named(replica->tier());
  const std::uint64_t step = std::max(more, kGrowStep);
  std::uint64_t got = step;
  if (!make_room(tier, step)) {
    ATLAS_TRY(make_room(tier, more));
    got = more;
  }
  const std::lock_guard lock(mutex_);
  tier.reserved -= got;
  replica->internals().charged += got;
  return {};
}

void Store::give_back(const std::string& tier, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  Tier* t = tier_named(tier);
  t->used -= bytes.count;
  t->reserved -= bytes.count;
}

/// Called with mutex_ held, so nobody can take another reference meanwhile.
std::string Store::why_busy(const Held& held, const std::set<std::string>& mounted, bool pins_count) const {
  if (!held.leases.empty()) return "job " + std::to_string(*held.leases.begin()) + " holds it";
  if (held.replica.use_count() > 1) return "it is being warmed or read";
  if (pins_count && pins_.contains(held.replica->dataset())) return "it is pinned";
  if (mounted.contains(place_of(held.replica->dataset(), held.replica->generation()))) return "it is mounted";
  return "";
}

Result<Bytes> Store::remove(const Key& key) {
  std::shared_ptr<Replica> replica;
  std::string trash;
  {
    const std::lock_guard lock(mutex_);
    const auto it = replicas_.find(key);
    if (it == replicas_.end() || it->second.replica.use_count() > 1 || !it->second.leases.empty())
      return fail(Code::failed_precondition, "it came into use");
    replica = std::move(it->second.replica);
    replicas_.erase(it);
    trash = tier_named(replica->tier())->options.path + "/trash/" + std::to_string(getpid()) + "-" +
            std::to_string(++trash_count_);
  }
  const auto& state = replica->internals();
  // Out of sight first: whatever happens next, no half of it is ever taken for a replica.
  Status status;
  if (rename(state.path.c_str(), trash.c_str()) != 0 && errno != ENOENT)
    status = fail_errno(errno, "evict " + state.path);
  if (status) status = database_->drop_replica(key.first, key.second);
  const Bytes bytes = hand_over(*replica, trash);
  if (status) status = remove_tree(trash);
  {
    const std::lock_guard lock(mutex_);
    tier_named(state.tier)->used -= bytes.count;
  }
  if (!status) note_failure(state.tier, status.error());
  announce(info(*replica));
  if (!status) return fail(status.error());
  return bytes;
}

/// What a replica that goes gives back: files it shares with another generation stay on the disk and are charged to
/// that one from now on. At most what the leaving one was charged, so that nothing is ever counted too low.
Bytes Store::hand_over(const Replica& leaving, const std::string& path) {
  const std::uint64_t charged = leaving.internals().charged;
  std::shared_ptr<Replica> heir;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = replicas_.lower_bound({leaving.dataset(), {}});
         it != replicas_.end() && it->first.first == leaving.dataset(); ++it)
      if (it->second.replica->tier() == leaving.tier() &&
          (!heir || it->second.replica->internals().charged > heir->internals().charged))
        heir = it->second.replica;
  }
  if (!heir) return Bytes{charged};
  const std::uint64_t shared = std::min(charged, bytes_shared_with_others(path));
  if (shared != 0) {
    heir->internals().charged += shared;
    heir->internals().room.add(shared);
    static_cast<void>(put({heir->dataset(), heir->generation()}));  // at worst the next start counts too low
  }
  return Bytes{charged - shared};
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
      outcome.bytes += *removed;
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
    it->second.last_used = clock_.wall();
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
    static_cast<void>(database_->touch_replica(about.dataset, about.generation.id, about.last_used));
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
  static_cast<void>(database_->touch_replica(replica.dataset(), replica.generation(), now));
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
