#include "cache-agent/store/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <tuple>

#include "cache-agent/store/equal_files.h"
#include "cache-agent/store/remove_tree.h"
#include "cache-agent/store/store_internal.h"
#include "common/percent.h"

namespace atlas::agent {

Status make_directory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return fail_errno(errno, "cannot make " + path);
}

Reservation::Reservation(Reservation&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)),
      tier_(std::move(other.tier_)),
      space_(other.space_),
      some_(other.some_) {}
Reservation::~Reservation() {
  if (store_ != nullptr) store_->give_back(tier_, space_);
}

Store::Store(StoreOptions options, const Clock& clock) : options_(std::move(options)), clock_(clock) {}
Store::~Store() {
  for (const auto& tier : tiers_)
    if (tier->probe) tier->probe->stop();  // it uses all the rest
}

Result<std::unique_ptr<Store>> Store::open(StoreOptions options, const Clock& clock) {
  std::unique_ptr<Store> store(new Store(std::move(options), clock));
  Status last;
  for (const auto& tier : store->options_.tiers) {
    store->tiers_.push_back(std::make_unique<Tier>());
    store->tiers_.back()->options = tier;
    const auto opened = store->open_tier(*store->tiers_.back());
    // Another process has it: going on would let two agents answer for one node.
    if (!opened && !store->tiers_.back()->lock && opened.error().code == Code::failed_precondition)
      return fail(opened.error());
    if (!opened) last = fail(store->tiers_.back()->give_up(opened.error()));
  }
  store->part_records();
  for (const auto& tier : store->tiers_)
    if (const auto back = tier->root ? store->recover(*tier) : Status{}; !back)
      last = fail(store->give_up(*tier, back.error()));
  for (const auto& tier : store->tiers_)
    if (tier->root && store->database_ == nullptr) store->database_ = tier->database.get();
  if (store->database_ == nullptr) {
    if (!last) return fail(last.error());
    return fail(Code::failed_precondition, "no [[tier]] is configured: there is nowhere to cache");
  }
  ATLAS_ASSIGN(const auto pins, store->database_->pins());
  store->pins_.insert(pins.begin(), pins.end());
  for (const auto& tier : store->tiers_)
    if (tier->root)
      tier->probe =
          std::make_unique<TierProbe>(tier->options.path, store->options_.probe,
                                      [at = store.get(), &name = tier->options.name] { return bool(at->flush(name)); });
  return store;
}

std::string Store::directory_of(const Tier& tier, const DatasetId& dataset, const GenerationId& generation) const {
  return tier.options.path + "/replicas/" + hash_of(dataset) + "/" + hex(generation);
}

std::shared_ptr<Replica> Store::find(const DatasetId& dataset, const GenerationId& generation) const {
  const std::lock_guard lock(mutex_);
  const auto it = replicas_.find({dataset, generation});
  return it == replicas_.end() ? nullptr : it->second.replica;
}

std::shared_ptr<Replica> Store::newest_complete(const DatasetId& dataset) const {
  const std::lock_guard lock(mutex_);
  const Held* best = nullptr;
  for (auto it = replicas_.lower_bound({dataset, {}}); it != replicas_.end() && it->first.first == dataset; ++it)
    if (it->second.replica->state() == ReplicaState::complete &&
        (best == nullptr || it->second.observed > best->observed))
      best = &it->second;
  return best == nullptr ? nullptr : best->replica;
}

std::shared_ptr<Replica> Store::newest_complete_for(const DatasetId& dataset, const std::string& principal) const {
  const std::lock_guard lock(mutex_);
  const Held* best = nullptr;
  for (auto it = replicas_.lower_bound({dataset, {}}); it != replicas_.end() && it->first.first == dataset; ++it) {
    const auto& held = it->second;
    if (held.replica->state() != ReplicaState::complete || (best != nullptr && held.observed <= best->observed))
      continue;
    const auto& state = held.replica->internals();
    const std::lock_guard inner(state.mutex);
    if (state.vouchers.contains(principal)) best = &held;
  }
  return best == nullptr ? nullptr : best->replica;
}

