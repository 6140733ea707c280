#pragma once
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/identity.h"
#include "common/result.h"

namespace atlas {

struct WarmOrder {
  DatasetId dataset;
  Principal as;
  JobKey payer;       ///< job_id 0 = nobody's
  Bytes cache_limit;  ///< 0 = as needed
  bool revalidate = false;
  bool verify = false;  ///< first compare what is there with its checksums
};

struct PlanOrder {
  JobKey job;
  Principal as;
  std::vector<std::pair<DatasetId, GenerationId>> datasets;  ///< generation none = the newest complete one
  std::string reason;
  std::chrono::milliseconds waited{0};
  Bytes cache_limit{};  ///< bytes the job may fill there, all datasets together; 0 = as needed
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
  virtual void cancel_warm(const std::string& address, const DatasetId& dataset, const Principal& as) = 0;
  virtual void plan(const std::string& address, PlanOrder order,
                    std::function<void(Result<std::vector<ReplicaInfo>>)> done) = 0;
  virtual void release(const std::string& address, const JobKey& job,
                       std::function<void(Result<ReleaseOutcome>)> done) = 0;
  virtual void evict(const std::string& address, const DatasetId& dataset,
                     std::function<void(Result<EvictOutcome>)> done) = 0;
  virtual void pin(const std::string& address, const DatasetId& dataset, bool pinned,
                   std::function<void(Result<std::uint32_t>)> done) = 0;
};

}  // namespace atlas
