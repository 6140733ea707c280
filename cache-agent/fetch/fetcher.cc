#include "cache-agent/fetch/fetcher.h"

#include <algorithm>

#include "cache-agent/fetch/flight.h"
#include "cache-agent/store/block_map.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

/// Whoever finds blocks missing that he was told are there asks again: another's read ended early, or failed for want
/// of that one's rights. His own read brings them or says why not.
constexpr unsigned kMostRounds = 8;

bool urgent(Urgency urgency) {
  return urgency == Urgency::fault || urgency == Urgency::read_ahead;
}

/// Nobody wanted it any more when its turn came. Who has joined since finds it missing and asks again.
bool given_up(const Status& status) {
  return !status && status.error().code == Code::cancelled;
}

}  // namespace

std::string path_of(const Flight& flight) {
  const std::string below = flight.manifest->path(flight.file);
  const std::string& dataset = flight.into->dataset().path;
  return dataset.empty() || below.empty() ? dataset + below : dataset + "/" + below;
}

Waiter& Waiter::operator=(Waiter&& other) noexcept {
  if (this != &other) {
    cancel();
    want_ = std::move(other.want_);
  }
  return *this;
}

void Waiter::cancel() {
  const auto want = std::exchange(want_, nullptr);
  if (want && !want->settled.exchange(true) && want->cancelled) want->cancelled();
}

Fetcher::Fetcher(const std::vector<Origin*>& origins, Governor& governor, Executor& writers, FetcherOptions options)
    : governor_(governor), writers_(writers), options_(options), buffers_(options.buffers) {
  for (Origin* origin : origins) origins_[origin->name()] = origin;
}

Fetcher::~Fetcher() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return active_ == 0; });
}

bool Fetcher::missing(const FetchRequest& request, const Manifest& manifest) {
  return !request.into->resident(manifest, request.want);
}

/// Settles one thing that a want waits for; the last one tells its owner, or sends it out again.
void Fetcher::arrive(const std::shared_ptr<Want>& want, const Status& status) {
  bool again = false;
  {
    const std::lock_guard lock(want->mutex);
    if (!status && want->status) want->status = status;
    if (--want->waiting != 0) return;
    if (want->status && missing(want->request, *want->manifest)) {
      again = !want->settled && ++want->rounds < kMostRounds;
      if (!again) want->status = fail(Code::unavailable, "it was brought again and again, and is not there");
    }
    if (again) {
      want->waiting = 1;
    } else {
      want->request.into.reset();  // who is told may want to evict it
    }
  }
  if (again) return seek(want);
  if (!want->settled.exchange(true)) want->done(want->status);
}

Waiter Fetcher::fetch(FetchRequest request, std::function<void(Status)> done) {
  auto want = std::make_shared<Want>();
  want->done = std::move(done);
  want->request = std::move(request);
  const auto& r = want->request;
  Status possible;
  const auto manifest = r.into->manifest();
  if (!manifest) {
    possible = fail(manifest.error());
  } else if (!origins_.contains(r.into->dataset().origin)) {
    possible = fail(Code::not_found, "origin '" + r.into->dataset().origin + "' is not configured on this node");
  } else if ((*manifest)->at(r.want.file).blocks == 0) {
    possible = fail(Code::permission_denied, printable((*manifest)->path(r.want.file)) + ": not readable");
  }
  if (manifest) want->manifest = *manifest;
  want->tally = tallies_.of(r.into->dataset(), r.as.uid);
  Waiter waiter(want);
  if (possible) {
    seek(want);
  } else {
    writers_.post([this, want, possible] { arrive(want, possible); });
  }
  return waiter;
}

