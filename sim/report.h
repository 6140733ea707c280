#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/table.h"
#include "sim/cluster.h"

namespace atlas::sim {

/// What one policy did with one workload. Means are over jobs; times in seconds.
struct Summary {
  double mean_wait = 0, p95_wait = 0;
  double mean_stall = 0, p95_stall = 0;            ///< over all jobs, those without datasets included
  double mean_turnaround = 0, p95_turnaround = 0;  ///< from submit to end
  double hit_ratio = 0;                            ///< of the bytes that jobs read
  double origin_bytes = 0, peer_bytes = 0, warm_bytes = 0, wasted_bytes = 0;
  double fairness = 1;  ///< Jain's index of users' mean slowdowns: 1 = all alike, 1/users = one bears it all
  double makespan = 0;
};

[[nodiscard]] Summary summarize(const Workload& workload, const Outcome& outcome);
/// The mean of each figure.
[[nodiscard]] Summary mean_of(const std::vector<Summary>& runs);
/// Share of the bytes that are not the first job's to read their dataset: what could hit at best.
[[nodiscard]] double reuse(const Workload& workload);
/// The value below which `share` of the samples lie (nearest rank); 0 for none.
[[nodiscard]] double percentile(std::vector<double> samples, double share);

struct Row {
  std::string workload, policy;
  Summary summary;              ///< the mean of `runs`
  std::vector<Summary> runs{};  ///< one per seed
};
[[nodiscard]] Table table_of(const std::vector<Row>& rows);
[[nodiscard]] nlohmann::ordered_json json_of(const Row& row);
/// Bars of wait and stall for each workload and policy, as a self-contained SVG document.
[[nodiscard]] std::string plot(const std::vector<Row>& rows);

}  // namespace atlas::sim
