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
#include "cache-agent/origin/origin.h"
#include "cache-agent/store/replica.h"
#include "common/identity.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::view {

struct ViewCounters {
  std::uint64_t hits = 0, misses = 0;  ///< reads of the kernel, that found their bytes on the node or not
  Bytes hit_bytes;
  Bytes origin_bytes;  ///< read from the origin for this view
  std::uint64_t failures = 0;
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
  unsigned threads = 4;
  std::chrono::milliseconds deadline{30'000};  ///< of each read that waits for the origin
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

class ViewCore;
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
  [[nodiscard]] ViewCounters counters() const;
  /// Ends all connections: whoever reads gets an error. Bounded: two seconds at the most.
  void close();
  /// The first half of it, which never blocks.
  void abort();
  [[nodiscard]] const PartialViewParts& parts() const;

 private:
  explicit PartialView(std::shared_ptr<ViewCore> core) : core_(std::move(core)) {}
  const std::shared_ptr<ViewCore> core_;
  std::mutex mutex_;  ///< guards what follows
  bool closed_ = false;
  std::vector<std::shared_ptr<Connection>> connections_;
};

/// The partial views of a node, by job and dataset. Thread-safe.
class PartialViews {
 public:
  struct Options {
    std::chrono::milliseconds deadline{30'000};
    std::function<void(const std::string&)> warn = [](const std::string&) {};
  };
  /// All outlive it.
  PartialViews(const std::vector<agent::Origin*>& origins, agent::Fetcher& fetcher, const Clock& clock,
               Options options);
  ~PartialViews() { close(); }
  /// Closes all, and makes no new ones. Bounded.
  void close();

  /// The job's view of the dataset, made if need be; a mount of it. `noexec` when the origin is mounted so.
  [[nodiscard]] Result<UniqueFd> mount(const std::shared_ptr<agent::Replica>& replica, const JobKey& job,
                                       const Principal& as, bool noexec);
  using Counters = std::map<DatasetId, ViewCounters>;
  /// Closes what the job has; what it read, once.
  [[nodiscard]] Counters release(std::uint32_t job_id);

 private:
  using Key = std::pair<std::uint32_t, DatasetId>;
  std::map<std::string, agent::Origin*> origins_;
  agent::Fetcher& fetcher_;
  const Clock& clock_;
  const Options options_;
  agent::ThreadExecutor timers_{1};
  std::mutex mutex_;  ///< guards what follows
  bool closed_ = false;
  std::map<Key, std::shared_ptr<PartialView>> views_;
};

}  // namespace atlas::view
