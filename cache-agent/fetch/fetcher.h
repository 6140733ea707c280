#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cache-agent/fetch/backers.h"
#include "cache-agent/fetch/buffers.h"
#include "cache-agent/fetch/executor.h"
#include "cache-agent/fetch/governor.h"
#include "cache-agent/fetch/peer_source.h"
#include "cache-agent/fetch/tally.h"
#include "cache-agent/origin/origin.h"
#include "cache-agent/store/replica.h"
#include "common/identity.h"
#include "common/result.h"

namespace atlas::agent {

struct FetchRequest {
  std::shared_ptr<Replica> into;
  Extent want;   ///< of a regular file that is its own leader
  Principal as;  ///< normalized
  JobKey payer;
  Urgency urgency = Urgency::warm_queued;
  /// Where the bytes read from the origin are added up; may be empty.
  std::shared_ptr<std::atomic<std::uint64_t>> moved{};
  /// A walk of the origin by exactly this principal has just given this generation: what he is shown of it is his to
  /// read, so it may come from another node. Without it the origin is asked, and decides.
  bool walked = false;
  /// Where the bytes that came from other nodes are added up; may be empty.
  std::shared_ptr<std::atomic<std::uint64_t>> from_peers{};
  /// Of what the payer's nodes divide: it is this node's share, so no other one is waited for.
  bool own_share = false;
  /// Same, of read_through(): the node whose share it is, which is asked before the origin.
  std::optional<NodeAddress> keeper{};
  /// Who else pays for it, as one who waits for it does, too; may be empty.
  std::shared_ptr<Backers> backers{};
};

struct FetchCounters {
  std::uint64_t bytes = 0;       ///< data read from the origin
  std::uint64_t operations = 0;  ///< opens and reads
  std::uint64_t peer_bytes = 0;  ///< data read from other nodes' caches
};

struct FetcherOptions {
  Bytes chunk{32 * kMiB.count};     ///< files larger than this are fetched in pieces of it, in parallel
  Bytes buffers{192 * kMiB.count};  ///< data between origin and disk
};

struct Want;
struct Flight;

/// Somebody's interest in a fetch. Dropping it means `done` will not be called any more (unless it is running).
class Waiter {
 public:
  Waiter() = default;
  explicit Waiter(std::shared_ptr<Want> want) : want_(std::move(want)) {}
  Waiter(Waiter&&) noexcept = default;
  Waiter& operator=(Waiter&&) noexcept;
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  ~Waiter() { cancel(); }
  void cancel();
  /// `done` will be called whatever becomes of this object.
  void detach() { want_.reset(); }

 private:
  std::shared_ptr<Want> want_;
};

/// The one path from an origin into the store: warm-up, faults and peers come through here, so that coalescing, limits,
/// checksums and counters exist once. Never blocks its caller. Thread-safe.
class Fetcher {
 public:
  /// `writers` runs what writes to the store, and the callbacks. Everything must outlive the fetches under way.
  Fetcher(const std::vector<Origin*>& origins, Governor& governor, Executor& writers, FetcherOptions options);
  /// Waits until nothing is under way.
  ~Fetcher();
  /// Other nodes, which warm-ups ask before the origin. Once, before use; it outlives the fetches under way.
  void ask_first(PeerSource& peers) { peers_ = &peers; }
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  /// Brings what is not resident of the extent (of whole blocks, or to the file's end). A warm-up's files come whole or
  /// in chunks, in one piece of work that all requests for it share; faults and read-ahead bring just their blocks, and
  /// as soon as those are there. No block is read twice at a time, whoever asks for it. `done` runs once, on a writer's
  /// thread: success = all of it is resident; aborted = the file is not the manifest's any more; permission_denied
  /// fails only requests of that principal.
  [[nodiscard]] Waiter fetch(FetchRequest request, std::function<void(Status)> done);
  /// One more pays for all that is, or will be, fetched for requests with these backers.
  void back(const std::shared_ptr<Backers>& backers, const Backers::Backer& backer);
  /// Reads a piece of a file, of any offset and length within it, without keeping it. The bytes are valid during
  /// `done`.
  using GotBytes = std::function<void(const Result<std::span<const std::byte>>&)>;
  [[nodiscard]] Waiter read_through(FetchRequest request, GotBytes done);
  /// May what is missing of the extent be kept, as far as is known? Also what a fetch under way is keeping: it has
  /// taken its room already. Never blocks.
  [[nodiscard]] bool can_keep(const Replica& replica, const Manifest& manifest, const Extent& extent);

  [[nodiscard]] FetchCounters counters_of_job(std::uint32_t job_id) const;
  [[nodiscard]] FetchCounters counters_of_user(std::uint32_t uid) const;
  [[nodiscard]] FetchCounters counters_of_origin(const std::string& origin) const;
  [[nodiscard]] std::map<std::uint32_t, FetchCounters> counters_by_user() const;
  /// The job is over: its counters are forgotten.
  void forget_job(std::uint32_t job_id);
  /// What was fetched since the last call, by dataset and user: for one caller, who tells the controller.
  [[nodiscard]] std::vector<Tallies::Read> take_reads() { return tallies_.take(); }
  [[nodiscard]] std::size_t in_flight() const;
  /// Reads of this job of this user wait for limits.
  [[nodiscard]] bool parks(const Principal& as, const JobKey& payer) const {
    return governor_.parks(as.uid, payer.job_id);
  }
  [[nodiscard]] Bytes chunk() const { return options_.chunk; }

