#include "cache-agent/fetch/fetcher.h"

#include <algorithm>

#include "cache-agent/store/block_map.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

/// What is read at a time: large enough for full speed, small enough that 48 readers share the buffers.
constexpr std::uint64_t kPiece = 4 * kMiB.count;

}  // namespace

/// One call of fetch(): done when all pieces of work it waits for are.
struct Want {
  Principal as;
  std::function<void(Status)> done;
  std::atomic<bool> settled{false};
  std::mutex mutex;  // guards what follows
  std::size_t waiting = 1;
  Status status;
};

Waiter& Waiter::operator=(Waiter&& other) noexcept {
  if (this != &other) {
    cancel();
    want_ = std::move(other.want_);
  }
  return *this;
}

void Waiter::cancel() {
  if (const auto want = std::exchange(want_, nullptr)) want->settled = true;
}

namespace {

void arrive(const std::shared_ptr<Want>& want, const Status& status) {
  {
    const std::lock_guard lock(want->mutex);
    if (!status && want->status) want->status = status;
    if (--want->waiting != 0) return;
  }
  if (!want->settled.exchange(true)) want->done(want->status);
}

}  // namespace

/// One piece of work: a small file, or a chunk of a large one.
struct Fetcher::Flight {
  Key key;
  std::shared_ptr<Replica> into;
  std::shared_ptr<const Manifest> manifest;
  Origin* origin = nullptr;
  FileIndex file = 0;
  std::uint64_t begin = 0, end = 0;
  JobKey payer;
  Urgency urgency = Urgency::warm_queued;
  std::shared_ptr<std::atomic<std::uint64_t>> moved;
  Principal as;                              ///< of the leader
  std::vector<std::shared_ptr<Want>> wants;  ///< the first one leads; guarded by Fetcher::mutex_
  Ticket ticket;
  Grant grant;

  std::mutex mutex;         ///< guards what follows
  std::size_t pending = 0;  ///< the reader and the writes it has posted
  Status status;
  std::uint64_t bytes = 0;
  std::uint32_t operations = 0;
};

Fetcher::Fetcher(const std::vector<Origin*>& origins, Governor& governor, Executor& writers, FetcherOptions options)
    : governor_(governor), writers_(writers), options_(options) {
  for (Origin* origin : origins) origins_[origin->name()] = origin;
}

Fetcher::~Fetcher() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return flights_.empty(); });
}

Waiter Fetcher::fetch(FetchRequest request, std::function<void(Status)> done) {
  auto want = std::make_shared<Want>();
  want->as = request.as;
  want->done = std::move(done);
  Status possible;
  const auto manifest = request.into->manifest();
  if (!manifest) {
    possible = fail(manifest.error());
  } else if (!origins_.contains(request.into->dataset().origin)) {
    possible = fail(Code::not_found, "origin '" + request.into->dataset().origin + "' is not configured on this node");
  } else if ((*manifest)->at(request.want.file).blocks == 0) {
    possible = fail(Code::permission_denied, printable((*manifest)->path(request.want.file)) + ": not readable");
  } else {
    for (const auto& flight : join(request, *manifest, want)) launch(flight);
  }
  writers_.post([want, possible] { arrive(want, possible); });
  return Waiter(want);
}

/// Puts the want on every piece of work it needs; returns those that nobody was doing yet.
std::vector<std::shared_ptr<Fetcher::Flight>> Fetcher::join(const FetchRequest& request,
                                                            const std::shared_ptr<const Manifest>& manifest,
                                                            const std::shared_ptr<Want>& want) {
  std::vector<std::shared_ptr<Flight>> fresh;
  const std::uint64_t size = manifest->at(request.want.file).attributes.size;
  const std::uint64_t unit = std::max<std::uint64_t>(1, std::min(size, options_.chunk.count));
  const std::uint64_t first = request.want.offset.count / unit;
  const std::uint64_t end = std::min(size, request.want.offset.count + request.want.length.count);
  const std::uint64_t last = std::max(first + 1, (end + unit - 1) / unit);
  for (std::uint64_t number = first; number < last; ++number) {
    const std::uint64_t from = number * unit, to = std::min(size, from + unit);
    if (request.into->resident(*manifest, {request.want.file, Bytes{from}, Bytes{to - from}})) continue;
    const std::lock_guard lock(mutex_);
    {
      const std::lock_guard inner(want->mutex);
      ++want->waiting;
    }
    auto& flight = flights_[{request.into.get(), request.want.file, number}];
    if (!flight) {
      flight = std::make_shared<Flight>();
      flight->key = {request.into.get(), request.want.file, number};
      flight->into = request.into;
      flight->manifest = manifest;
      flight->origin = origins_.at(request.into->dataset().origin);
      flight->file = request.want.file;
      flight->begin = from;
      flight->end = to;
      flight->payer = request.payer;
      flight->urgency = request.urgency;
      flight->moved = request.moved;
      fresh.push_back(flight);
    }
    flight->wants.push_back(want);
  }
  return fresh;
}