/// Puts the want on every piece of work it needs and starts those that nobody was doing yet.
void Fetcher::seek(const std::shared_ptr<Want>& want) {
  const auto joined = urgent(want->request.urgency) ? join_blocks(want) : join_chunks(want);
  for (const auto& flight : joined.fresh) launch(flight);
  for (const auto& flight : joined.known) {
    const auto& request = want->request;
    join_payers(flight, {payer_of(request.as, request.payer), request.urgency});
  }
  {
    const std::lock_guard lock(want->mutex);
    if (want->waiting > 1) {  // what it waits for will tell
      --want->waiting;
      return;
    }
  }
  writers_.post([this, want] { arrive(want, {}); });
}

/// mutex_ is held.
std::shared_ptr<Flight> Fetcher::make_flight(const Want& want, std::uint64_t begin, std::uint64_t end) {
  const auto& request = want.request;
  auto flight = std::make_shared<Flight>();
  flight->into = request.into;
  flight->manifest = want.manifest;
  flight->origin = origins_.at(request.into->dataset().origin);
  flight->file = request.want.file;
  flight->begin = begin;
  flight->end = end;
  flight->payer = request.payer;
  flight->urgency = request.urgency;
  flight->moved = request.moved;
  flight->from_peers = request.from_peers;
  flight->tally = want.tally;
  flight->walked = request.walked;
  flight->as = request.as;
  ++active_;
  return flight;
}

Fetcher::Joined Fetcher::join_chunks(const std::shared_ptr<Want>& want) {
  Joined joined;
  const auto& request = want->request;
  const std::uint64_t size = want->manifest->at(request.want.file).attributes.size;
  const std::uint64_t unit = std::max<std::uint64_t>(1, std::min(size, options_.chunk.count));
  const std::uint64_t first = request.want.offset.count / unit;
  const std::uint64_t end = std::min(size, request.want.offset.count + request.want.length.count);
  const std::uint64_t last = std::max(first + 1, (end + unit - 1) / unit);
  for (std::uint64_t number = first; number < last; ++number) {
    const std::uint64_t from = number * unit, to = std::min(size, from + unit);
    const std::lock_guard lock(mutex_);
    const Key key{request.into.get(), request.want.file, number};
    auto place = chunks_.find(key);
    if (place == chunks_.end()) {
      if (request.into->resident(*want->manifest, {request.want.file, Bytes{from}, Bytes{to - from}})) continue;
      place = chunks_.emplace(key, make_flight(*want, from, to)).first;
      place->second->chunk = key;
      joined.fresh.push_back(place->second);
    } else {
      joined.known.push_back(place->second);
    }
    const std::lock_guard inner(want->mutex);
    ++want->waiting;
    place->second->wants.push_back(want);
  }
  return joined;
}

/// The claim that covers a place in a file. mutex_ is held.
Fetcher::Claims::iterator Fetcher::claim_at(const Replica* replica, FileIndex file, std::uint64_t at) {
  auto it = claims_.upper_bound({replica, file, at});
  if (it == claims_.begin()) return claims_.end();
  --it;
  const auto& [owner, its_file, begin] = it->first;
  return owner == replica && its_file == file && at < it->second.end ? it : claims_.end();
}

/// All of it is here, or being read by somebody.
bool Fetcher::all_comes(const Replica& replica, const Manifest& manifest, const Extent& extent) {
  const std::uint64_t end = extent.offset.count + extent.length.count;
  std::uint64_t at = extent.offset.count / kMiB.count * kMiB.count;
  const std::lock_guard lock(mutex_);
  while (at < end) {
    // First claims, then bits: a claim goes after its bits are set.
    if (const auto claim = claim_at(&replica, extent.file, at); claim != claims_.end()) {
      at = claim->second.end;
    } else if (replica.resident(manifest, {extent.file, Bytes{at}, Bytes{std::min(kMiB.count, end - at)}})) {
      at += kMiB.count;
    } else {
      return false;
    }
  }
  return true;
}

bool Fetcher::can_keep(const Replica& replica, const Manifest& manifest, const Extent& extent) {
  if (!replica.keeps(manifest.at(extent.file).attributes)) return false;
  // In this order: what a claim had taken of the room when that was looked at is still claimed, or here.
  return replica.has_room_for(manifest, extent) || all_comes(replica, manifest, extent);
}

