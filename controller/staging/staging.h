#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/config.h"
#include "controller/placement/origin_turns.h"
#include "controller/placement/placement.h"
#include "controller/staging/cache_space.h"
#include "controller/staging/datasets.h"
#include "controller/staging/followers.h"
#include "controller/staging/io_limits.h"
#include "controller/staging/job.h"
#include "controller/staging/leases.h"
#include "controller/staging/outlook.h"
#include "controller/staging/rates.h"
#include "controller/staging/registry.h"
#include "controller/staging/releaser.h"
#include "controller/staging/slurm_calls.h"
#include "controller/staging/snapshot.h"
#include "controller/staging/turns.h"
#include "controller/staging/upkeep.h"
#include "controller/staging/users.h"
#include "controller/staging/wanted.h"
#include "controller/staging/warmups.h"
#include "controller/staging/watchers.h"
#include "controller/staging/would_hold.h"

namespace atlas {

/// The daemon's log, as the parts below main() see it.
struct Log {
  std::function<void(const std::string&)> info;
  std::function<void(const std::string&)> warn;
};

/// Stages jobs: a loop that compares what jobs asked for with what Slurm shows and what nodes hold, and does the next
/// thing about the difference. Every effect is idempotent and its intent is in the catalogue first, so that slurmctld,
/// agents and the controller itself may restart at any point. All calls are made on the strand; none blocks.
class Staging {
 public:
  struct Parts {
    Executor& strand;
    Executor& slurm_thread;
    SlurmPort& slurm;
    AgentPort& agents;
    Registry& registry;
    Datasets& datasets;
    Catalog& catalog;
    Users& users;
    const Clock& clock;
    const Config& config;
    Log log;
  };
  explicit Staging(const Parts& parts);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// What the catalogue remembers. Before start().
  [[nodiscard]] Status load();
  /// Asks Slurm for the cluster's name and polls from then on.
  void start();

  enum class Hook { data_in, pre_run, teardown };
  struct HookAnswer {
    bool ready = true;
    std::string message;
  };
  /// A burst buffer hook of a job. Answers within 2 s (data_in), 5 s (pre_run); an error means that Slurm could not be
  /// asked about the job.
  void hook(Hook which, std::uint32_t job_id, std::function<void(Result<HookAnswer>)> done);
  /// What a job that starts on `node` asked for; nullopt = nothing. Answers within 2 s.
  void job_plan(std::uint32_t job_id, const std::string& node,
                std::function<void(Result<std::optional<PlanOrder>>)> done);

  void agent_came(const std::string& node, const std::vector<JobKey>& jobs);
  void agent_lost(const std::string& node);

  struct Question {
    Request request;
    std::uint32_t nodes = 1;
    std::string partition, node_list, exclude;
    Payer payer{};                           ///< who asks
    std::map<DatasetId, Bytes> estimates{};  ///< sizes of datasets that have never been seen
  };
  /// What would be done with such a job now.
  [[nodiscard]] Result<Decision> explain(const Question& question) const;

  [[nodiscard]] std::vector<JobView> jobs() const;
  /// The newest attempt, from memory or from Slurm (a job that has just been submitted). not_found: Atlas knows of no
  /// such job.
  void find_job(std::uint32_t job_id, std::function<void(Result<JobView>)> done);
  void watch(std::uint32_t job_id, Watchers::Watcher watcher);

  [[nodiscard]] const Cluster* cluster() const { return cluster_ ? &*cluster_ : nullptr; }
  [[nodiscard]] const std::optional<Error>& slurm_trouble() const { return slurm_trouble_; }
  [[nodiscard]] const std::string& cluster_name() const { return cluster_name_; }
  /// Jobs that Slurm will never be done with staging in, because slurmctld was killed in the middle of it.
  [[nodiscard]] std::vector<std::uint32_t> wedged_jobs() const;
  [[nodiscard]] WarmUps& warmups() { return warmups_; }
  [[nodiscard]] Leases& leases() { return leases_; }
  [[nodiscard]] CacheSpace& cache_space() { return cache_space_; }
  [[nodiscard]] IoLimits& io_limits() { return io_limits_; }
  [[nodiscard]] WantedNotes& wanted_notes() { return wanted_notes_; }
  /// Of all jobs that have ended since this controller began.
  struct Totals {
    std::map<std::string, std::uint64_t> jobs;  ///< by outcome, as in Receipt; "not started"
    Bytes hit, origin, peers, throttled_bytes, bypass;
    std::chrono::milliseconds waited{0}, throttled{0};
  };
  [[nodiscard]] const Totals& totals() const { return totals_; }
  /// What has been done since the start, in counts that no machine's speed changes.
  struct Work {
    std::uint64_t decisions, node_views;
  };
  [[nodiscard]] Work work() const { return {decisions_, outlook_.views_made()}; }
  /// Whether a job of another user than `uid` runs on, or is about to run on, the dataset.
  [[nodiscard]] bool used_by_other(const DatasetId& dataset, std::uint32_t uid) const;