void Fetcher::launch(const std::shared_ptr<Flight>& flight) {
  {
    const std::lock_guard lock(mutex_);
    flight->as = flight->wants.front()->as;
  }
  {
    const std::lock_guard lock(flight->mutex);
    flight->status = {};
    flight->pending = 1;
  }
  const Charge charge{
      flight->origin->name(), flight->as, flight->payer, flight->urgency, Bytes{flight->end - flight->begin}, 3};
  flight->ticket = governor_.admit(charge, [this, flight](Grant grant) {
    flight->grant = std::move(grant);
    flight->origin->run(flight->as, flight->urgency,
                        [this, flight](const Status& able) { release(flight, able ? read(flight) : able); });
  });
}

Status Fetcher::read(const std::shared_ptr<Flight>& flight) {
  std::string path = flight->into->dataset().path;
  const std::string below = flight->manifest->path(flight->file);
  if (!below.empty()) path += (path.empty() ? "" : "/") + below;
  ATLAS_ASSIGN(const auto file, flight->origin->open(path, flight->manifest->at(flight->file).attributes));
  std::shared_ptr<const FileMeta> meta;
  if (flight->begin == 0) {
    ATLAS_ASSIGN(FileMeta found, file->meta());
    meta = std::make_shared<const FileMeta>(std::move(found));
  }
  count(*flight, 0, meta ? 2 : 1);
  if (flight->begin == flight->end) {  // an empty file
    write(
        flight,
        [flight, meta] {
          return flight->into->commit({flight->file, {}, {}}, {}, {}, meta.get());
        },
        0);
    return {};
  }
  for (std::uint64_t at = flight->begin; at < flight->end;) {
    {
      const std::lock_guard lock(flight->mutex);
      if (!flight->status) return {};  // the disk has failed already
    }
    ATLAS_TRY(read_piece(flight, *file, meta, at));
  }
  return {};
}

Status Fetcher::read_piece(const std::shared_ptr<Flight>& flight, OriginFile& file,
                           const std::shared_ptr<const FileMeta>& meta, std::uint64_t& at) {
  const std::uint64_t one = std::min(kMiB.count, flight->end - at);
  if (flight->into->resident(*flight->manifest, {flight->file, Bytes{at}, Bytes{one}})) {
    at += one;  // a broken warm-up is resumed
    return {};
  }
  const std::uint64_t most = std::min(kPiece, flight->end - at);
  take_buffer(most);
  const auto buffer = std::make_shared<std::vector<std::byte>>(most);
  const auto piece = file.read(Bytes{at}, *buffer);
  const bool empty = piece && piece->length.count == 0;
  if (!piece || empty || piece->hole) give_buffer(most);
  if (!piece) return fail(piece.error());
  if (empty) return fail(Code::aborted, printable(flight->manifest->path(flight->file)) + " became shorter");
  // The meta goes with the first block, whose bit vouches for it.
  const auto with_meta = at == 0 ? meta : nullptr;
  const std::uint64_t length = std::min(piece->length.count, flight->end - at);
  const Extent extent{flight->file, Bytes{at}, Bytes{length}};
  at += length;
  if (piece->hole) {
    write(
        flight, [flight, extent, with_meta] { return flight->into->commit_hole(extent, with_meta.get()); }, 0);
    return {};
  }
  count(*flight, length, 1);
  BlockSums sums;
  for (std::uint64_t done = 0; done < length; done += kMiB.count)
    sums.push_back(sum_of(std::span(*buffer).subspan(done, std::min(kMiB.count, length - done))));
  write(
      flight,
      [flight, extent, with_meta, buffer, sums = std::move(sums), length] {
        return flight->into->commit(extent, std::span(*buffer).first(length), sums, with_meta.get());
      },
      most);
  return {};
}

