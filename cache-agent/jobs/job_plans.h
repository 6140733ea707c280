#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cache-agent/manifest/ids.h"
#include "cache-agent/store/replica.h"
#include "common/result.h"
#include "common/units.h"

namespace atlas::agent {

/// What a job finds of one of its datasets on this node.
struct JobView {
  DatasetId dataset;
  std::string origin_root;  ///< absolute path of the origin; the dataset is at origin_root + "/" + dataset.path
  GenerationId generation;  ///< empty when nothing is cached
  ReplicaState state = ReplicaState::absent;
  bool is_file = false;
  std::shared_ptr<Replica> replica;  ///< set only when complete and mountable for the job's principal
  std::string reason;                ///< when replica is not set: why the job reads the origin, one sentence
};

struct JobViews {
  bool known = false;  ///< false: the job asked Atlas for nothing; everything below is empty
  JobKey job;
  Principal as;  ///< normalized; uid and gid of Slurm's record
  std::vector<JobView> views;
  std::string reason;                   ///< why the job is where it is, one sentence
  std::chrono::milliseconds waited{0};  ///< how long it was held back for the cache
};

/// What came of mounting one dataset for a job, for its receipt.
struct AttachResult {
  DatasetId dataset;
  GenerationId generation;
  bool mounted = false;
  std::string reason;  ///< when not mounted
};

/// The jobs of this node: what they asked for, which replicas they hold (leases), what they got. Survives a restart of
/// the agent. Thread-safe.
class JobPlans {
 public:
  virtual ~JobPlans() = default;

  /// The views of a job: from the controller's Plan, else by asking the controller (Controller.JobPlan), waiting until
  /// `deadline` at most. Takes the leases of what it returns. `as` is what slurmstepd says the job runs as: a plan of
  /// another uid is permission_denied. unavailable or deadline_exceeded when the controller could not be asked.
  [[nodiscard]] virtual Result<JobViews> views_of(std::uint32_t job_id, const Principal& as, SteadyTime deadline) = 0;
  /// What view/ mounted, or could not. Idempotent; a later result for a dataset replaces the earlier.
  virtual void record_attach(std::uint32_t job_id, const std::vector<AttachResult>& results) = 0;
  /// A namespace is held for the job (path of the pin), or no more (""). It comes back from namespaces() after a
  /// restart.
  virtual void note_namespace(std::uint32_t job_id, const std::string& pin) = 0;
  struct HeldNamespace {
    std::uint32_t job_id = 0;
    std::string pin;
  };
  [[nodiscard]] virtual std::vector<HeldNamespace> namespaces() const = 0;
  /// Called (on a thread of the agent, never under a lock) when a job is released, before its leases are dropped: view/
  /// lets go of its namespace and mounts. Set once, before the services start.
  virtual void on_release(std::function<void(std::uint32_t job_id)> callback) = 0;
};

}  // namespace atlas::agent
