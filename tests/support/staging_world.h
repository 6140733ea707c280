#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/hostlist.h"
#include "controller/staging/staging.h"

// The world around staging, without a machine: a clock that moves when told, a Slurm that keeps job records, agents
// that answer when told. Nothing of the controller itself is replaced.
namespace atlas::test {

using namespace std::chrono_literals;

class FakeClock final : public Clock {
 public:
  [[nodiscard]] SteadyTime now() const override { return SteadyTime(elapsed_); }
  [[nodiscard]] WallTime wall() const override { return WallTime(1'700'000'000s) + elapsed_; }
  void move(std::chrono::milliseconds by) { elapsed_ += by; }

 private:
  std::chrono::nanoseconds elapsed_{1h};
};

/// Runs tasks on the test's own thread; time moves only in pass().
class ManualExecutor final : public Executor {
 public:
  explicit ManualExecutor(FakeClock& clock) : clock_(clock) {}
  void post(Task task) override { ready_.push_back(std::move(task)); }
  void post_after(std::chrono::milliseconds delay, Task task) override {
    later_.emplace(clock_.now() + delay, std::move(task));
  }
  void settle() {
    while (!ready_.empty()) {
      auto task = std::move(ready_.front());
      ready_.pop_front();
      task();
    }
  }
  void pass(std::chrono::milliseconds time) {
    const auto until = clock_.now() + time;
    settle();
    while (!later_.empty() && later_.begin()->first <= until) {
      if (later_.begin()->first > clock_.now())
        clock_.move(std::chrono::ceil<std::chrono::milliseconds>(later_.begin()->first - clock_.now()));
      ready_.push_back(std::move(later_.begin()->second));
      later_.erase(later_.begin());
      settle();
    }
    if (until > clock_.now()) clock_.move(std::chrono::ceil<std::chrono::milliseconds>(until - clock_.now()));
  }
  void drop_all() {
    ready_.clear();
    later_.clear();
  }

 private:
  FakeClock& clock_;
  std::deque<Task> ready_;
  std::multimap<SteadyTime, Task> later_;
};

/// slurmctld's queue: records, and the updates that were applied to them.
class FakeSlurm final : public SlurmPort {
 public:
  explicit FakeSlurm(FakeClock& clock) : clock_(clock) {}

  Result<std::string> cluster_name() override { return "test"; }
  Result<QueueSnapshot> load() override {
    if (down) return fail(Code::unavailable, "slurmctld does not answer");
    QueueSnapshot queue;
    for (const auto& [id, job] : jobs) queue.jobs.push_back(job);
    for (const auto& [name, node] : nodes) queue.nodes.push_back(node);
    queue.partitions = partitions;
    queue.boot = boot;
    queue.switches = switches;
    queue.slurmctld_started = started;
    queue.taken = clock_.wall();
    return queue;
  }
  Result<JobRecord> load_job(std::uint32_t id) override {
    if (down) return fail(Code::unavailable, "slurmctld does not answer");
    const auto at = jobs.find(id);
    if (at == jobs.end()) return fail(Code::not_found, "no such job");
    return at->second;
  }
  Status apply(const JobPatch& patch) override {
    if (down || deaf) return fail(Code::unavailable, "slurmctld does not answer");
    const auto at = jobs.find(patch.job_id);
    if (at == jobs.end()) return fail(Code::not_found, "no such job");
    if (at->second.state != JobState::pending) return fail(Code::failed_precondition, "no longer pending");
    if (refuse_nodes && patch.req_nodes && !patch.req_nodes->empty())
      return fail(Code::invalid_argument, "Requested node configuration is not available");
    if (patch.comment) at->second.comment = *patch.comment;
    if (!patch.req_nodes && !patch.begin) return {};  // nothing that staging depends on
    patches.push_back(patch);
    if (patch.req_nodes) at->second.req_nodes = *patch.req_nodes;
    if (patch.begin) at->second.begin = *patch.begin;
    return {};
  }

  void add_node(const std::string& name, std::uint32_t cpus = 4) {
    nodes[name] = {name, true, "idle", cpus, 0, {"main"}};
  }
  [[nodiscard]] std::vector<JobPatch> patches_of(std::uint32_t id) const {
    std::vector<JobPatch> out;
    for (const auto& patch : patches)
      if (patch.job_id == id) out.push_back(patch);
    return out;
  }

  std::map<std::uint32_t, JobRecord> jobs;
  std::map<std::string, NodeRecord> nodes;
  std::vector<PartitionRecord> partitions;
  std::shared_ptr<const std::vector<SwitchRecord>> switches;
  std::vector<JobPatch> patches;
  std::chrono::milliseconds boot{0};
  WallSeconds started{};
  bool down = false, refuse_nodes = false;
  bool deaf = false;  ///< it answers questions, and updates get lost

 private:
  FakeClock& clock_;
};

/// The agents of all nodes; an address is the node's name.
class FakeAgents final : public AgentPort {
 public:
  struct Warm {
    std::string node;
    WarmOrder order;
    std::function<void(WarmProgress)> progress;
    std::function<void(Status)> done;
    bool over = false;
  };
  void warm(const std::string& address, WarmOrder order, std::function<void(WarmProgress)> progress,
            std::function<void(Status)> done) override {
    warms.push_back(std::make_unique<Warm>(Warm{address, order, std::move(progress), std::move(done)}));
    if (const auto at = instant.find({address, order.dataset}); at != instant.end()) finish(*warms.back(), at->second);
  }
  void cancel_warm(const std::string& address, const DatasetId& dataset, const Principal&) override {
    cancelled.emplace_back(address, dataset);
  }
  void plan(const std::string& address, PlanOrder order,
            std::function<void(Result<std::vector<ReplicaInfo>>)> done) override {
    if (silent.contains(address)) return done(fail(Code::unavailable, "no answer"));
    plans[{address, order.job.job_id}] = order;
    std::vector<ReplicaInfo> replicas(order.datasets.size());
    for (auto& replica : replicas) replica.state = ReplicaState::complete;
    done(replicas);
  }
  void release(const std::string& address, const JobKey& job,
               std::function<void(Result<ReleaseOutcome>)> done) override {
    if (silent.contains(address)) return done(fail(Code::unavailable, "no answer"));
    released.emplace_back(address, job.job_id);
    const bool known = plans.erase({address, job.job_id}) > 0;
    ReleaseOutcome outcome{known, {}};
    const auto own = outcomes_on.find(address);
    if (known) outcome.datasets = own == outcomes_on.end() ? outcomes : own->second;
    done(outcome);
  }
  void survey(const std::string&, const DatasetId& dataset, const Principal&, const DatasetPolicy&,
              std::chrono::milliseconds, std::function<void(Result<WarmProgress>)> done) override {
    ++surveys;
    WarmProgress seen;
    if (const auto at = origin.find(dataset); at != origin.end()) seen.generation = at->second;
    done(seen);
  }
  void evict(const std::string& address, const DatasetId&, const GenerationId& generation,
             std::function<void(Result<EvictOutcome>)> done) override {
    evicted.emplace_back(address, generation);
    if (hold_evictions) return held_evictions.push_back(std::move(done));
    done(EvictOutcome{Bytes{1}, 1, {}});
  }
  void pin(const std::string&, const DatasetId&, bool, std::function<void(Result<std::uint32_t>)> done) override {
    done(1U);
  }

  static void show(const Warm& warm, WarmPhase phase, std::chrono::milliseconds eta = -1ms) {
    WarmProgress progress;
    progress.phase = phase;
    progress.eta = eta;
    warm.progress(progress);
  }
  static void finish(Warm& warm, const Generation& generation) {
    warm.over = true;
    WarmProgress progress;
    progress.phase = WarmPhase::complete;
    progress.generation = generation;
    warm.progress(progress);
    warm.done({});
  }
  static void fail_warm(Warm& warm, Code code, const std::string& message) {
    warm.over = true;
    warm.done(fail(code, message));
  }
  /// Warm-ups that are under way, on one node or on all.
  [[nodiscard]] std::vector<Warm*> open(const std::string& node = "") const {
    std::vector<Warm*> out;
    for (const auto& warm : warms)
      if (!warm->over && (node.empty() || warm->node == node)) out.push_back(warm.get());
    return out;
  }
  [[nodiscard]] std::size_t warms_on(const std::string& node) const {
    std::size_t count = 0;
    for (const auto& warm : warms) count += warm->node == node ? 1U : 0U;
    return count;
  }

  /// Answers the evictions that were asked for while hold_evictions was set.
  void let_evictions_go() {
    hold_evictions = false;
    for (auto& done : std::exchange(held_evictions, {})) done(EvictOutcome{Bytes{1}, 1, {}});
  }

  bool hold_evictions = false;
  std::vector<std::function<void(Result<EvictOutcome>)>> held_evictions;
  std::vector<std::unique_ptr<Warm>> warms;
  std::map<DatasetId, Generation> origin;  ///< what a survey finds
  unsigned surveys = 0;
  std::vector<std::pair<std::string, GenerationId>> evicted;
  std::map<std::pair<std::string, DatasetId>, Generation> instant;  ///< answered COMPLETE at once
  std::vector<std::pair<std::string, DatasetId>> cancelled;
  std::map<std::pair<std::string, std::uint32_t>, PlanOrder> plans;
  std::vector<std::pair<std::string, std::uint32_t>> released;
  std::vector<ReleasedDataset> outcomes;
  std::map<std::string, std::vector<ReleasedDataset>> outcomes_on;  ///< by node, instead of `outcomes`
  std::set<std::string> silent;
};

/// A controller's core over one catalogue file, with nodes n1..nN that have 4 CPUs and a 100 GiB tier each.
class StagingWorld {
 public:
  explicit StagingWorld(int nodes = 3);
  ~StagingWorld();

  /// A fresh controller process over the same catalogue; agents connect again unless told otherwise.
  void restart(bool agents_come = true);
  void connect(const std::string& node, const std::vector<JobKey>& jobs = {});
  void disconnect(const std::string& node);
  /// The node holds the dataset, as its agent would report and vouch for.
  void holds(const std::string& node, const DatasetId& dataset);
  /// The node's agent reports a change of one replica.
  void report(const std::string& node, const ReplicaInfo& replica) {
    registry->change(streams_.at(node), node, replica);
  }
  void pass(std::chrono::milliseconds time) { executor.pass(time); }

  /// A pending job with an Atlas directive, as sbatch leaves it.
  JobRecord& submit(std::uint32_t id, const std::string& request, std::uint32_t uid = 1001);
  /// A pending array, as job_submit.lua leaves it: no directive, held back until its begin time.
  JobRecord& submit_array(std::uint32_t id, const std::string& request, std::chrono::seconds held_back);
  /// What atlas-stage does: begin_time first, then the question, then begin_time = now if ready.
  std::optional<Staging::HookAnswer> data_in(std::uint32_t id);
  void start(std::uint32_t id, const std::string& nodes);
  void end(std::uint32_t id, bool with_teardown = true);
  void cancel(std::uint32_t id) { end(id); }
  void call(Staging::Hook hook, std::uint32_t id, std::optional<Staging::HookAnswer>& answer);
  [[nodiscard]] JobView job(std::uint32_t id);
  [[nodiscard]] std::optional<Receipt> receipt(std::uint32_t id);
  [[nodiscard]] bool held_back(std::uint32_t id) const { return slurm.jobs.at(id).begin > clock.wall(); }

  FakeClock clock;
  ManualExecutor executor{clock};
  FakeSlurm slurm{clock};
  FakeAgents agents;
  Config config;
  std::filesystem::path directory;
  std::unique_ptr<Users> users;
  std::unique_ptr<Catalog> catalog;
  std::unique_ptr<Registry> registry;
  std::unique_ptr<Datasets> datasets;
  std::unique_ptr<Staging> staging;
  std::vector<std::string> warnings;
  const DatasetId speech{"lustre", "speech"};
  Generation generation;

 private:
  std::uint64_t stream_ = 0;
  std::map<std::string, std::uint64_t> streams_;
};

}  // namespace atlas::test
