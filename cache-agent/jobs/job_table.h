#pragma once
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cache-agent/rpc/node.h"
#include "cache-agent/store/store.h"
#include "cache-agent/view/fuse/partial_views.h"
#include "cache-agent/view/view_source.h"
#include "cache-agent/warm/warm_engine.h"
#include "common/identity.h"
#include "common/result.h"
#include "db/node_manifest.h"

namespace atlas::agent {

class LimitGovernor;

/// The jobs of this node: what they asked for, which replicas they hold, what they got. On disk before anything is
/// answered, so that leases survive a restart of the agent. Thread-safe; calls block on the node's database.
class JobTable final : public view::ViewSource {
 public:
  struct OriginPlace {
    std::string root;
    bool noexec = false;  ///< mounted so; views of it are, too
  };
  /// `ask` may be null: then only jobs that were planned are known. All outlive the table.
  JobTable(Store& store, PlanSource* ask, std::map<std::string, OriginPlace> origins);

  /// From now on a job is shown nothing that a walk of its own user has not confirmed. Both outlive the table. Once,
  /// before use.
  void look_first(WarmEngine& engine, const Clock& clock) {
    engine_ = &engine;
    clock_ = &clock;
  }
  /// What jobs run under is told to it. It outlives the table; before recover(), once.
  void stay_within(LimitGovernor& limits) { limits_ = &limits; }
  /// And what is not complete here is shown through partial views, which outlive the table. After look_first(), once.
  void read_through(view::PartialViews& views) { views_ = &views; }
  /// Brings back the jobs of the run before, and their leases. Once, before use.
  [[nodiscard]] Status recover();

  /// Takes leases on what is complete; says what is here of each dataset, in order.
  [[nodiscard]] Result<std::vector<ReplicaInfo>> plan(const JobOrder& order);
  [[nodiscard]] Result<view::JobViews> views_of(std::uint32_t job_id, const Principal& as,
                                                SteadyTime deadline) override;
  void record_attach(std::uint32_t job_id, const std::vector<view::AttachedView>& results) override;
  /// Forgets the job and drops its leases; nullopt when it is unknown, or known as a later attempt. `before` runs, if
  /// the job is known, before the leases go.
  [[nodiscard]] std::optional<NodeJobRow> release(const JobKey& job, const std::function<void()>& before);
  /// The replica that this attempt of the job reads through; not_found when either is no longer here.
  [[nodiscard]] Result<std::shared_ptr<Replica>> reading(const JobKey& job, const DatasetId& dataset,
                                                         const GenerationId& generation) const;
  /// What this attempt of the job divides with its other nodes of a replica that it reads through; null = nothing.
  [[nodiscard]] std::shared_ptr<const Share> share_of(const JobKey& job, const Principal& as,
                                                      const Replica& replica) const;
  [[nodiscard]] std::vector<JobKey> jobs() const;
  [[nodiscard]] bool knows(std::uint32_t job_id) const override;

 private:
  [[nodiscard]] std::shared_ptr<Replica> choose(const NodeJobDatasetRow& wanted) const;
  [[nodiscard]] view::PlannedView view_of(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline);
  [[nodiscard]] Status observe(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline,
                               view::PlannedView& out) const;
  [[nodiscard]] static std::string refusal(const NodeJobRow& job, const NodeJobDatasetRow& wanted,
                                           const GenerationId& seen);
  [[nodiscard]] std::optional<WarmEngine::Seen> own_look(const NodeJobRow& job, const NodeJobDatasetRow& wanted,
                                                         SteadyTime deadline) const;
  [[nodiscard]] static Asked asked_of(const NodeJobRow& job, const NodeJobDatasetRow& wanted);
  [[nodiscard]] bool show_granted(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline,
                                  view::PlannedView& out);
  void show_partial(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline, view::PlannedView& out);
  void show_writable(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline, view::PlannedView& out);
  [[nodiscard]] Result<std::shared_ptr<Replica>> partial(const NodeJobRow& job, const NodeJobDatasetRow& wanted,
                                                         SteadyTime deadline) const;
  [[nodiscard]] Status put(const NodeJobRow& row);
  [[nodiscard]] Result<std::optional<NodeJobRow>> ask(std::uint32_t job_id, SteadyTime deadline);
  [[nodiscard]] Result<std::optional<std::vector<ReplicaInfo>>> take(const JobOrder& order, bool asked);
  void hold(std::uint32_t job_id, const Replica& replica);

  Store& store_;
  PlanSource* ask_;
  WarmEngine* engine_ = nullptr;
  const Clock* clock_ = nullptr;
  LimitGovernor* limits_ = nullptr;
  view::PartialViews* views_ = nullptr;
  const std::map<std::string, OriginPlace> origins_;
  /// A question to the controller that is under way: a release that comes meanwhile makes its answer void.
  struct Question {
    unsigned asking = 0;
    bool over = false;
  };
  mutable std::mutex mutex_;  ///< guards what follows
  std::map<std::uint32_t, Question> questions_;
  std::map<std::uint32_t, NodeJobRow> jobs_;
};

/// Is the file system that holds `path` mounted noexec? Read from /proc/self/mountinfo, so a hung origin does not
/// matter.
[[nodiscard]] bool mounted_noexec(const std::string& path);

}  // namespace atlas::agent
