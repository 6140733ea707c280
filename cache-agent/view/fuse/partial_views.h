#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cache-agent/fetch/executor.h"
#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/fetch/share.h"
#include "cache-agent/origin/origin.h"
#include "cache-agent/store/replica.h"
#include "cache-agent/view/fuse/kept_view.h"
#include "cache-agent/view/holder/client.h"
#include "common/identity.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::view {

struct ViewCounters {
  std::uint64_t hits = 0, misses = 0;  ///< reads of the kernel, that found their bytes on the node or not
  Bytes hit_bytes, missed_bytes;
  Bytes origin_bytes;  ///< read from the origin for this view
  std::uint64_t failures = 0;
  std::uint64_t passed = 0;  ///< opens of files that the kernel reads by itself, which nobody counts
  Bytes window;              ///< memory that holds what is read ahead and not kept, right now
};

/// What a partial view is made of. Fetcher, origin, timers and clock outlive every fetch under way.
struct PartialViewParts {
  std::shared_ptr<agent::Replica> replica;  ///< prepared; not evicted while the view is there
  agent::Fetcher* fetcher = nullptr;
  agent::Origin* origin = nullptr;
  agent::Executor* timers = nullptr;
  const Clock* clock = nullptr;
  Principal as;  ///< whom the origin is read as; normalized
  JobKey payer;
  bool noexec = false;
  bool writable = false;  ///< the job writes to the origin through it
  unsigned threads = 4;
  std::chrono::milliseconds deadline{30'000};  ///< of each read that waits for the origin
  std::shared_ptr<HolderClient> holder{};      ///< null = the view ends with this process
  bool slots = false;                          ///< for tests: as on kernels that repeat no requests
  bool passthrough = true;                     ///< the kernel may read the store's files by itself
  std::function<void(const std::string&)> warn = [](const std::string&) {};
  /// What of it this node keeps; the rest comes from the job's other nodes. Null = all, as far as there is room.
  std::shared_ptr<const agent::Share> share{};
};

/// Why the kernel reads no file of a view by itself on this machine; "" = it does.
[[nodiscard]] std::string why_no_passthrough();

class ViewCore;
class ParkingLot;
class Connection;

/// A partial replica as one job sees it: everything is there, what is not on the node yet is brought as it is read.
/// Thread-safe.
class PartialView {
 public:
  [[nodiscard]] static Result<std::unique_ptr<PartialView>> open(PartialViewParts parts);
  /// Closes.
  ~PartialView();
  PartialView(const PartialView&) = delete;
  PartialView& operator=(const PartialView&) = delete;

  /// A new detached mount: read-only, nosuid, nodev, noatime, private. Each is a connection of its own. Blocks for a
  /// round trip with the kernel.
  [[nodiscard]] Result<UniqueFd> mount();
  /// A connection that an earlier agent had: its mounts live on.
  [[nodiscard]] Status take_over(Kept kept);
  [[nodiscard]] ViewCounters counters() const;
  /// What was read through it since the last call; nothing if the kernel reads some of it by itself.
  struct Reads {
    Bytes asked, hit;
  };
  [[nodiscard]] Reads take_reads();
  /// Ends all connections: whoever reads gets an error. Bounded: two seconds at the most.
  void close();
  /// The first half of it, which never blocks.
  void abort();
  /// Leaves what the holder keeps to a later agent, and closes the rest. Bounded as close().
  void leave();
  [[nodiscard]] const PartialViewParts& parts() const;

 private:
  explicit PartialView(std::shared_ptr<ViewCore> core) : core_(std::move(core)) {}
  [[nodiscard]] std::shared_ptr<ParkingLot> new_lot() const;
  [[nodiscard]] Status add(std::shared_ptr<Connection> connection);
  const std::shared_ptr<ViewCore> core_;
  std::mutex mutex_;  ///< guards what follows
  bool closed_ = false;
  ViewCounters taken_;
  std::vector<std::shared_ptr<Connection>> connections_;
};

/// The partial views of a node, by job and dataset. Thread-safe.
class PartialViews {
 public:
  struct Options {
    std::chrono::milliseconds deadline{30'000};
    std::string holder;  ///< socket of the view holder; empty = views end with this process
    std::chrono::milliseconds takeover_deadline{30'000};
    bool slots = false;
    bool passthrough = true;
    /// Called every second as long as parked reads get their answers.
    std::function<void()> alive = [] {};
    std::function<void(const std::string&)> warn = [](const std::string&) {};
    std::function<void(const std::string&)> inform = [](const std::string&) {};
    /// What a job divides with its other nodes; null = nothing. May block.
    std::function<std::shared_ptr<const agent::Share>(const JobKey&, const Principal&, const agent::Replica&)> share =
        [](const JobKey&, const Principal&, const agent::Replica&) { return nullptr; };
  };
  /// All outlive it.
  PartialViews(const std::vector<agent::Origin*>& origins, agent::Fetcher& fetcher, const Clock& clock,
               Options options);
  ~PartialViews() { close(); }
  /// Leaves what the holder keeps to a later agent, closes the rest, and makes no new ones. Bounded.
  void close();
  /// Finds the replica that a job read through, if this node still knows the job and has the replica.
  using Find = std::function<Result<std::shared_ptr<agent::Replica>>(const KeptView&)>;
  /// Goes on with what an earlier agent served; what cannot be gone on with is ended. Once, before any other call. Says
  /// how many connections live on.
  unsigned take_over(const Find& find);

  /// The job's view of the dataset, made if need be; a mount of it.
  struct Modes {
    bool noexec = false;    ///< the origin is mounted so
    bool writable = false;  ///< the job writes to the origin; such a view ends with this process
  };
  [[nodiscard]] Result<UniqueFd> mount(const std::shared_ptr<agent::Replica>& replica, const JobKey& job,
                                       const Principal& as, Modes modes);
  using Counters = std::map<DatasetId, ViewCounters>;
  /// Closes what the job has; what it read, once.
  [[nodiscard]] Counters release(std::uint32_t job_id);
  /// What jobs have read since the last call, where that is counted, by dataset and user.
  using Reads = std::map<std::pair<DatasetId, std::uint32_t>, PartialView::Reads>;
  [[nodiscard]] Reads take_reads();

 private:
  using Key = std::pair<std::uint32_t, DatasetId>;
  [[nodiscard]] Result<std::unique_ptr<PartialView>> make(const std::shared_ptr<agent::Replica>& replica,
                                                          const JobKey& job, const Principal& as, Modes modes);
  [[nodiscard]] Status take_over(Kept kept, const Find& find);
  std::map<std::string, agent::Origin*> origins_;
  agent::Fetcher& fetcher_;
  const Clock& clock_;
  const Options options_;
  agent::ThreadExecutor timers_{1};
  std::shared_ptr<HolderClient> holder_;
  std::mutex mutex_;  ///< guards what follows
  bool closed_ = false;
  std::map<Key, std::shared_ptr<PartialView>> views_;
};

}  // namespace atlas::view
