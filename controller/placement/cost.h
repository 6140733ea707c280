#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "controller/placement/placement.h"
#include "controller/placement/scored.h"

// The cost model: which set of nodes has the job's work done soonest, waiting and reading taken together.
namespace atlas::placement {

/// Fills in start, transfer and fixed of each node and chooses. `wanted` nodes with `need` CPUs each. nullopt: a rate
/// is not known, or no set of nodes that could start the job.
[[nodiscard]] std::optional<Decision> cheapest(const CostModel& model, const PlacementRequest& request,
                                               std::uint32_t wanted, std::uint32_t need, std::vector<Scored>& nodes);

/// Seconds that the job waits for data on a node, if it starts in `start` seconds.
[[nodiscard]] double stall_of(const Scored& node, double start, const PlacementRequest& request);

[[nodiscard]] std::chrono::milliseconds milliseconds_of(double seconds);

}  // namespace atlas::placement
