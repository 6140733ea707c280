#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "controller/placement/origin_turns.h"
#include "controller/placement/placement.h"
#include "controller/placement/timeline.h"
#include "sim/cluster.h"

namespace atlas::sim {

struct AtlasOptions {
  Time patience{1800};        ///< warm.max_wait
  double stall = 1;           ///< CostModel::stall
  double transfer = 0;        ///< CostModel::transfer
  std::uint32_t depth = 100;  ///< jobs of the queue that are planned
  Time idle{120};             ///< warm.max_idle: a job whose nodes would be kept longer for its data starts meanwhile
  Time loyalty{600};          ///< what a job must gain to leave the nodes to which its data is being brought
  enum class Ends { limit, exact } ends = Ends::limit;         ///< when running jobs are expected to end
  enum class Evict { lru, queue, future } evict = Evict::lru;  ///< future: what is read latest goes first
  Time foresight{0};                                           ///< jobs are known so long before they are submitted
};

/// The controller's own place() with its cost model, asked for each pending job in order of submission, each seeing the
/// nodes as those before it leave them. Data is brought ahead in the same order, in the controller's turns at the
/// origin. Nodes are kept for a job once its data is there or on its way; it leaves them only for ones that are better
/// by its loyalty, and starts when they are free and hold its data, or when it has waited as long as it may.
class AtlasPolicy final : public Policy {
 public:
  AtlasPolicy(const Site& site, const Workload& workload, const AtlasOptions& options);
  void schedule(Cluster& cluster) override;
  [[nodiscard]] double worth(const Cluster& cluster, std::uint32_t node, std::uint32_t dataset,
                             const NodeCache::Entry& entry) const override;

 private:
  void look(const Cluster& cluster);
  void plan(Cluster& cluster, std::uint32_t job);
  enum class Brought { begun, not_yet, otherwise };
  Brought bring(Cluster& cluster, const SimJob& job, const std::vector<std::uint32_t>& nodes, double start);
  [[nodiscard]] bool may_start(Cluster& cluster, std::uint32_t job, const std::vector<std::uint32_t>& nodes);
  void take(std::uint32_t node, double from, double to, std::uint32_t cpus);
  [[nodiscard]] bool anything_to_do(Cluster& cluster);
  [[nodiscard]] double room_on(const Cluster& cluster, std::uint32_t node) const;
  void show_datasets(const Cluster& cluster, std::uint32_t job);
  [[nodiscard]] PlacementRequest request_of(const Cluster& cluster, std::uint32_t job) const;
  [[nodiscard]] double expected_run(std::uint32_t job) const;
  [[nodiscard]] double expected_left(const Cluster& cluster, const Cluster::Running& running) const;

  const Workload& workload_;
  AtlasOptions options_;
  ClusterSnapshot snapshot_;
  std::map<std::string, std::uint32_t> index_;
  std::vector<DatasetId> ids_;
  std::vector<CpuTimeline> ahead_;
  std::vector<std::set<std::uint32_t>> planned_;  ///< per node: datasets of jobs that are planned to go there
  std::vector<std::uint32_t> pending_;            ///< per dataset: jobs that wait and read it
  std::vector<std::vector<Time>> uses_;           ///< per dataset: submit times of its jobs
  std::map<std::uint32_t, std::vector<std::string>> committed_;  ///< job -> nodes to which its data is being brought
  OriginTurns turns_;
  std::vector<double> room_;  ///< per node: what is free, and what may be evicted
  Time looked_{-1e9};         ///< when it planned last
  std::size_t waiting_ = 0;   ///< jobs that it left waiting then
  std::size_t ended_ = 0;     ///< jobs, when it looked last
  std::size_t moved_ = 0;     ///< transfers, when it looked last
  std::size_t next_ = 0;      ///< first job that is not submitted yet
};

}  // namespace atlas::sim
