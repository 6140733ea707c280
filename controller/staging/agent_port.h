#pragma once
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/dataset_policy.h"
#include "common/identity.h"
#include "common/io_limits.h"
#include "common/request.h"
#include "common/result.h"

namespace atlas {

struct WarmOrder {
  DatasetId dataset;
  Principal as;
  JobKey payer;       ///< job_id 0 = nobody's
  Bytes cache_limit;  ///< 0 = as needed
  bool revalidate = false;
  bool verify = false;  ///< first compare what is there with its checksums
  DatasetPolicy policy{};
  WallTime asked{};           ///< when it was asked for: an older walk may miss the user's own changes
  bool settled_only = false;  ///< leave out what changed a moment ago, if an older generation is there
  bool keep = false;          ///< an older version that is complete and that this user was shown will do
  struct Part {
    std::vector<std::string> patterns, files;
    bool metadata_only = false;
    [[nodiscard]] bool all() const { return patterns.empty() && files.empty() && !metadata_only; }
  } only{};
  std::string account{};               ///< of the payer's job
  IoRate io_limit = kUnlimited;        ///< the job's own, on all its nodes together
  std::vector<NodeAddress> divided{};  ///< the job's nodes, if several: what does not fit one of them they divide
};

struct PlanOrder {
  JobKey job;
  Principal as;
  struct Item {
    DatasetId dataset;
    GenerationId generation;  ///< none = the newest complete one
    DatasetPolicy policy{};
    WallTime asked{};  ///< as in WarmOrder
    bool read_write = false;
  };
  std::vector<Item> datasets;
  std::string reason;
  std::chrono::milliseconds waited{0};
  Bytes cache_limit{};  ///< bytes the job may fill there, all datasets together; 0 = as needed
  OnChange on_change = OnChange::refresh;
  std::string account{};  ///< of Slurm
  IoRate io_limit = kUnlimited;
  std::vector<NodeAddress> divided{};  ///< as in WarmOrder
};

struct ReleasedDataset {
  DatasetId dataset;
  ReplicaState attached = ReplicaState::absent;  ///< complete = the job read from the node, partial = through it
  Bytes resident, origin;
  std::string reason;
  std::optional<Bytes> hit{};  ///< read from the node, where that is counted
  Bytes peers{};               ///< read from other nodes' caches
};
struct ReleaseOutcome {
  bool known = false;
  std::vector<ReleasedDataset> datasets;
  std::chrono::milliseconds throttled{0};  ///< for which its reads waited for limits
  Bytes throttled_bytes{};                 ///< of these reads
  Bytes bypass{};                          ///< read from origins past Atlas, where that can be measured
};
struct EvictOutcome {
  Bytes bytes;
  std::uint32_t replicas = 0;
  std::vector<std::string> kept;
};

/// The agents, as staging needs them; `address` is where the agent's Hello said it listens. Nothing blocks; `done` runs
/// exactly once, on any thread, also when the call could not be made. unavailable = the agent did not answer.
class AgentPort {
 public:
  virtual ~AgentPort() = default;
  /// `done` is ok when the stream ended well; the last progress then has phase complete.
  virtual void warm(const std::string& address, WarmOrder order, std::function<void(WarmProgress)> progress,
                    std::function<void(Status)> done) = 0;
  /// Walks for `limit` at most; `done` gets what was seen, with its generation if the walk was finished.
  virtual void survey(const std::string& address, const DatasetId& dataset, const Principal& as,
                      const DatasetPolicy& policy, std::chrono::milliseconds limit,
                      std::function<void(Result<WarmProgress>)> done) = 0;
  virtual void cancel_warm(const std::string& address, const DatasetId& dataset, const Principal& as) = 0;
  virtual void plan(const std::string& address, PlanOrder order,
                    std::function<void(Result<std::vector<ReplicaInfo>>)> done) = 0;
  virtual void release(const std::string& address, const JobKey& job,
                       std::function<void(Result<ReleaseOutcome>)> done) = 0;
  /// One generation, or (none) all.
  virtual void evict(const std::string& address, const DatasetId& dataset, const GenerationId& generation,
                     std::function<void(Result<EvictOutcome>)> done) = 0;
  virtual void pin(const std::string& address, const DatasetId& dataset, bool pinned,
                   std::function<void(Result<std::uint32_t>)> done) = 0;
};

}  // namespace atlas
