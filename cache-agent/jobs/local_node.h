#pragma once
#include <functional>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/job_io/job_io.h"
#include "cache-agent/jobs/job_table.h"
#include "cache-agent/jobs/warmed_jobs.h"
#include "cache-agent/limit/limit_governor.h"
#include "cache-agent/rpc/node.h"
#include "cache-agent/store/store.h"
#include "cache-agent/warm/warm_engine.h"

namespace atlas::agent {

/// The node as the rpc edge sees it: translates between its words and those of store, warm engine and job table.
class LocalNode final : public Node {
 public:
  /// What it is given outlives it.
  LocalNode(Store& store, WarmEngine& warm, Fetcher& fetcher, JobTable& jobs, view::PartialViews& views,
            LimitGovernor& limits, const Clock& clock)
      : store_(store), warm_(warm), fetcher_(fetcher), jobs_(jobs), views_(views), limits_(limits), warmed_(clock) {}
  /// Lets view/ go of what it holds for a job; called before the job's leases are dropped. Set once, before use.
  void on_release(std::function<void(std::uint32_t job_id)> callback) { released_ = std::move(callback); }

  /// What jobs do by themselves; it outlives the node. Set once, before use.
  void tell_of(const JobIo& io) { io_ = &io; }

  void warm(const WarmOrder& order, OnProgress progress, OnWarmed done) override;
  bool cancel_warm(const DatasetId& dataset, const Principal& as) override { return warm_.cancel(dataset, as); }
  [[nodiscard]] Result<WarmProgress> survey(const DatasetId& dataset, const Principal& as, const DatasetPolicy& policy,
                                            std::chrono::milliseconds limit) override {
    warm_.learn(dataset, policy);
    return warm_.survey(dataset, as, limit);
  }
  [[nodiscard]] Result<std::vector<ReplicaInfo>> plan(const JobOrder& order) override { return jobs_.plan(order); }
  [[nodiscard]] Result<JobOutcome> release(const JobKey& job) override;
  [[nodiscard]] Result<EvictOutcome> evict(const DatasetId& dataset,
                                           const std::optional<GenerationId>& generation) override;
  [[nodiscard]] Result<std::uint32_t> pin(const DatasetId& dataset, bool pinned) override {
    return store_.pin(dataset, pinned);
  }
  void want(const std::vector<DatasetId>& soonest_first, std::size_t held) override {
    store_.want(soonest_first, held);
  }
  [[nodiscard]] std::vector<ReplicaInfo> inventory() const override { return store_.inventory(); }
  [[nodiscard]] std::vector<TierUse> tiers() const override;
  [[nodiscard]] std::vector<JobKey> jobs() const override { return jobs_.jobs(); }
  [[nodiscard]] Activity activity() const override {
    return {warm_.warming(), static_cast<std::uint32_t>(fetcher_.in_flight())};
  }
  [[nodiscard]] std::vector<std::string> warnings() const override {
    return io_ == nullptr ? std::vector<std::string>() : io_->warnings();
  }
  [[nodiscard]] std::vector<Reads> reads() const override;
  [[nodiscard]] std::vector<DatasetReads> take_reads() override;
  void on_change(std::function<void(const ReplicaInfo&)> callback) override { store_.on_change(std::move(callback)); }

 private:
  void forget(std::uint32_t job_id);
  void forget_those_of_elsewhere();
  Store& store_;
  WarmEngine& warm_;
  Fetcher& fetcher_;
  JobTable& jobs_;
  view::PartialViews& views_;
  LimitGovernor& limits_;
  const JobIo* io_ = nullptr;
  WarmedJobs warmed_;
  std::function<void(std::uint32_t)> released_ = [](std::uint32_t) {};
};

}  // namespace atlas::agent