void Fetcher::write(const std::shared_ptr<Flight>& flight, std::function<Status()> commit, std::size_t buffer) {
  {
    const std::lock_guard lock(flight->mutex);
    ++flight->pending;
  }
  writers_.post([this, flight, commit = std::move(commit), buffer]() mutable {
    const Status committed = commit();
    commit = {};  // the buffer goes before its bytes are given back
    if (buffer != 0) give_buffer(buffer);
    release(flight, committed);
  });
}

/// One of the reader and its writes is through.
void Fetcher::release(const std::shared_ptr<Flight>& flight, const Status& status) {
  {
    const std::lock_guard lock(flight->mutex);
    if (!status && flight->status) flight->status = status;
    if (--flight->pending != 0) return;
  }
  // The callbacks never run on an origin's thread: it acts as a user.
  writers_.post([this, flight] { land(flight); });
}

void Fetcher::land(const std::shared_ptr<Flight>& flight) {
  governor_.settle(flight->grant, Bytes{flight->bytes}, flight->operations);
  const Status status = flight->status;
  std::vector<std::shared_ptr<Want>> through;
  bool again = false;
  {
    const std::lock_guard lock(mutex_);
    auto& wants = flight->wants;
    if (!status && status.error().code == Code::permission_denied) {
      // What one user may not read another may: only those who share the leader's rights fail with him.
      const auto others =
          std::stable_partition(wants.begin(), wants.end(), [&](const auto& want) { return want->as == flight->as; });
      through.assign(wants.begin(), others);
      wants.erase(wants.begin(), others);
      again = !wants.empty();
    } else {
      through = std::move(wants);
    }
    if (!again) flights_.erase(flight->key);
    if (flights_.empty()) idle_.notify_all();
  }
  if (again) {
    launch(flight);
  } else {
    flight->into.reset();  // who is told below may want to evict it
  }
  for (const auto& want : through) arrive(want, status);
}

void Fetcher::take_buffer(std::size_t bytes) {
  std::unique_lock lock(buffers_mutex_);
  buffer_free_.wait(lock, [&] { return buffered_ == 0 || buffered_ + bytes <= options_.buffers.count; });
  buffered_ += bytes;
}

void Fetcher::give_buffer(std::size_t bytes) {
  {
    const std::lock_guard lock(buffers_mutex_);
    buffered_ -= bytes;
  }
  buffer_free_.notify_all();
}

void Fetcher::count(Flight& flight, std::uint64_t bytes, std::uint32_t operations) {
  {
    const std::lock_guard lock(flight.mutex);
    flight.bytes += bytes;
    flight.operations += operations;
  }
  if (flight.moved) flight.moved->fetch_add(bytes, std::memory_order_relaxed);
  const std::lock_guard lock(counters_mutex_);
  for (FetchCounters* counters : {&by_job_[flight.payer.job_id], &by_user_[flight.as.uid]}) {
    counters->bytes += bytes;
    counters->operations += operations;
  }
}

FetchCounters Fetcher::counters_of_job(std::uint32_t job_id) const {
  const std::lock_guard lock(counters_mutex_);
  const auto it = by_job_.find(job_id);
  return it == by_job_.end() ? FetchCounters{} : it->second;
}

FetchCounters Fetcher::counters_of_user(std::uint32_t uid) const {
  const std::lock_guard lock(counters_mutex_);
  const auto it = by_user_.find(uid);
  return it == by_user_.end() ? FetchCounters{} : it->second;
}

void Fetcher::forget_job(std::uint32_t job_id) {
  const std::lock_guard lock(counters_mutex_);
  by_job_.erase(job_id);
}

std::size_t Fetcher::in_flight() const {
  const std::lock_guard lock(mutex_);
  return flights_.size();
}

}  // namespace atlas::agent
