#pragma once
#include <optional>
#include <vector>

#include "sim/cluster.h"

namespace atlas::sim {

/// First come, first served, with EASY backfill: the first job that cannot start has the nodes reserved where it could
/// start soonest by the time limits of what runs; later jobs may start if they do not delay it. At most 500 jobs are
/// looked at, as by default in Slurm. What differs is which of the free nodes a job gets.
class EasyPolicy : public Policy {
 public:
  void schedule(Cluster& cluster) final;

 protected:
  /// Which of these nodes, in order of their number and at least as many as it wants, a job starts on; nullopt: on none
  /// of them yet, and it lets others pass meanwhile. By default the first, as Slurm does.
  [[nodiscard]] virtual std::optional<std::vector<std::uint32_t>> choose(Cluster& cluster, std::uint32_t job,
                                                                         const std::vector<std::uint32_t>& free);
};

/// `--prefer` of a feature that holders have: all of its nodes from free holders if there are as many, else any.
class PreferPolicy final : public EasyPolicy {
 protected:
  std::optional<std::vector<std::uint32_t>> choose(Cluster& cluster, std::uint32_t job,
                                                   const std::vector<std::uint32_t>& free) override;
};

/// Delay scheduling: a job that could start, but not on holders, lets others pass for a fixed time after it first
/// could, then takes the nodes that hold the most.
class DelayPolicy final : public EasyPolicy {
 public:
  explicit DelayPolicy(Time patience) : patience_(patience) {}

 protected:
  std::optional<std::vector<std::uint32_t>> choose(Cluster& cluster, std::uint32_t job,
                                                   const std::vector<std::uint32_t>& free) override;

 private:
  Time patience_;
  std::map<std::uint32_t, Time> could_start_;
};

/// Bytes of a job's datasets that a node holds.
[[nodiscard]] double resident_for(const Cluster& cluster, std::uint32_t job, std::uint32_t node);
[[nodiscard]] bool holds_all_for(const Cluster& cluster, std::uint32_t job, std::uint32_t node);

}  // namespace atlas::sim
