#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/units.h"

namespace atlas {

using WallSeconds = std::chrono::sys_seconds;

enum class JobState { pending, configuring, running, suspended, completing, ended };

/// One record of Slurm's queue, reduced to what staging and placement look at.
struct JobRecord {
  std::uint32_t id = 0;
  std::uint32_t array_job_id = 0;              ///< 0 = not of an array
  std::optional<std::uint32_t> array_task_id;  ///< a task that was split out
  bool array_waiting = false;                  ///< stands for all tasks not yet split out
  std::uint32_t array_tasks = 1;               ///< how many those are, or may run at once (--array=0-99%10) if fewer
  std::uint32_t het_job_id = 0;                ///< 0 = not a heterogeneous job
  std::uint32_t restarts = 0;
  std::uint32_t uid = 0, gid = 0;
  std::string name, partition, account, reservation;
  JobState state = JobState::pending;
  std::string outcome;  ///< how it ended, in Slurm's word: "COMPLETED", "FAILED", "TIMEOUT"; empty = it has not
  std::string
      state_reason;  ///< Slurm's word for why it is pending: "BurstBufferStageIn", "BeginTime", "Resources", ...
  bool held = false;
  bool dependent = false;              ///< waits for other jobs (--dependency)
  std::vector<std::uint32_t> follows;  ///< those jobs, or the arrays whose tasks they are
  bool staging_in = false;             ///< by Slurm's word its burst buffer hook data_in is under way
  bool exclusive = false;
  std::uint32_t nodes_wanted = 1, nodes_most = 0;  ///< -N min and max (0 = none given)
  std::uint32_t cpus_wanted = 1;
  /// `begin` of a held job is 0. Where Atlas moved it, own_begin is the user's own: no release comes before that.
  WallSeconds submitted{}, eligible{}, begin{}, start{}, end{};
  std::optional<WallSeconds> own_begin;
  std::chrono::minutes time_limit{0};
  std::string nodes;            ///< allocated, hostlist
  std::string predicted_nodes;  ///< backfill's estimate, hostlist; flaps
  std::string req_nodes, exc_nodes, features;
  std::string burst_buffer, admin_comment, comment;
};

struct NodeRecord {
  std::string name;
  bool usable = false;  ///< neither down, drained, draining, failing nor being powered down
  std::string state;    ///< as sinfo shows it
  std::uint32_t cpus = 0, cpus_busy = 0;
  std::vector<std::string> partitions;
  bool asleep = false;  ///< powered down to save power, or waking up: Slurm boots it for a job
};

struct PartitionRecord {
  std::string name;
  bool is_default = false;
  std::string nodes;  ///< hostlist
};

/// A network switch, where topology/tree is configured.
struct SwitchRecord {
  std::string name;
  std::uint32_t level = 0;  ///< 0 = nodes hang on it directly
  std::string nodes;        ///< hostlist: all that hang on it, directly and by others
};

struct QueueSnapshot {
  std::vector<JobRecord> jobs;
  std::vector<NodeRecord> nodes;
  std::vector<PartitionRecord> partitions;
  std::chrono::milliseconds boot{0};  ///< what Slurm allows a node for it (ResumeTimeout)
  /// The same object until Slurm is configured anew; null = no topology is known.
  std::shared_ptr<const std::vector<SwitchRecord>> switches{};
  WallSeconds slurmctld_started{};  ///< 0 = not known
  WallTime taken{};
};

/// One update of one pending job. What is absent is left alone.
struct JobPatch {
  std::uint32_t job_id = 0;
  std::optional<std::string> req_nodes;  ///< "" unpins
  std::optional<WallSeconds> begin;      ///< in the past or now = release; not before JobRecord::own_begin
  std::optional<std::string> comment;
  std::optional<std::string> admin_comment;
};

/// What Atlas needs of Slurm. Calls block (milliseconds; at worst Slurm's message timeout) and run on one thread of the
/// caller's choice. unavailable = slurmctld did not answer; not_found = no such job (any more); failed_precondition =
/// the job is no longer pending.
class SlurmPort {
 public:
  virtual ~SlurmPort() = default;
  [[nodiscard]] virtual Result<std::string> cluster_name() = 0;
  [[nodiscard]] virtual Result<QueueSnapshot> load() = 0;
  [[nodiscard]] virtual Result<JobRecord> load_job(std::uint32_t job_id) = 0;
  [[nodiscard]] virtual Status apply(const JobPatch& patch) = 0;
};

}  // namespace atlas