/// How far from `begin` (missing, and nobody's) it goes on like that, at most to `end`. mutex_ is held.
std::uint64_t Fetcher::free_run(const Replica& replica, const Manifest& manifest, FileIndex file, std::uint64_t begin,
                                std::uint64_t end) {
  const auto next = claims_.upper_bound({&replica, file, begin});
  if (next != claims_.end() && std::get<0>(next->first) == &replica && std::get<1>(next->first) == file)
    end = std::min(end, std::get<2>(next->first));
  std::uint64_t at = std::min(end, begin + kMiB.count);
  while (at < end && !replica.resident(manifest, {file, Bytes{at}, Bytes{std::min(kMiB.count, end - at)}}))
    at = std::min(end, at + kMiB.count);
  return at;
}

Fetcher::Joined Fetcher::join_blocks(const std::shared_ptr<Want>& want) {
  Joined joined;
  const auto& r = want->request;
  const auto* replica = r.into.get();
  const std::uint64_t size = want->manifest->at(r.want.file).attributes.size;
  const auto block = [](std::uint64_t offset) { return offset / kMiB.count * kMiB.count; };
  const std::uint64_t end = std::min(size, block(r.want.offset.count + r.want.length.count + kMiB.count - 1));
  std::uint64_t at = block(r.want.offset.count);
  const std::uint64_t piece =
      piece_of({r.into->dataset().origin, r.as.uid, r.as.gid, r.payer.job_id, r.urgency, {}, 0});
  const std::lock_guard lock(mutex_);
  do {
    // First claims, then bits: a claim goes after its bits are set.
    auto claim = claim_at(replica, r.want.file, at);
    if (claim == claims_.end()) {
      const std::uint64_t one = std::min(kMiB.count, size - at);
      if (r.into->resident(*want->manifest, {r.want.file, Bytes{at}, Bytes{one}})) {
        at += kMiB.count;
        continue;
      }
      const std::uint64_t to =
          size == 0 ? 0 : free_run(*replica, *want->manifest, r.want.file, at, std::min(end, at + piece));
      auto flight = make_flight(*want, at, to);
      flight->claim = Key{replica, r.want.file, at};
      claim = claims_.emplace(*flight->claim, Claim{std::max(to, at + 1), r.as, {}, {}, flight}).first;
      joined.fresh.push_back(std::move(flight));
    } else if (auto flight = claim->second.by.lock(); flight) {
      joined.known.push_back(std::move(flight));
    }
    {
      const std::lock_guard inner(want->mutex);
      ++want->waiting;
    }
    claim->second.wants.push_back(want);
    at = claim->second.end;
  } while (at < end);
  return joined;
}

Fetcher::Claim Fetcher::take_claim(const Key& key) {
  const std::lock_guard lock(mutex_);
  return std::move(claims_.extract(key).mapped());
}

/// A run of blocks is through, or cannot be had.
void Fetcher::tell(const Claim& claim, const Status& status) {
  // What one user may not read another may: whoever has other rights finds it missing and asks by himself.
  const bool rights = !status && status.error().code == Code::permission_denied;
  for (const auto& want : claim.wants)
    arrive(want, (rights && want->request.as != claim.as) || given_up(status) ? Status{} : status);
  for (const auto& follower : claim.followers) release(follower, {}, On::elsewhere);
}

void Fetcher::launch(const std::shared_ptr<Flight>& flight) {
  if (flight->chunk) {
    const std::lock_guard lock(mutex_);
    const auto& leader = flight->wants.front()->request;
    flight->tally = flight->wants.front()->tally;
    flight->as = leader.as;
    flight->walked = leader.walked;
    flight->own_share = leader.own_share;
  }
  {
    const std::lock_guard lock(flight->mutex);
    flight->status = {};
    flight->pending = 1;
    flight->unpaid = false;
  }
  flight->at = flight->paid = flight->begin;
  if (!ask_peers(flight)) read_origin(flight);
}

