#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/dataset_policy.h"
#include "common/identity.h"
#include "common/io_limits.h"
#include "common/read_rates.h"
#include "common/request.h"
#include "common/result.h"
#include "common/units.h"

namespace atlas::agent {

/// What a tier holds. state: ok | crowded | suspect | out.
struct TierUse {
  std::string name;
  Bytes quota, used;
  std::string state = "ok";
  std::uint64_t inodes = 0, inodes_used = 0;  ///< the quota (0 = none), what of it is used
};

/// A warm-up as it is asked for.
struct WarmOrder {
  DatasetId dataset;
  Principal as;
  JobKey payer;
  Bytes cache_limit;        ///< 0 = as needed
  bool revalidate = false;  ///< walk even if a recent walk vouches for the generation
  bool verify = false;      ///< first compare all that is here of the dataset with its checksums
  DatasetPolicy policy{};
  SteadyTime asked{};         ///< when the job was submitted: an older walk may miss its user's own changes
  bool settled_only = false;  ///< leave out what changed a moment ago, if an older generation is here
  bool keep = false;          ///< an older version that is complete and that this user was shown will do
  struct Part {
    std::vector<std::string> patterns, files;
    bool metadata_only = false;
  } only{};                            ///< nothing said = all of it
  std::string account{};               ///< of the payer's job
  IoRate io_limit = kUnlimited;        ///< the job's own, on all its nodes together
  std::vector<NodeAddress> divided{};  ///< the job's nodes, if several: what does not fit one of them they divide
};

/// A job and what it reads, as the controller planned it.
struct JobOrder {
  JobKey job;
  Principal as;
  struct Item {
    DatasetId dataset;
    GenerationId generation;  ///< none = the newest complete one
    DatasetPolicy policy{};
    SteadyTime asked{};  ///< as in WarmOrder
    bool read_write = false;
  };
  std::vector<Item> datasets;
  std::string reason;
  std::chrono::milliseconds waited{0};
  Bytes cache_limit{};  ///< bytes it may fill here, all datasets together; 0 = as needed
  OnChange on_change = OnChange::refresh;
  std::string account{};  ///< of Slurm
  IoRate io_limit = kUnlimited;
  std::vector<NodeAddress> divided{};  ///< as in WarmOrder
};

/// What a job read from, for its receipt.
struct DatasetOutcome {
  DatasetId dataset;
  GenerationId generation;
  ReplicaState attached = ReplicaState::absent;  ///< complete: read from the node; partial: through it
  Bytes resident;
  Bytes origin_bytes;              ///< read from the origin on this node for this job by Atlas
  std::string reason;              ///< when not from the node: why
  std::optional<Bytes> hit_bytes;  ///< read from the node, where that is counted
  Bytes peer_bytes{};              ///< read from other nodes' caches on this node for this job by Atlas
};
struct JobOutcome {
  bool known = false;
  std::vector<DatasetOutcome> datasets;
  std::chrono::milliseconds throttled{0};  ///< for which its reads waited for limits
  Bytes throttled_bytes{};                 ///< of these reads
  Bytes bypass_bytes{};                    ///< read from origins past Atlas, where that can be measured
};

struct EvictOutcome {
  Bytes bytes;
  std::uint32_t replicas = 0;
  std::vector<std::string> kept;  ///< why what stayed stayed
};

using OnProgress = std::function<void(const WarmProgress&)>;  ///< from any thread; must not block
using OnWarmed = std::function<void(Result<WarmProgress>)>;   ///< once; the last state, or why it failed

/// What the rpc edge drives: everything the node does, without gRPC. Implemented over store, warm and jobs.
/// Thread-safe. Calls that say "blocks" run on the edge's worker threads.
class Node {
 public:
  virtual ~Node() = default;

  /// Starts or joins a warm-up; never blocks. Progress at every phase change and at least every 500 ms, first at once.
  /// Goes on when nobody listens any more.
  virtual void warm(const WarmOrder& order, OnProgress progress, OnWarmed done) = 0;
  /// True if one was running. Never blocks.
  virtual bool cancel_warm(const DatasetId& dataset, const Principal& as) = 0;
  /// Walks without copying, for `limit` at most. Blocks.
  [[nodiscard]] virtual Result<WarmProgress> survey(const DatasetId& dataset, const Principal& as,
                                                    const DatasetPolicy& policy, std::chrono::milliseconds limit) = 0;

  /// Takes leases; answers what is here of each dataset, in order. Blocks.
  [[nodiscard]] virtual Result<std::vector<ReplicaInfo>> plan(const JobOrder& order) = 0;
  /// Lets go of a job. Blocks.
  [[nodiscard]] virtual Result<JobOutcome> release(const JobKey& job) = 0;
  [[nodiscard]] virtual Result<EvictOutcome> evict(const DatasetId& dataset,
                                                   const std::optional<GenerationId>& generation) = 0;  ///< Blocks.
  [[nodiscard]] virtual Result<std::uint32_t> pin(const DatasetId& dataset, bool pinned) = 0;           ///< Blocks.

  /// What pending jobs are going to read, soonest first: it is kept as long as anything else can go, the first `held`
  /// in any case. Never blocks.
  virtual void want(const std::vector<DatasetId>& soonest_first, std::size_t held) = 0;

  // What is reported to the controller.
  [[nodiscard]] virtual std::vector<ReplicaInfo> inventory() const = 0;
  [[nodiscard]] virtual std::vector<TierUse> tiers() const = 0;
  [[nodiscard]] virtual std::vector<JobKey> jobs() const = 0;
  struct Activity {
    std::uint32_t warming = 0, in_flight = 0;
  };
  [[nodiscard]] virtual Activity activity() const = 0;
  /// What is configured and cannot be done on this node, a sentence each.
  [[nodiscard]] virtual std::vector<std::string> warnings() const = 0;
  /// What was read for a user since the agent began.
  struct Reads {
    std::uint32_t uid = 0;
    Bytes origin_bytes;
    std::uint64_t operations = 0;  ///< at origins
    Bytes peer_bytes;
    Bytes bypass_bytes{};  ///< read from origins past Atlas, where that can be measured
  };
  [[nodiscard]] virtual std::vector<Reads> reads() const = 0;
  /// What was read since the last call, by dataset and user, where anything was: amounts, not rates. For one caller.
  [[nodiscard]] virtual std::vector<DatasetReads> take_reads() = 0;
  /// Called, from any thread, with every replica that changed (absent = gone). Set once, before the services start.
  virtual void on_change(std::function<void(const ReplicaInfo&)> callback) = 0;
};

/// How a job's plan is asked for when the controller has not sent one. Implemented by the rpc edge; blocks until
/// `deadline` at most.
class PlanSource {
 public:
  virtual ~PlanSource() = default;
  /// nullopt: the job asked Atlas for nothing.
  [[nodiscard]] virtual Result<std::optional<JobOrder>> plan_of(std::uint32_t job_id, SteadyTime deadline) = 0;
};

}  // namespace atlas::agent
