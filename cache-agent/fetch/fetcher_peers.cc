// What warm-ups take from other nodes instead of the origin.
#include <algorithm>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/fetch/flight.h"
#include "cache-agent/store/block_map.h"

namespace atlas::agent {

/// False when the origin is to be read. Readers' own blocks (claims) are not waited for: they go to the origin at once.
bool Fetcher::ask_peers(const std::shared_ptr<Flight>& flight) {
  if (peers_ == nullptr || !flight->walked || !flight->chunk) return false;
  const auto missing_at = [&](std::uint64_t at) {
    return !flight->into->resident(*flight->manifest,
                                   {flight->file, Bytes{at}, Bytes{std::min(kMiB.count, flight->end - at)}});
  };
  std::uint64_t begin = flight->begin, end = flight->end;  // a broken warm-up is resumed
  while (begin < end && !missing_at(begin)) begin += kMiB.count;
  if (begin >= end && end != flight->begin) return false;
  while (end > begin + kMiB.count && !missing_at((end - 1) / kMiB.count * kMiB.count))
    end = (end - 1) / kMiB.count * kMiB.count;
  PeerAsk ask;
  ask.dataset = flight->into->dataset();
  ask.generation = flight->into->generation();
  ask.want = {flight->file, Bytes{begin}, Bytes{end - begin}};
  ask.chunk = std::get<2>(*flight->chunk);
  ask.holders_only = flight->own_share;
  ask.take = [this, flight](const PeerPiece& piece) { return keep(flight, piece); };
  ask.done = [this, flight] {
    const bool here = flight->into->resident(*flight->manifest,
                                             {flight->file, Bytes{flight->begin}, Bytes{flight->end - flight->begin}});
    const auto failed = [&] {
      const std::lock_guard lock(flight->mutex);
      return !flight->status;
    };
    if (here || failed()) return release(flight, {}, On::elsewhere);
    read_origin(flight);
  };
  return peers_->bring(std::move(ask));
}

/// What another of the job's nodes keeps, of a piece that is not to be kept here. False: nobody is asked.
bool Fetcher::ask_keeper(const std::shared_ptr<Passing>& passing) {
  const auto& request = passing->want->request;
  if (peers_ == nullptr || !request.walked || !request.keeper || passing->size == 0) return false;
  PeerAsk ask;
  ask.dataset = passing->flight->into->dataset();
  ask.generation = passing->flight->into->generation();
  ask.want = request.want;
  ask.keeper = request.keeper;
  ask.job = request.payer.job_id;
  ask.take = [this, passing](const PeerPiece& piece) -> Status {
    if (passing->want->settled) return nobody_waits();
    const std::uint64_t begin = piece.offset.count, length = piece.length.count;
    if (begin != passing->flight->begin + passing->came || length > passing->size - passing->came ||
        (!piece.data.empty() && piece.data.size() != length))
      return fail(Code::data_loss, "not the piece of the file that was asked for");
    std::size_t sum = 0;
    for (std::uint64_t at = 0; at < piece.data.size(); ++sum) {  // one for what there is of each block
      const std::uint64_t part = std::min(length - at, kMiB.count - (begin + at) % kMiB.count);
      if (sum >= piece.sums.size() || sum_of(piece.data.subspan(at, part)) != piece.sums[sum])
        return fail(Code::data_loss, "a block does not match its checksum");
      at += part;
    }
    ATLAS_ASSIGN(const auto memory, passing->data());
    std::copy(piece.data.begin(), piece.data.end(), memory.begin() + static_cast<std::ptrdiff_t>(passing->came));
    passing->came += length;
    if (!piece.data.empty()) count_from_peer(*passing->flight, length);
    return {};
  };
  ask.done = [this, passing] {
    if (passing->came == passing->size || passing->want->settled) return hand_over(passing, {});
    pass_origin(passing);
  };
  return peers_->bring(std::move(ask));
}

/// On a writer's thread. What a reader is bringing meanwhile, or has brought, is left to it.
Status Fetcher::keep(const std::shared_ptr<Flight>& flight, const PeerPiece& piece) {
  const std::uint64_t begin = piece.offset.count, end = begin + piece.length.count;
  const std::uint64_t size = flight->manifest->at(flight->file).attributes.size;
  const bool whole = begin % kMiB.count == 0 && (end % kMiB.count == 0 || end == size);
  if (!whole || begin < flight->begin || end > flight->end || end < begin || (begin == 0) != (piece.meta != nullptr) ||
      (!piece.data.empty() && piece.data.size() != piece.length.count) || (begin == end && size != 0))
    return fail(Code::data_loss, "not the piece of the file that was asked for");
  if (!piece.data.empty()) {
    if (piece.sums.size() != (piece.data.size() + kMiB.count - 1) / kMiB.count)
      return fail(Code::data_loss, "there is not a checksum for each block");
    for (std::size_t i = 0; i < piece.sums.size(); ++i) {
      const auto block = piece.data.subspan(i * kMiB.count);
      if (sum_of(block.first(std::min<std::size_t>(kMiB.count, block.size()))) != piece.sums[i])
        return fail(Code::data_loss, "a block does not match its checksum");
    }
  }
  const auto commit = [&](std::uint64_t from, std::uint64_t to) {
    const Extent extent{flight->file, Bytes{from}, Bytes{to - from}};
    const FileMeta* meta = from == 0 ? piece.meta : nullptr;
    if (piece.data.empty() && from != to) return flight->into->commit_hole(extent, meta);
    const BlockSums sums(piece.sums.begin() + static_cast<std::ptrdiff_t>((from - begin) / kMiB.count),
                         piece.sums.begin() + static_cast<std::ptrdiff_t>((to - begin + kMiB.count - 1) / kMiB.count));
    return flight->into->commit(extent, piece.data.subspan(from - begin, to - from), sums, meta);
  };
  Status kept;
  if (begin == end) kept = commit(begin, end);  // an empty file
  for (std::uint64_t at = begin; at < end && kept;) {
    std::uint64_t to = end;
    const std::uint64_t from = at;
    if (others_have(flight, at, to)) continue;
    kept = commit(from, to);
    at = to;
    if (kept && !piece.data.empty()) count_from_peer(*flight, to - from);
    tell(take_claim(Key{flight->into.get(), flight->file, from}), kept);
  }
  if (kept) return {};
  const std::lock_guard lock(flight->mutex);
  if (flight->status) flight->status = kept;
  return kept;
}

}  // namespace atlas::agent