void Fetcher::read_on(const std::shared_ptr<Flight>& flight) {
  const auto go_on = [this, flight](const Status& able) {
    if (const auto done = able ? read(flight) : std::optional(able)) {
      flight->open.reset();
      release(flight, *done, On::elsewhere);
    }
  };
  if (flight->open) return flight->origin->run(flight->as, flight->urgency, go_on);
  flight->origin->run_for(path_of(*flight), flight->as, flight->urgency, go_on);
}

/// How it ended; nothing = it goes on when the next piece is paid for.
std::optional<Status> Fetcher::read(const std::shared_ptr<Flight>& flight) {
  if (!flight->open) {
    const auto& entry = flight->manifest->at(flight->file);
    auto file = flight->origin->open(path_of(*flight), entry.attributes);
    if (!file) return Status(fail(std::move(file).error()));
    flight->open = std::move(*file);
    flight->open->expect_no_second_read();
    if (flight->claim && flight->end - flight->begin < entry.attributes.size) flight->open->expect_pieces();
    flight->meta.reset();
    if (flight->begin == 0) {
      auto found = flight->open->meta();
      if (!found) return Status(fail(std::move(found).error()));
      flight->meta = std::make_shared<const FileMeta>(std::move(*found));
    }
    count(*flight, 0, flight->meta ? 2 : 1);
  }
  if (flight->begin == flight->end) {  // an empty file
    write(flight,
          [flight, meta = flight->meta] {
            return flight->into->commit({flight->file, {}, {}}, {}, {}, meta.get());
          },
          {});
    return Status{};
  }
  while (flight->at < flight->end) {
    {
      const std::lock_guard lock(flight->mutex);
      if (!flight->status) return Status{};  // the disk has failed already
    }
    if (flight->at >= flight->paid) {
      if (!is_wanted(*flight)) return Status(nobody_waits());
      if (!pay(flight, 1)) return std::nullopt;
    }
    if (auto read = read_piece(flight); !read) return read;
  }
  return Status{};
}

/// Passes over what is there or being read by others. Otherwise claims what is read next, up to `end`.
bool Fetcher::others_have(const std::shared_ptr<Flight>& flight, std::uint64_t& at, std::uint64_t& end) {
  std::unique_lock lock(mutex_);
  if (const auto claim = claim_at(flight->into.get(), flight->file, at); claim != claims_.end()) {
    claim->second.followers.push_back(flight);
    at = claim->second.end;
    {
      const std::lock_guard inner(flight->mutex);
      ++flight->pending;
    }
    const auto by = claim->second.by.lock();
    lock.unlock();
    if (!by) return true;
    for (const auto& payer : payers_of(*flight, {})) join_payers(by, payer);
    return true;
  }
  const std::uint64_t one = std::min(kMiB.count, flight->end - at);
  if (flight->into->resident(*flight->manifest, {flight->file, Bytes{at}, Bytes{one}})) {
    at += one;  // a broken warm-up is resumed
    return true;
  }
  end = free_run(*flight->into, *flight->manifest, flight->file, at, end);
  claims_.emplace(Key{flight->into.get(), flight->file, at}, Claim{end, flight->as, {}, {}, {}});
  return false;
}