Result<std::shared_ptr<Replica>> Store::make(const DatasetId& dataset, std::shared_ptr<const Manifest> manifest,
                                             const Tier& tier, bool create) {
  const auto& summary = manifest->summary();
  const std::string path = directory_of(tier, dataset, summary.generation);
  ATLAS_TRY(make_directory(path.substr(0, path.rfind('/'))));
  ATLAS_TRY(remove_tree(path));
  ATLAS_TRY(make_directory(path));
  ATLAS_TRY(save_manifest(path, *manifest));
  UniqueFd fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return fail_errno(errno, path);
  ATLAS_ASSIGN(auto blocks, BlockMap::open(fd.get(), summary.blocks, create));
  auto state = std::make_unique<Replica::State>(dataset, summary, tier.options.name, path, options_.absolute(dataset),
                                                std::move(fd), std::move(blocks));
  state->manifest = std::move(manifest);
  state->room.set_used(overhead_of(summary).bytes);
  state->crowded = &tier.crowded;
  state->grow = [this, key = Key{dataset, summary.generation}] { return grow(key); };
  state->failed = [this, name = state->tier](const Error& error) { note_failure(name, error); };
  state->damaged = [this, key = Key{dataset, summary.generation}] { note_damage(key); };
  return std::make_shared<Replica>(std::move(state));
}

Result<std::shared_ptr<Replica>> Store::open(const DatasetId& dataset, std::shared_ptr<const Manifest> manifest,
                                             Reservation reservation, const std::optional<Payer>& payer) {
  Tier& tier = *tier_named(reservation.tier());
  const Key key{dataset, manifest->summary().generation};
  std::shared_ptr<Replica> replica = find(dataset, key.second);
  bool check = false;
  if (!replica) {
    const std::string path = directory_of(tier, dataset, key.second);
    struct stat st {};
    if (stat(path.c_str(), &st) == 0 && mounted_replicas().contains(place_of(dataset, key.second)))
      return fail(Code::unavailable, path + " is mounted for a job, and nobody has a record of it");
    auto made = make(dataset, manifest, tier, true);
    if (!made) {
      // Nothing may stay of it; what the removal could not do, the next start does.
      static_cast<void>(remove_tree(path));
      note_failure(tier.options.name, made.error());
      return fail(made.error());
    }
    replica = std::move(*made);
  }
  {
    const std::lock_guard lock(mutex_);
    auto [it, fresh] = replicas_.try_emplace(key);
    if (fresh) it->second.replica = replica;
    replica = it->second.replica;
    it->second.last_used = clock_.wall();
    check = std::exchange(it->second.unverified, false);
    auto& state = replica->internals();
    state.charged += reservation.space_.bytes;
    state.inodes += reservation.space_.inodes;
    tier.reserved -= reservation.space_;
    if (payer && (fresh || reservation.space_.bytes != 0)) {
      const std::lock_guard inner(state.mutex);
      state.payer = payer;
    }
    if (!reservation.some_) {
      state.room.set_most(Room::kNoLimit);
    } else if (fresh || state.room.most() != Room::kNoLimit) {
      state.room.set_most(state.charged);
    }
    reservation.store_ = nullptr;
  }
  if (check) ATLAS_TRY(replica->verify());
  ATLAS_TRY(put(key));
  announce(info(*replica));
  return replica;
}

Status Store::put(const Key& key) {
  Tier* tier = nullptr;
  if (const auto replica = find(key.first, key.second)) tier = tier_named(replica->tier());
  if (tier == nullptr) return {};
  const std::lock_guard order(tier->put_mutex);
  ReplicaRow row;
  {
    const std::lock_guard lock(mutex_);
    const auto it = replicas_.find(key);
    if (it == replicas_.end()) return {};
    const ReplicaInfo about = describe(it->second);
    const auto& s = it->second.replica->summary();
    row.dataset = about.dataset;
    row.generation = about.generation;
    row.tier = about.tier;
    row.complete = about.state == ReplicaState::complete;
    row.boot = options_.boot;
    row.last_used = about.last_used;
    row.charged = it->second.replica->internals().charged;
    row.inodes = it->second.replica->internals().inodes;
    row.borrowed_bytes = it->second.replica->internals().borrowed_bytes;
    row.borrowed_inodes = it->second.replica->internals().borrowed_inodes;
    row.blind = s.blind;
    row.blocks = s.blocks;
    row.allocated = s.allocated;
    row.is_file = s.is_file;
    row.windows = s.windows;
    const std::lock_guard inner(it->second.replica->internals().mutex);
    const auto& vouchers = it->second.replica->internals().vouchers;
    row.vouchers.assign(vouchers.begin(), vouchers.end());
    row.payer = it->second.replica->internals().payer;
  }
  return tier->database->put_replica(row);
}

