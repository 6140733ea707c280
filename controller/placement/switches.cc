#include "controller/placement/switches.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace atlas::placement {

std::optional<Switch> common_switch(const std::vector<const Scored*>& taken, const std::vector<const Scored*>& equals,
                                    std::size_t count) {
  struct Below {
    std::size_t taken = 0, equals = 0;
  };
  std::map<Switch, Below> switches;
  for (const auto* node : taken)
    if (node->switches != nullptr)
      for (const auto& which : *node->switches) ++switches[which].taken;
  for (const auto* node : equals)
    if (node->switches != nullptr)
      for (const auto& which : *node->switches) ++switches[which].equals;
  std::optional<std::tuple<std::uint32_t, std::size_t, std::uint32_t>> best;
  for (const auto& [which, below] : switches) {
    if (below.taken < taken.size() || below.equals < count) continue;
    const std::tuple key(which.level, below.equals, which.number);
    if (!best || key < *best) best = key;
  }
  if (!best) return std::nullopt;
  return Switch{std::get<0>(*best), std::get<2>(*best)};
}

bool hangs_on(const Scored& node, const Switch& which) {
  return node.switches != nullptr &&
         std::find(node.switches->begin(), node.switches->end(), which) != node.switches->end();
}

}  // namespace atlas::placement