Status Fetcher::read_piece(const std::shared_ptr<Flight>& flight) {
  const std::uint64_t begin = flight->at;
  const std::uint64_t most = std::min(kPiece, flight->paid - begin);
  std::uint64_t end = begin + most;
  const auto memory = buffers_.take(most);  // before the claim: nobody waits for a block that waits for memory
  if (!memory) return fail(Code::resource_exhausted, "no memory for a piece of " + printable(path_of(*flight)));
  std::optional<Key> claim;
  if (!flight->claim) {
    if (others_have(flight, flight->at, end)) {
      flight->paid = std::max(flight->paid, flight->at);  // others have paid for that
      return {};
    }
    claim = Key{flight->into.get(), flight->file, begin};
  }
  const auto buffer = memory->bytes().first(end - begin);
  const auto piece = flight->open->read(Bytes{begin}, buffer);
  const bool empty = piece && piece->length.count == 0;
  if (!piece || empty) {
    Status failed =
        piece ? Status(fail(Code::aborted, printable(flight->manifest->path(flight->file)) + " became shorter"))
              : Status(fail(piece.error()));
    if (claim) tell(take_claim(*claim), failed);
    return failed;
  }
  const auto with_meta = begin == 0 ? flight->meta : nullptr;
  const std::uint64_t length = std::min(piece->length.count, end - begin);
  const Extent extent{flight->file, Bytes{begin}, Bytes{length}};
  flight->at = begin + length;
  if (piece->hole) {
    write(
        flight, [flight, extent, with_meta] { return flight->into->commit_hole(extent, with_meta.get()); }, claim);
    return {};
  }
  count(*flight, length, 1);
  share_cost(*flight, claim ? claim : flight->claim);
  BlockSums sums;
  for (std::uint64_t done = 0; done < length; done += kMiB.count)
    sums.push_back(sum_of(buffer.subspan(done, std::min(kMiB.count, length - done))));
  write(
      flight,
      [flight, extent, with_meta, memory, sums = std::move(sums)] {
        return flight->into->commit(extent, memory->bytes().first(extent.length.count), sums, with_meta.get());
      },
      claim);
  return {};
}

void Fetcher::write(const std::shared_ptr<Flight>& flight, std::function<Status()> commit, std::optional<Key> claim) {
  {
    const std::lock_guard lock(flight->mutex);
    ++flight->pending;
  }
  writers_.post([this, flight, commit = std::move(commit), claim]() mutable {
    const Status committed = commit();
    commit = {};  // its memory may be used again before anybody is told
    if (claim) tell(take_claim(*claim), committed);
    release(flight, committed, On::writer);
  });
}

/// One of the reader and its writes is through.
void Fetcher::release(const std::shared_ptr<Flight>& flight, const Status& status, On thread) {
  {
    const std::lock_guard lock(flight->mutex);
    if (!status && flight->status) flight->status = status;
    if (--flight->pending != 0) return;
  }
  if (thread == On::writer) return land(flight);
  writers_.post([this, flight] { land(flight); });
}

void Fetcher::land(const std::shared_ptr<Flight>& flight) {
  share_cost(*flight, flight->claim);
  settle(*flight);
  const Status status = flight->status;
  std::vector<std::shared_ptr<Want>> through;
  bool again = false;
  if (flight->chunk) {
    const std::lock_guard lock(mutex_);
    auto& wants = flight->wants;
    if (!status && status.error().code == Code::permission_denied) {
      // What one user may not read another may: only those who share the leader's rights fail with him.
      const auto others = std::stable_partition(wants.begin(), wants.end(),
                                                [&](const auto& want) { return want->request.as == flight->as; });
      through.assign(wants.begin(), others);
      wants.erase(wants.begin(), others);
      again = !wants.empty();
    } else {
      through = std::move(wants);
    }
    if (!again) chunks_.erase(*flight->chunk);
  }
  const Claim claim = flight->claim ? take_claim(*flight->claim) : Claim{};
  if (again) {
    launch(flight);
  } else {
    flight->into.reset();  // who is told below may want to evict it
  }
  tell(claim, status);
  for (const auto& want : through) arrive(want, given_up(status) ? Status{} : status);
  if (again) return;
  const std::lock_guard lock(mutex_);
  if (--active_ == 0) idle_.notify_all();
}

std::size_t Fetcher::in_flight() const {
  const std::lock_guard lock(mutex_);
  return active_;
}

}  // namespace atlas::agent
