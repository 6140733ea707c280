// How a store finds again what it had, after any end of the process before it. A tier that cannot be read now is out of
// use, with all that is on it, and takes nothing else along: each has a database of its own.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "cache-agent/store/remove_tree.h"
#include "cache-agent/store/store_internal.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

ManifestSummary summary_of(const ReplicaRow& row) {
  ManifestSummary s;
  s.generation = row.generation.id;
  s.bytes = row.generation.bytes.count;
  s.files = row.generation.files;
  s.entries = row.generation.entries;
  s.opaque = row.generation.opaque;
  s.blind = row.blind;
  s.outward_links = row.generation.outward_links;
  s.allocated = row.allocated;
  s.blocks = row.blocks;
  s.is_file = row.is_file;
  s.windows = row.windows;
  s.owner = row.generation.owner.value_or(0);
  return s;
}

/// A disk, or a machine, that cannot read it now. All else is lost: not all of it was on the disk when the machine went
/// down, or somebody has deleted it.
bool may_be_read_later(const Error& error) {
  switch (error.sys_errno) {
    case EIO:
    case EACCES:
    case EPERM:
    case ELOOP:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENODEV:
    case ENXIO:
    case EROFS:
    case ESTALE:
    case ETIMEDOUT:
    case EUCLEAN:
      return true;
    default:
      return error.code == Code::unavailable || error.code == Code::resource_exhausted ||
             error.code == Code::permission_denied;
  }
}

bool is_gone(const std::string& path) {
  struct stat st {};
  return stat(path.c_str(), &st) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

}  // namespace