Status Store::vouch(const Replica& replica, const Principal& as, WallTime when) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = replicas_.find({replica.dataset(), replica.generation()});
    if (it == replicas_.end()) return fail(Code::not_found, show(replica.dataset()) + ": the replica is gone");
    it->second.observed = std::max(it->second.observed, when);
    auto& state = it->second.replica->internals();
    const std::lock_guard inner(state.mutex);
    state.vouchers.insert(key_of(as));
  }
  return put({replica.dataset(), replica.generation()});
}

Store::LookedAt Store::share_equal_files(const std::shared_ptr<Replica>& replica) {
  LookedAt looked;
  auto& state = replica->internals();
  const auto manifest = replica->manifest();
  if (!manifest) return looked;
  const auto keys = keys_of(**manifest, state.blocks);
  if (!save_keys(state.path, keys)) return looked;  // without them nobody would find out later what it shares
  // Each one's list of keys is read whole, so there is an end to it: who has what this one has is most likely an
  // owner's other dataset, or one that is in use.
  const std::uint64_t most = std::max(options_.equal_files_among, 4 * state.summary.files);
  std::vector<std::tuple<bool, WallTime, std::uint64_t, Key>> others;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, held] : replicas_) {
      const auto& other = *held.replica;
      if (held.replica == replica || other.tier() != state.tier || other.state() != ReplicaState::complete) continue;
      others.emplace_back(other.summary().owner == state.summary.owner, held.last_used, other.summary().files, key);
    }
  }
  std::sort(others.rbegin(), others.rend());
  Space saved;
  for (const auto& [same_owner, last_used, files, key] : others) {
    if (looked.files + files > most) continue;       // a smaller one may fit
    const auto other = find(key.first, key.second);  // one at a time: what is held cannot be evicted
    if (!other || other->state() != ReplicaState::complete) continue;
    looked.files += files;
    ++looked.replicas;
    if (const auto space = store_once(*replica, keys, *other)) saved += *space;  // the rest stays as it was fetched
    other->forget_manifest();
  }
  const std::lock_guard lock(mutex_);
  saved = saved.at_most({state.charged, state.inodes});
  state.borrowed_bytes += saved.bytes;
  state.borrowed_inodes += saved.inodes;
  state.charged -= saved.bytes;
  state.inodes -= saved.inodes;
  state.room.give(std::min(saved.bytes, state.room.used()));
  tier_named(state.tier)->used -= saved;
  return looked;
}

Status Store::complete(const std::shared_ptr<Replica>& replica) {
  auto& state = replica->internals();
  ATLAS_TRY(flush(state.tier));
  if (replica->files_resident() != state.summary.files)  // another one's flush has found that out
    return fail(Code::internal, "tier " + state.tier + " has lost what was written to it; it will be fetched again");
  state.state.store(ReplicaState::complete, std::memory_order_release);
  ATLAS_TRY(put({replica->dataset(), replica->generation()}));
  announce(info(*replica));
  if (const auto manifest = replica->manifest()) state.tree.forget_large_files(**manifest);
  const std::lock_guard inner(state.mutex);
  state.manifest.reset();  // 70 bytes per file, and nobody asks a complete replica for it
  return {};
}

void Store::settle(const std::shared_ptr<Replica>& replica) {
  auto& state = replica->internals();
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t written = state.room.used(), charged = state.charged;
    if (charged > written) {
      tier_named(state.tier)->used.bytes -= charged - written;
      state.charged = written;
    }
  }
  static_cast<void>(
      put({replica->dataset(), replica->generation()}));  // worst case the old charge stands until restart
  announce(info(*replica));
}