 private:
  using Jobs = std::map<std::uint32_t, std::unique_ptr<StagedJob>>;
  struct HookWaiter {
    std::uint64_t id;
    std::function<void(Result<HookAnswer>)> done;
  };

  // staging.cc: the loop
  void poll();
  void schedule_poll();
  void loaded(const Result<SlurmCalls::Queue>& queue);
  /// Takes what the queue says of a job; what has ended goes to `over`, to let go once all have been seen.
  void see(const JobRecord& record, WallTime taken, std::vector<StagedJob*>& over);
  void see_array_task(const JobRecord& record);
  void release_strangers();
  void release_leftovers();
  [[nodiscard]] bool anything_staged() const;
  [[nodiscard]] bool nodes_to_come() const;
  [[nodiscard]] bool gone(const std::string& node) const;
  [[nodiscard]] StagedJob* find(const JobKey& key);
  /// The job as it is staged, or looked at; null = it asks for nothing.
  [[nodiscard]] std::unique_ptr<StagedJob> job_of(const JobRecord& record) const;
  /// Null also where jobs are only looked at.
  [[nodiscard]] StagedJob* adopt(const JobRecord& record);
  [[nodiscard]] std::optional<Request> request_of(const JobRecord& record, std::string& trouble) const;
  void save(const StagedJob& job);
  void touch(StagedJob& job);
  [[nodiscard]] bool agents_settled();

  // hooks.cc
  void data_in(std::uint32_t job_id, const JobRecord& record);
  void answer_hook(std::uint32_t job_id, bool ready, const std::string& message);
  void pre_run(const JobRecord& record, const std::function<void(Result<HookAnswer>)>& done);
  void with_deadline(std::chrono::milliseconds limit, std::function<void()> late, std::shared_ptr<bool> answered);

  // decide.cc
  void advance(StagedJob& job);
  void act_on(StagedJob& job, const Decision& decision);
  void stand_in_line(StagedJob& job, const std::string& reason);
  void begin_warm(StagedJob& job, const std::vector<std::string>& nodes, const std::string& reason);
  void part_progress(const JobKey& key, const WarmProgress& progress);
  void part_done(const JobKey& key, std::size_t part, const Result<Generation>& result);
  void warmed(StagedJob& job);
  [[nodiscard]] std::string shares_of(const StagedJob& job, const std::vector<std::string>& nodes) const;
  void drop_parts(StagedJob& job, bool cancel);
  void check_briefly(StagedJob& job, const std::vector<std::string>& nodes, const std::string& reason);
  void ready(StagedJob& job, const std::vector<std::string>& nodes, JobPhase phase, const std::string& reason);
  void start_cold(StagedJob& job, const std::string& reason);
  [[nodiscard]] std::string beyond_quota(const StagedJob& job) const;
  void recheck_pin(StagedJob& job);
  void stage_again(StagedJob& job, const Decision& better, const std::string& why);
  [[nodiscard]] bool allowed(const StagedJob& job, const std::vector<std::string>& nodes) const;
  void prefetch(StagedJob& job, const std::vector<std::string>& nodes);
  [[nodiscard]] bool free_now(const StagedJob& job, const std::vector<std::string>& nodes) const;

  // plan.cc
  [[nodiscard]] PlacementRequest request_for(const StagedJob& job) const;
  [[nodiscard]] bool held_everywhere(const StagedJob& job) const;
  [[nodiscard]] Decision decide(const StagedJob& job) const;
  /// place() with what is expected now; `except` is the job itself.
  [[nodiscard]] Decision weigh(const PlacementRequest& request, const std::vector<DatasetId>& datasets,
                               const StagedJob* except, const Payer& payer, const Request& asked) const;
  [[nodiscard]] CostModel cost_for(const Payer& payer, const Request& request) const;
  void look_at_origins();
  [[nodiscard]] std::string in_line_for(const StagedJob& job, const Decision& decision);
  [[nodiscard]] bool limited(const std::string& node, const WarmOrder& order) const;
  void note_plan(StagedJob& job, const Decision& decision);
  void learn_rates(const std::string& node, const WarmOrder& order, const WarmProgress* progress);