 private:
  friend struct Flight;
  using Key = std::tuple<const Replica*, FileIndex, std::uint64_t>;
  /// A run of blocks that somebody reads from the origin right now, known by where it begins.
  struct Claim {
    std::uint64_t end = 0;
    Principal as;
    std::vector<std::shared_ptr<Want>> wants;        ///< told when it is through
    std::vector<std::shared_ptr<Flight>> followers;  ///< chunks that need not read it themselves
    std::weak_ptr<Flight> by;                        ///< which reads nothing but it
  };
  using Claims = std::map<Key, Claim>;
  using Flights = std::vector<std::shared_ptr<Flight>>;
  /// What a want needs: work that nobody did yet, and work that others began.
  struct Joined {
    Flights fresh, known;
  };

  [[nodiscard]] static bool missing(const FetchRequest& request, const Manifest& manifest);
  void seek(const std::shared_ptr<Want>& want);
  void arrive(const std::shared_ptr<Want>& want, const Status& status);
  [[nodiscard]] std::shared_ptr<Flight> make_flight(const Want& want, std::uint64_t begin, std::uint64_t end);
  [[nodiscard]] Joined join_chunks(const std::shared_ptr<Want>& want);
  [[nodiscard]] Joined join_blocks(const std::shared_ptr<Want>& want);
  [[nodiscard]] bool all_comes(const Replica& replica, const Manifest& manifest, const Extent& extent);
  [[nodiscard]] Claims::iterator claim_at(const Replica* replica, FileIndex file, std::uint64_t at);
  [[nodiscard]] std::uint64_t free_run(const Replica& replica, const Manifest& manifest, FileIndex file,
                                       std::uint64_t begin, std::uint64_t end);
  [[nodiscard]] Claim take_claim(const Key& key);
  void tell(const Claim& claim, const Status& status);

  void launch(const std::shared_ptr<Flight>& flight);
  [[nodiscard]] bool ask_peers(const std::shared_ptr<Flight>& flight);
  [[nodiscard]] Status keep(const std::shared_ptr<Flight>& flight, const PeerPiece& piece);
  /// Who pays: user, group, job; and how urgent it is to him.
  using Payer = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;
  using Payers = std::map<Payer, Urgency>;
  [[nodiscard]] static Payer payer_of(const Principal& as, const JobKey& job) { return {as.uid, as.gid, job.job_id}; }
  [[nodiscard]] static Payers::value_type leader_of(const Flight& flight);
  [[nodiscard]] static Charge charge_for(const Flight& flight, const Payers::value_type& payer, Bytes bytes,
                                         std::uint32_t operations);
  /// What one of these is to pay for at a time: whole blocks.
  [[nodiscard]] std::uint64_t piece_of(const Charge& payer);
  [[nodiscard]] Payers payers_of(const Flight& flight, const std::optional<Key>& claim) const;
  [[nodiscard]] bool is_wanted(const Flight& flight) const;
  void read_origin(const std::shared_ptr<Flight>& flight);
  [[nodiscard]] bool pay(const std::shared_ptr<Flight>& flight, std::uint32_t operations);
  static void paid_after_waiting(const Flight& flight, Bytes bytes);
  void seek_payer(const std::shared_ptr<Flight>& flight, const Charge& first);
  void join_payers(const std::shared_ptr<Flight>& flight, const Payers::value_type& payer);
  void offer(const std::shared_ptr<Flight>& flight, unsigned turn, const Payers::value_type& payer);
  void share_cost(Flight& flight, const std::optional<Key>& claim);
  void settle(Flight& flight);
  void read_on(const std::shared_ptr<Flight>& flight);
  [[nodiscard]] std::optional<Status> read(const std::shared_ptr<Flight>& flight);
  [[nodiscard]] Status read_piece(const std::shared_ptr<Flight>& flight);
  [[nodiscard]] bool others_have(const std::shared_ptr<Flight>& flight, std::uint64_t& at, std::uint64_t& end);
  void write(const std::shared_ptr<Flight>& flight, std::function<Status()> commit, std::optional<Key> claim);
  /// Where release() is called: callbacks never run on an origin's thread, which acts as a user.
  enum class On { writer, elsewhere };
  void release(const std::shared_ptr<Flight>& flight, const Status& status, On thread);
  void land(const std::shared_ptr<Flight>& flight);
  struct Passing;
  [[nodiscard]] bool ask_keeper(const std::shared_ptr<Passing>& passing);
  void pass_origin(const std::shared_ptr<Passing>& passing);
  void pass(const std::shared_ptr<Passing>& passing, const Grant& grant);
  void give_up(const std::shared_ptr<Passing>& passing);
  void bring(const std::shared_ptr<Passing>& passing);
  void hand_over(const std::shared_ptr<Passing>& passing, const Status& status);
  void count(Flight& flight, std::uint64_t bytes, std::uint32_t operations);
  void count_from_peer(const Flight& flight, std::uint64_t bytes);

  std::map<std::string, Origin*> origins_;
  Governor& governor_;
  Executor& writers_;
  const FetcherOptions options_;
  PeerSource* peers_ = nullptr;

  mutable std::mutex mutex_;  ///< guards what follows and the wants of each flight
  std::condition_variable idle_;
  std::size_t active_ = 0;  ///< flights that have not landed
  std::map<Key, std::shared_ptr<Flight>> chunks_;
  Claims claims_;

  std::atomic<std::uint32_t> odd_operations_{0};  ///< an operation is not divided: those who share some take turns
  Buffers buffers_;
  Tallies tallies_;

  mutable std::mutex counters_mutex_;  ///< guards the counters
  std::map<std::uint32_t, FetchCounters> by_job_;
  std::map<std::uint32_t, FetchCounters> by_user_;
  std::map<std::string, FetchCounters> by_origin_;
};

}  // namespace atlas::agent
