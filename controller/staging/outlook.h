#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
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
/// caches pending jobs are going to read. Made anew at each poll of Slurm's queue and kept up to date in between, so
/// that a decision costs no copy of the site. Lives on the strand.
class Outlook {
 public:
  using Jobs = std::map<std::uint32_t, std::unique_ptr<StagedJob>>;

  /// From running jobs (they end with their time limits: a job that waits for a node should not hope), from Slurm's own
  /// estimate for pending ones, and from what is planned for `jobs`.
  void look(const Cluster& cluster, const Jobs& jobs, const Registry& registry, const WarmUps& warmups, WallTime now);
  /// The job is planned to go elsewhere, or nowhere, since the last look.
  void plan(const StagedJob& job);
  void forget(std::uint32_t job_id);
  /// The registry has something new of a node.
  void agent_changed(const Registry::News& news);

  /// Shows what place() is to see for a job that reads `datasets`; `except` is the job itself. Without a cost model,
  /// which `use` may set. The view is good until `use` returns.
  void show(const Registry& registry, const WarmUps& warmups, const std::vector<DatasetId>& datasets,
            const StagedJob* except, const std::function<void(ClusterSnapshot&)>& use);
  /// CPUs of the node that planned jobs are going to take, `except` left out.
  [[nodiscard]] std::uint32_t promised_on(const std::string& node, const StagedJob* except) const;
  /// Whether some node that holds all of one of the datasets had so many CPUs for nobody at the last look: without one
  /// a job that waits for others has no better place to go to now.
  [[nodiscard]] bool holder_free(const std::vector<DatasetId>& datasets, std::uint32_t cpus);
  /// How long a job will keep its nodes; nullopt = it has no time limit.
  [[nodiscard]] static std::optional<std::chrono::milliseconds> expected_run(const JobRecord& record);
  /// The datasets that pending jobs are going to read, soonest first.
  [[nodiscard]] static std::vector<DatasetId> wanted(const Jobs& jobs, const Registry& registry, WallTime now);

  /// How often a node's view was made, since the start: what a poll and a decision cost.
  [[nodiscard]] std::uint64_t views_made() const { return views_made_; }
  /// Same, what a node holds of one dataset was looked up: what agents' reports cost.
  [[nodiscard]] std::uint64_t holdings_made() const { return holdings_made_; }
  /// Datasets that are remembered.
  [[nodiscard]] std::size_t datasets_known() const { return numbers_.size(); }

 private:
  struct Promise {
    std::uint32_t job = 0, cpus = 0;
    double from = 0, to = 0;
  };
  struct Held {
    bool complete = false;  ///< of the newest version
    Bytes resident;         ///< of the version of which there is most: an older one's bytes still count
    Bytes all;              ///< of all versions
  };
  /// Beside base_.nodes, in the same order.
  struct Node {
    CpuTimeline free = CpuTimeline();              ///< without promises
    std::vector<Promise> promises;                 ///< by job
    std::unordered_map<std::uint32_t, Held> held;  ///< by number of a dataset
  };
  struct Ran {
    std::string nodes{};
    std::vector<std::uint32_t> at{};  ///< these nodes' places
    bool seen = false;
  };
  void note_running(const Cluster& cluster);
  void arrange(const Cluster& cluster, const Registry& registry);
  void connect();
  void expect_running(const Cluster& cluster, WallTime now);
  void expect_predicted(const Cluster& cluster, const Jobs& jobs, WallTime now);
  void count_wanted(const Jobs& jobs);
  void refresh(const Registry& registry);
  void refresh_agent(std::size_t place, const Registry& registry);
  void refresh_service(std::size_t place, const AgentInfo* agent);
  void refresh_held(std::size_t place, const AgentInfo& agent, const DatasetId& dataset, const Registry& registry);
  void forget_datasets(const Registry& registry);
  /// The node's CPUs as place() sees them; a job's own promise is none to itself.
  [[nodiscard]] Holding holding_on(std::size_t place, std::uint32_t number) const;
  void make_view(std::size_t place, std::uint32_t except = 0);
  void add_promise(const StagedJob& job, std::vector<std::uint32_t>& places);
  void drop_promise(std::uint32_t job_id, std::vector<std::uint32_t>& places);
  [[nodiscard]] std::vector<std::uint32_t> places_of(const std::vector<std::string>& names) const;
  static constexpr std::uint32_t kNone = 0xffffffff;  ///< a dataset without a number: nobody holds or wants it
  [[nodiscard]] std::uint32_t number_of(const DatasetId& dataset);
  [[nodiscard]] std::uint32_t known_number(const DatasetId& dataset) const;
  [[nodiscard]] static double seconds_of_run(const JobRecord& record);

  std::map<std::uint32_t, Ran> running_;  ///< jobs
  WallTime looked_{};
  ClusterSnapshot base_;  ///< what all jobs see; with one's own while it is shown
  std::vector<Node> nodes_;
  std::shared_ptr<const std::vector<SwitchRecord>> switches_;               ///< of which base_ shows what nodes hang on
  std::unordered_map<std::string, std::uint32_t> places_;                   ///< of nodes
  std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> promised_;  ///< places, by job
  struct Changed {
    bool all = false;
    std::set<DatasetId> datasets;
  };
  std::unordered_map<std::string, Changed> changed_;  ///< of agents, since they were seen last
  std::map<DatasetId, std::uint32_t> numbers_;
  std::vector<std::vector<std::uint32_t>> holders_;        ///< places, by number
  std::vector<char> wanted_;                               ///< by number of a dataset: a pending job reads it
  std::optional<std::vector<std::uint32_t>> most_free_{};  ///< CPUs, by number: of the nodes that hold it
  std::uint64_t views_made_ = 0, holdings_made_ = 0;
};

}  // namespace atlas
