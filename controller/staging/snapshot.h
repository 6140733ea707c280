#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controller/placement/placement.h"
#include "controller/slurm/slurm_port.h"
#include "controller/staging/job.h"
#include "controller/staging/registry.h"
#include "controller/staging/warmups.h"

namespace atlas {

/// Slurm's queue with its hostlists expanded once.
struct Cluster {
  std::shared_ptr<const QueueSnapshot> queue;
  std::map<std::string, std::vector<std::string>> partitions;
  std::string default_partition;
  std::map<std::string, const NodeRecord*> nodes;

  /// `before`, if given, is the one of the last look: what has not changed is taken over from it.
  [[nodiscard]] static Cluster of(std::shared_ptr<const QueueSnapshot> queue, std::optional<Cluster> before = {});
  /// So many lists of partitions are remembered at a time: users name them, and may name ever new ones.
  static constexpr std::size_t kMostLists = 256;
  /// Which of queue->nodes a job of these partitions ("gpu,cpu") may have, by place; null = no such partition.
  [[nodiscard]] std::shared_ptr<const std::vector<char>> places_in(const std::string& partition) const;
  /// Whether Slurm could start something there, now or later.
  [[nodiscard]] bool usable(const std::string& node) const;
  [[nodiscard]] std::size_t lists_remembered() const { return places_.size(); }

 private:
  mutable std::map<std::string, std::shared_ptr<const std::vector<char>>> places_;  ///< what has been asked for
};

/// A hostlist's names; what cannot be read is empty (Slurm's own fields are well formed).
[[nodiscard]] std::vector<std::string> hosts_of(const std::string& hostlist);

/// The node is in one of the job's partitions.
[[nodiscard]] bool in_partition(const NodeRecord& node, const JobRecord& job);

/// It is planned to start on nodes of Atlas's choice.
[[nodiscard]] bool promised(const StagedJob& job);
/// CPUs of each of a job's nodes.
[[nodiscard]] std::uint32_t cpus_each(const JobRecord& record, std::size_t nodes);

/// "warm n[1-2], then start there".
[[nodiscard]] std::string what_would_be_done(const Decision& decision, WarmMode warm);
/// As it is kept and shown.
[[nodiscard]] PlanRow plan_row(const Alternative& what);

/// What place() is asked.
[[nodiscard]] PlacementRequest placement_request(const Cluster& cluster, const Registry& registry,
                                                 const Request& request, const std::vector<DatasetId>& datasets,
                                                 const JobRecord& record, const std::string& user_nodes);

}  // namespace atlas
