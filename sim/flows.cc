#include "sim/flows.h"

#include <algorithm>
#include <limits>

namespace atlas::sim {

void share(const std::vector<double>& capacity, const std::vector<Flow*>& flows) {
  std::vector<double> left = capacity, weight(capacity.size(), 0.0);
  std::vector<std::uint32_t> used;
  for (const auto* flow : flows)
    for (const auto link : flow->links) {
      if (weight[link] == 0) used.push_back(link);
      weight[link] += flow->weight;
    }
  std::vector<Flow*> open = flows;
  while (!open.empty()) {
    // The link that gives each of its flows the least decides for all of them.
    double least = std::numeric_limits<double>::infinity();
    for (const auto link : used)
      if (weight[link] > 1e-9) least = std::min(least, std::max(0.0, left[link]) / weight[link]);
    const auto bound = [&](const Flow* flow) {
      return std::any_of(flow->links.begin(), flow->links.end(), [&](std::uint32_t link) {
        return std::max(0.0, left[link]) / weight[link] <= least * (1 + 1e-12);
      });
    };
    std::vector<Flow*> settled, rest;
    for (auto* flow : open) (bound(flow) ? settled : rest).push_back(flow);
    for (auto* flow : settled) {
      flow->rate = least * flow->weight;
      for (const auto link : flow->links) {
        left[link] -= flow->rate;
        weight[link] -= flow->weight;
      }
    }
    if (settled.empty()) return;  // cannot be: the least link has an open flow
    open = std::move(rest);
  }
}

}  // namespace atlas::sim
