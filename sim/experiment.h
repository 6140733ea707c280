#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "sim/atlas_policy.h"
#include "sim/report.h"

namespace atlas::sim {

/// "blind", "prefer", "delay=TIME", "atlas", "oracle", the last two with ",NAME=VALUE" of AtlasOptions behind them.
/// invalid_argument for anything else.
[[nodiscard]] Result<std::unique_ptr<Policy>> make_policy(std::string_view spec, const Site& site,
                                                          const Workload& workload);

/// One workload under one policy.
[[nodiscard]] Result<Summary> simulate(const Site& site, const Workload& workload, std::string_view spec);

/// Each policy over all workloads (the same recipe with several seeds), the figures being their means. "delay" without
/// a time is tried with a grid of times; the one with the least mean turnaround stands for it and is named.
[[nodiscard]] Result<std::vector<Row>> compare(const Site& site, const std::string& name,
                                               const std::vector<Workload>& workloads,
                                               const std::vector<std::string>& policies);

}  // namespace atlas::sim
