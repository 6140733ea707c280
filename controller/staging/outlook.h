#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controller/placement/placement.h"
#include "controller/placement/timeline.h"
#include "controller/slurm/slurm_port.h"
#include "controller/staging/job.h"
#include "controller/staging/registry.h"
#include "controller/staging/snapshot.h"
#include "controller/staging/warmups.h"

namespace atlas {

/// What is to be expected of the nodes: when which of their CPUs come free, who is to have them then, and what of their
/// caches pending jobs are going to read. Made anew at each poll of Slurm's queue. Lives on the strand.
class Outlook {
 public:
  using Jobs = std::map<std::uint32_t, std::unique_ptr<StagedJob>>;

  /// From running jobs (they end when their user's usually do), from Slurm's own estimate for pending ones, and from
  /// what is planned for `jobs`.
  void look(const Cluster& cluster, const Jobs& jobs, const Registry& registry, const WarmUps& warmups, WallTime now);

  /// What place() is shown for a job that reads `datasets`; `except` is the job itself. Without a cost model.
  [[nodiscard]] ClusterSnapshot view(const Cluster& cluster, const Registry& registry, const WarmUps& warmups,
                                     const std::vector<DatasetId>& datasets, const Jobs& jobs, const StagedJob* except,
                                     WallTime now) const;
  /// How long a job will keep its nodes; nullopt = it has no time limit.
  [[nodiscard]] std::optional<std::chrono::milliseconds> expected_run(const JobRecord& record) const;
  /// The datasets that pending jobs are going to read, soonest first.
  [[nodiscard]] static std::vector<DatasetId> wanted(const Jobs& jobs, const Registry& registry, WallTime now);

 private:
  struct Node {
    CpuTimeline free;
    std::uint32_t readers = 0;  ///< warm-ups
    Bytes wanted;               ///< of its cache, what pending jobs are going to read
  };
  struct Ran {
    std::uint32_t uid = 0;
    WallSeconds start{};
    double limit = 0;
  };
  void learn(const Cluster& cluster, WallTime now);
  [[nodiscard]] double seconds_of_run(const JobRecord& record) const;

  RunTimes run_times_;
  std::map<std::uint32_t, Ran> running_;  ///< jobs
  std::map<std::string, Node> nodes_;
};

}  // namespace atlas