  // observe.cc
  [[nodiscard]] SlurmCalls::Queue before_they_began(const SlurmCalls::Queue& queue) const;
  void observe_queue();
  void observe(StagedJob& job, const JobRecord& record);
  void decide_observed(StagedJob& job);
  void conclude_observed(StagedJob& job, const JobRecord& record);
  void look_up_sizes(const StagedJob& job);
  [[nodiscard]] std::optional<Bytes> size_of(const DatasetId& dataset) const;
  [[nodiscard]] Bytes would_be_on(const StagedJob& job, const std::vector<std::string>& nodes) const;
  void note_would_read(const StagedJob& job, const std::vector<std::string>& nodes);

  // drain.cc
  void copy_from_leaving_nodes();
  [[nodiscard]] bool kept_elsewhere(const DatasetId& dataset) const;
  [[nodiscard]] const AgentInfo* refuge_for(const StagedJob& job, const DatasetId& dataset) const;
  void note_staging_in(StagedJob& job);

  // comments.cc
  [[nodiscard]] std::string comment_of(const StagedJob& job) const;
  void write_comments();

  // fresh.cc
  [[nodiscard]] PlanOrder plan_order(const StagedJob& job) const;
  [[nodiscard]] WarmOrder warm_order(const StagedJob& job, std::size_t dataset,
                                     const std::vector<std::string>& nodes) const;
  [[nodiscard]] std::vector<NodeAddress> divided_by(const StagedJob& job, const std::vector<std::string>& nodes) const;
  void note_what_it_is(StagedJob& job);

  void tell_what_is_wanted();

  // running.cc
  void runs(StagedJob& job, const JobRecord& record);
  void note_nodes(StagedJob& job, const std::vector<std::string>& nodes);
  void plan_on(StagedJob& job, const std::vector<std::string>& nodes, bool hard);
  void fill(StagedJob& job);
  void look_again(StagedJob& job);
  void note_missed_run(StagedJob& job);
  /// They are over in Slurm: what others that depend on them are going to read stays, the rest is let go.
  void end_all(const std::vector<StagedJob*>& over);
  void end(StagedJob& job, const std::string& reason);
  void released_on(const JobKey& key, const std::string& node, const ReleaseOutcome& outcome);
  void finish_endings();
  void finish(StagedJob& job);
  void count(const Receipt& receipt);

  // views.cc
  [[nodiscard]] JobView view_of(const StagedJob& job) const;
  void tick_watchers();

  Parts parts_;
  SlurmCalls slurm_;
  WarmUps warmups_;
  Leases leases_;
  CacheSpace cache_space_;
  IoLimits io_limits_;
  Releaser releaser_;
  Upkeep upkeep_;
  TransferRates rates_;
  std::map<std::string, TransferRates::Known> saved_rates_;
  mutable Outlook outlook_;  ///< a decision borrows its view of the nodes
  mutable std::uint64_t decisions_ = 0;
  Turns turns_;
  OriginTurns origin_turns_;
  std::optional<bool> settled_;  ///< agents_settled(), as of the last poll or agent
  SteadyTime polled_{};
  bool poll_soon_ = false;
  WantedNotes wanted_notes_;
  Followers followers_;
  Watchers watchers_;
  Jobs jobs_;
  Jobs observed_;  ///< only looked at; ended = it has begun and is on record
  WouldHold would_hold_;
  std::map<DatasetId, std::pair<Bytes, SteadyTime>> sizes_;  ///< of datasets on no node, as they were seen then
  std::set<DatasetId> sizing_;                               ///< being looked up
  std::optional<Cluster> cluster_;
  std::optional<Error> slurm_trouble_;
  std::string cluster_name_;
  SteadyTime started_{}, slurm_back_{};
  /// Ended jobs that the catalogue remembers, cut back to at the start and whenever so many more have ended.
  static constexpr std::size_t kKeptJobs = 10000, kPruneEvery = 1000;
  std::size_t ended_ = 0;  ///< since the start
  Totals totals_;
  int comments_under_way_ = 0;
  std::uint32_t last_commented_ = 0;  ///< a job
  bool polling_ = false, poll_is_slow_ = false, ticking_ = false;
  std::uint64_t poll_generation_ = 0, next_id_ = 1;
  std::map<std::uint32_t, HookWaiter> hook_waiters_;
  std::map<std::tuple<std::string, DatasetId, std::uint32_t>, SteadyTime> fill_failed_;
  std::map<DatasetId, SteadyTime> moved_;  ///< copies from nodes that leave, when they were begun last
  std::vector<std::pair<std::string, JobKey>> strangers_;
  std::set<std::pair<std::string, std::uint32_t>> leftovers_;  ///< leases seen at the last poll that nobody here took
};

}  // namespace atlas