void Store::note_failure(const std::string& tier, const Error& error) {
  // A full disk is not a bad one.
  if (error.sys_errno != EIO && error.sys_errno != EROFS && error.sys_errno != EUCLEAN) return;
  const std::lock_guard lock(mutex_);
  if (Tier* t = tier_named(tier); t != nullptr && t->probe) t->probe->doubt();
}

std::vector<std::shared_ptr<Replica>> Store::replicas_of(const DatasetId& dataset) const {
  std::vector<std::shared_ptr<Replica>> found;
  const std::lock_guard lock(mutex_);
  for (auto it = replicas_.lower_bound({dataset, {}}); it != replicas_.end() && it->first.first == dataset; ++it)
    found.push_back(it->second.replica);
  return found;
}

Result<Replica::Verified> Store::verify(const std::shared_ptr<Replica>& replica, const Replica::Step& step) {
  const auto verified = replica->verify(step);
  replica->forget_manifest();
  if (!verified) return fail(verified.error());
  if (verified->bad != 0) {
    ATLAS_TRY(put({replica->dataset(), replica->generation()}));
    announce(info(*replica));
  }
  return verified;
}

Store::Tier* Store::tier_named(const std::string& name) const {
  for (const auto& tier : tiers_)
    if (tier->options.name == name) return tier.get();
  return nullptr;
}

void Store::announce(const ReplicaInfo& about) const {
  if (!changed_) return;
  // What is told last must be what is true last: two threads may come here with looks taken in the other order.
  const std::lock_guard order(announce_mutex_);
  ReplicaInfo now = about;
  {
    const std::lock_guard lock(mutex_);
    const auto it = replicas_.find({about.dataset, about.generation.id});
    if (it != replicas_.end()) now = describe(it->second);
  }
  changed_(now);
}

ReplicaInfo Store::describe(const Held& held) const {
  const auto& s = held.replica->summary();
  ReplicaInfo out;
  out.dataset = held.replica->dataset();
  out.generation = {s.generation, Bytes{s.bytes},  s.files,       s.entries,
                    s.opaque,     s.outward_links, held.observed, s.owner};
  out.state = held.replica->state();
  out.bytes_resident = held.replica->bytes_resident();
  out.files_resident = held.replica->files_resident();
  out.tier = held.replica->tier();
  out.last_used = held.last_used;
  out.charged = Bytes{held.replica->internals().charged};
  out.pinned = pins_.contains(out.dataset);
  out.leases.assign(held.leases.begin(), held.leases.end());
  const std::lock_guard inner(held.replica->internals().mutex);
  out.payer = held.replica->internals().payer;
  return out;
}

ReplicaInfo Store::info(const Replica& replica) const {
  const std::lock_guard lock(mutex_);
  const auto it = replicas_.find({replica.dataset(), replica.generation()});
  if (it != replicas_.end()) return describe(it->second);
  ReplicaInfo gone;
  gone.dataset = replica.dataset();
  gone.generation.id = replica.generation();
  gone.tier = replica.tier();
  return gone;
}

std::vector<ReplicaInfo> Store::inventory() const {
  const std::lock_guard lock(mutex_);
  std::vector<ReplicaInfo> all;
  for (const auto& [key, held] : replicas_) all.push_back(describe(held));
  return all;
}

std::string Store::why_silent(const Replica& replica) const {
  for (const auto& tier : tiers_)
    if (tier->options.name == replica.tier() && tier->probe && tier->probe->health() == TierProbe::Health::silent)
      return "the disk it lies on (tier " + tier->options.name + ") does not answer";
  return "";
}

std::vector<TierInfo> Store::tiers() const {
  const std::lock_guard lock(mutex_);
  std::vector<TierInfo> all;
  for (const auto& tier : tiers_)
    all.push_back({tier->options.name, tier->options.quota, Bytes{tier->used.bytes},
                   tier->ok() && tier->crowded ? "crowded" : tier->state(), tier->options.inodes, tier->used.inodes,
                   tier->why_out});
  return all;
}

}  // namespace atlas::agent
