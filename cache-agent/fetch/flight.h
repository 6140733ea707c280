#pragma once
#include <new>
#include <string>

#include "cache-agent/fetch/fetcher.h"
#include "common/io_limits.h"

namespace atlas::agent {

/// What is read, and paid for, at a time: large enough for full speed, small enough that 48 readers share the buffers.
/// Private to fetch/.
inline constexpr std::uint64_t kPiece = kMostPiece.count;

/// One call of fetch() or read_through(): done when all pieces of work it waits for are. Private to fetch/.
struct Want {
  FetchRequest request;
  std::shared_ptr<const Manifest> manifest;
  std::shared_ptr<Tally> tally;
  std::function<void(Status)> done;
  std::atomic<bool> settled{false};
  std::function<void()> cancelled;  ///< what else is to be done when nobody waits for it any more; may be empty
  std::mutex mutex;                 ///< guards what follows
  std::size_t waiting = 1;
  unsigned rounds = 0;
  Status status;
};

/// One piece of work: a small file or a chunk of a large one, as warm-ups fetch; or a run of blocks, as readers do.
/// Private to fetch/.
struct Flight {
  std::optional<Fetcher::Key> chunk;  ///< its place in Fetcher::chunks_
  std::optional<Fetcher::Key> claim;  ///< of blocks: claimed from the beginning
  std::shared_ptr<Replica> into;
  std::shared_ptr<const Manifest> manifest;
  Origin* origin = nullptr;
  FileIndex file = 0;
  std::uint64_t begin = 0, end = 0;
  JobKey payer;
  Urgency urgency = Urgency::warm_queued;
  std::shared_ptr<std::atomic<std::uint64_t>> moved;
  std::shared_ptr<std::atomic<std::uint64_t>> from_peers;
  std::shared_ptr<Tally> tally;              ///< the leader's
  bool walked = false, own_share = false;    ///< by the leader
  Principal as;                              ///< of the leader
  std::vector<std::shared_ptr<Want>> wants;  ///< of a chunk; the first one leads; guarded by Fetcher::mutex_

  // Only its reader touches these, one thread at a time.
  Grant grant;                       ///< of what is read now
  Fetcher::Payer paid_by{};          ///< whose that is
  std::uint64_t own_bytes = 0;       ///< of what was read under it, his part
  std::uint32_t own_operations = 0;  ///< same
  std::uint64_t bytes = 0;           ///< moved, and not divided yet among those who wait for it
  std::uint32_t operations = 0;      ///< same
  std::uint64_t paid = 0;            ///< it may be read up to here
  std::uint64_t at = 0;              ///< how far it has come
  std::unique_ptr<OriginFile> open;
  std::shared_ptr<const FileMeta> meta;  ///< goes with the first block, whose bit vouches for it

  std::mutex mutex;             ///< guards what follows
  unsigned turn = 0;            ///< each stretch that is paid for is one
  bool unpaid = false;          ///< somebody who pays for this turn's is sought
  Charge stretch;               ///< this turn's, as who was asked first would pay it
  Fetcher::Payers bidders;      ///< who would pay for it
  std::vector<Ticket> tickets;  ///< theirs
  std::size_t pending = 0;      ///< the reader, the writes it has posted, and claims of others it waits for
  Status status;
};

/// How a flight ends that all have left. Private to fetch/.
[[nodiscard]] inline tl::unexpected<Error> nobody_waits() {
  return fail(Code::cancelled, "nobody waits for it any more");
}

/// Below its origin's root. Private to fetch/.
[[nodiscard]] std::string path_of(const Flight& flight);

/// A piece that is read without being kept, on its way to who wants it. Private to fetch/.
struct Fetcher::Passing {
  std::shared_ptr<Flight> flight;
  std::shared_ptr<Want> want;
  GotBytes done;
  Buffers::Memory memory;  ///< zeros where nothing has come: holes
  std::uint64_t size = 0;  ///< of it
  std::uint64_t came = 0;  ///< from a peer, in order
  bool parked = false;     ///< it waits, or has waited, for a limit; guarded by flight->mutex
  bool begun = false;      ///< since: the origin is read for it, or nobody wants it any more; same
  bool paid = false;       ///< the origin is read for it
  /// Memory is taken when there is something to be put there: of those who wait for a limit there may be many.
  /// resource_exhausted when there is none.
  [[nodiscard]] Result<std::span<std::byte>> data() {
    if (!memory) memory = Buffers::Memory(new (Buffers::kPage, std::nothrow) std::byte[size]());
    if (!memory) return fail(Code::resource_exhausted, "no memory for " + std::to_string(size) + " bytes of a read");
    return std::span<std::byte>(memory.get(), size);
  }
  /// Whether it is the caller who goes on with it.
  [[nodiscard]] bool begin() {
    const std::lock_guard lock(flight->mutex);
    return !std::exchange(begun, true);
  }
};

}  // namespace atlas::agent
