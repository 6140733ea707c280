#pragma once
#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

#include "controller/placement/scored.h"

// Nodes that would do equally well are chosen so that a job's nodes hang on one switch, where Slurm knows switches.
namespace atlas::placement {

/// The lowest switch that all of `taken` and at least `count` of `equals` hang on; of several the one with fewest of
/// `equals`, as larger jobs need the others. nullopt: there is none, or Slurm knows no switches.
[[nodiscard]] std::optional<Switch> common_switch(const std::vector<const Scored*>& taken,
                                                  const std::vector<const Scored*>& equals, std::size_t count);
/// Whether the node hangs on the switch, directly or by others.
[[nodiscard]] bool hangs_on(const Scored& node, const Switch& which);

/// The first `wanted` of `ordered`, but where others are as good as the last of them, by `equal`, those that hang on
/// one switch with the rest. Required nodes stay.
template <class Equal>
[[nodiscard]] std::vector<const Scored*> first_together(const std::vector<const Scored*>& ordered, std::size_t wanted,
                                                        Equal&& equal) {
  std::vector<const Scored*> out(ordered.begin(),
                                 ordered.begin() + static_cast<std::ptrdiff_t>(std::min(wanted, ordered.size())));
  if (wanted < 2 || ordered.size() <= wanted || out.back()->switches == nullptr || out.back()->required) return out;
  const auto* last = out.back();
  std::vector<const Scored*> equals;
  std::erase_if(out, [&](const Scored* node) { return !node->required && equal(*node, *last); });
  for (const auto* node : ordered)
    if (!node->required && equal(*node, *last)) equals.push_back(node);
  const auto which = common_switch(out, equals, wanted - out.size());
  for (const auto* node : equals)
    if (out.size() < wanted && (!which || hangs_on(*node, *which))) out.push_back(node);
  return out;
}

}  // namespace atlas::placement