Status Store::open_tier(Tier& tier) {
  const auto& options = tier.options;
  std::error_code error;
  std::filesystem::create_directories(options.path, error);
  if (error) return fail_errno(error.value(), "tier " + options.name + ": cannot make " + options.path);
  ATLAS_ASSIGN(tier.lock, FileLock::take(options.path + "/lock", "tier " + options.name));
  if (chmod(options.path.c_str(), 0700) != 0) return fail_errno(errno, "tier " + options.name + ": " + options.path);
  ATLAS_TRY(make_directory(options.path + "/replicas"));
  ATLAS_TRY(make_directory(options.path + "/trash"));
  tier.root = UniqueFd(::open(options.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!tier.root) return fail_errno(errno, "tier " + options.name + ": " + options.path);
  for (const auto& left : std::filesystem::directory_iterator(options.path + "/trash", error))
    tier.leftovers.push_back(left.path().string());
  tier.deleting = !tier.leftovers.empty();
  if (error) return fail_errno(error.value(), "tier " + options.name + ": " + options.path + "/trash");
  ATLAS_ASSIGN(tier.database, NodeManifest::open(options.path + "/node.db"));
  return {};
}

/// Earlier versions kept the records of all tiers in the first one's database.
void Store::part_records() {
  for (const auto& tier : tiers_) {
    if (!tier->root) continue;
    const auto rows = tier->database->replicas();
    if (!rows) continue;  // recover() comes across it, too
    for (const auto& row : *rows) {
      Tier* home = row.tier == tier->options.name ? nullptr : tier_named(row.tier);
      if (home == nullptr || !home->root || !is_gone(directory_of(*tier, row.dataset, row.generation.id)) ||
          is_gone(directory_of(*home, row.dataset, row.generation.id)))
        continue;
      const auto its = home->database->replicas();
      const bool known = its && std::any_of(its->begin(), its->end(), [&](const auto& other) {
                           return other.dataset == row.dataset && other.generation.id == row.generation.id;
                         });
      if (its && (known || home->database->put_replica(row)))
        static_cast<void>(tier->database->drop_replica(row.dataset, row.generation.id));
    }
  }
}

Error Store::Tier::give_up(Error why) {
  root.reset();
  database.reset();
  used = {};
  why_out = why.message;
  return why;
}

Error Store::give_up(Tier& tier, Error why) {
  std::erase_if(replicas_, [&](const auto& entry) { return entry.second.replica->tier() == tier.options.name; });
  return tier.give_up(std::move(why));
}

Status Store::recover(Tier& tier) {
  ATLAS_ASSIGN(const auto rows, tier.database->replicas());
  std::set<std::string> known;
  for (const auto& row : rows) {
    const std::string path = directory_of(tier, row.dataset, row.generation.id);
    // Another tier's, which may come back with its disk; or this one's, by the name that it had before.
    if (row.tier != tier.options.name && is_gone(path)) continue;
    auto replica = bring_back(row, tier);
    if (!replica && may_be_read_later(replica.error())) {  // it takes its room until then
      known.insert(path);
      tier.used += {row.charged, row.inodes};
      continue;
    }
    if (!replica || !better_than_other(row)) {
      ATLAS_TRY(tier.database->drop_replica(row.dataset, row.generation.id));
      continue;  // its directory goes below
    }
    const auto& state = (*replica)->internals();
    known.insert(state.path);
    tier.used += {state.charged, state.inodes};
    const bool complete = (*replica)->state() == ReplicaState::complete;
    replicas_[{row.dataset, row.generation.id}] = {
        std::move(*replica), row.last_used, row.generation.observed, {}, !complete && row.boot != options_.boot};
  }
  return throw_away_unknown(tier, known);
}

/// A tier that was out while what lies on it was brought to another one: only one of the two is kept.
bool Store::better_than_other(const ReplicaRow& row) {
  const auto other = replicas_.find({row.dataset, row.generation.id});
  if (other == replicas_.end()) return true;
  const auto& its = other->second.replica->internals();
  Tier& home = *tier_named(its.tier);
  if (!row.complete || other->second.replica->state() == ReplicaState::complete) return false;
  home.used -= {its.charged, its.inodes};
  // Without a record it goes at the next start.
  static_cast<void>(home.database->drop_replica(row.dataset, row.generation.id));
  replicas_.erase(other);
  return true;
}

/// What nobody has a record of. It goes out of sight now, and away later: a million files take minutes, and the jobs'
/// views wait for this agent.
Status Store::throw_away_unknown(Tier& tier, const std::set<std::string>& known) {
  std::vector<std::string> unknown;
  try {
    for (const auto& dataset : std::filesystem::directory_iterator(tier.options.path + "/replicas"))
      if (dataset.is_directory())
        for (const auto& generation : std::filesystem::directory_iterator(dataset.path()))
          if (!known.contains(generation.path().string())) unknown.push_back(generation.path().string());
  } catch (const std::filesystem::filesystem_error& error) {
    return fail_errno(error.code().value(), "tier " + tier.options.name + ": " + error.path1().string());
  }
  if (unknown.empty()) return {};
  const auto mounted = mounted_replicas();
  const std::string top = tier.options.path + "/replicas/";
  for (const auto& path : unknown) {
    if (mounted.contains(path.substr(top.size()))) continue;  // a job reads it: the next start looks again
    const std::string trash = new_trash(tier);
    if (rename(path.c_str(), trash.c_str()) != 0) return fail_errno(errno, "tier " + tier.options.name + ": " + path);
    tier.leftovers.push_back(trash);
    tier.deleting = true;
  }
  return {};
}

std::string Store::new_trash(const Tier& tier) {
  return tier.options.path + "/trash/" + std::to_string(clock_.wall().time_since_epoch().count()) + "-" +
         std::to_string(getpid()) + "-" + std::to_string(++trash_count_);
}

void Store::empty_trash(const std::stop_token& stop) {
  for (const auto& tier : tiers_) {
    const auto leftovers = std::exchange(tier->leftovers, {});
    for (const auto& left : leftovers) {
      if (!tier->root || stop.stop_requested()) break;
      if (const auto removed = remove_tree(left, stop); !removed) note_failure(tier->options.name, removed.error());
    }
    tier->deleting = false;
  }
}

/// A block of it was found to be bad: it is complete no more, whatever happens next.
void Store::note_damage(const Key& key) {
  static_cast<void>(put(key));  // if that fails, its residency says so at the next start
  if (const auto replica = find(key.first, key.second)) announce(info(*replica));
}

Result<std::shared_ptr<Replica>> Store::bring_back(const ReplicaRow& row, Tier& tier) {
  const std::string path = directory_of(tier, row.dataset, row.generation.id);
  UniqueFd fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return fail_errno(errno, path);
  ATLAS_ASSIGN(auto blocks, BlockMap::open(fd.get(), row.blocks, false));
  auto state = std::make_unique<Replica::State>(row.dataset, summary_of(row), tier.options.name, path,
                                                options_.absolute(row.dataset), std::move(fd), std::move(blocks));
  state->charged = row.charged;
  state->inodes = row.inodes != 0 ? row.inodes : overhead_of(state->summary).inodes;
  state->borrowed_bytes = row.borrowed_bytes;
  state->borrowed_inodes = row.borrowed_inodes;
  state->crowded = &tier.crowded;
  state->payer = row.payer;
  state->vouchers.insert(row.vouchers.begin(), row.vouchers.end());
  state->grow = [this, key = Key{row.dataset, row.generation.id}] { return grow(key); };
  state->failed = [this, name = state->tier](const Error& error) { note_failure(name, error); };
  state->damaged = [this, key = Key{row.dataset, row.generation.id}] { note_damage(key); };
  // A block that was found to be bad, even if nobody came to note that the replica is none any more.
  if (row.complete && state->blocks.test_all(0, row.blocks)) {
    state->state = ReplicaState::complete;
    state->bytes_resident = row.generation.bytes.count;
    state->files_resident = row.generation.files;
    state->room.set_used(row.charged);
  } else {
    ATLAS_ASSIGN(state->manifest, load_manifest(path, state->dataset_root, row.generation.id));
    state->count_resident(*state->manifest);
    state->blocks.mark_fresh();
    state->room.set_most(row.charged);  // until somebody reserves more
  }
  return std::make_shared<Replica>(std::move(state));
}

}  // namespace atlas::agent
