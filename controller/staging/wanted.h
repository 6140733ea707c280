#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "controller/staging/registry.h"

namespace atlas {

/// Tells each node which of what it holds pending jobs are going to read, and in which order, so that something else
/// makes way first. Lives on the strand.
class WantedNotes {
 public:
  /// How a node is told, soonest first, of which the first `held` are not to go at all; does not block.
  using Outlet = std::function<void(const std::vector<DatasetId>& datasets, std::size_t held)>;
  /// A later stream of the same node replaces an earlier one.
  void came(const std::string& node, std::uint64_t stream, Outlet outlet) {
    nodes_[node] = {stream, std::move(outlet), std::nullopt, 0, {}};
  }
  void lost(const std::string& node, std::uint64_t stream) {
    if (const auto at = nodes_.find(node); at != nodes_.end() && at->second.stream == stream) nodes_.erase(at);
  }
  /// Only nodes for which something has changed are told, and those that keep something in any case every kAgain: they
  /// do so for an hour after they were told, in case the controller has gone for good. At a large site not all are
  /// looked at each time: each is within kRounds, and at once those of `held_there` and those that have just come.
  void tell(const std::vector<DatasetId>& soonest_first, const std::set<std::pair<std::string, DatasetId>>& held_there,
            const Registry& registry, SteadyTime at_time) {
    std::map<DatasetId, std::size_t> rank;
    for (std::size_t i = 0; i < soonest_first.size(); ++i) rank.try_emplace(soonest_first[i], i);
    std::set<std::string_view> urgent;
    for (const auto& [name, dataset] : held_there) urgent.insert(name);
    const std::size_t looks = std::max(kLeast, nodes_.size() / kRounds + 1);
    const std::size_t from = next_ < nodes_.size() ? next_ : 0;
    next_ = from + looks;
    std::size_t index = 0;
    for (auto& [name, node] : nodes_) {
      const bool turn = index >= from && index < from + looks;
      ++index;
      if (!turn && node.told && !urgent.contains(name)) continue;
      std::vector<std::tuple<bool, std::size_t, DatasetId>> held;  // what stays in any case is first
      const auto* agent = rank.empty() ? nullptr : registry.find(name);
      if (agent != nullptr)
        for (const auto& [key, replica] : agent->replicas)
          if (const auto at = rank.find(key.first); at != rank.end())
            held.emplace_back(!held_there.contains({name, key.first}), at->second, key.first);
      std::sort(held.begin(), held.end());
      held.erase(std::unique(held.begin(), held.end()), held.end());
      std::vector<DatasetId> now;
      std::size_t staying = 0;
      for (auto& [goes, place, dataset] : held) {
        staying += goes ? 0U : 1U;
        now.push_back(std::move(dataset));
      }
      const bool again = staying > 0 && at_time - node.told_at >= kAgain;
      if (now == node.told && staying == node.staying && !again) continue;
      node.outlet(now, staying);
      node.told = std::move(now);
      node.staying = staying;
      node.told_at = at_time;
    }
  }

 private:
  struct Node {
    std::uint64_t stream = 0;
    Outlet outlet;
    std::optional<std::vector<DatasetId>> told;  ///< nullopt = nothing: it may know something of an earlier controller
    std::size_t staying = 0;
    SteadyTime told_at;
  };
  static constexpr std::chrono::minutes kAgain{20};
  static constexpr std::size_t kLeast = 1000, kRounds = 10;
  std::map<std::string, Node> nodes_;
  std::size_t next_ = 0;  ///< whose turn it is, by place
};

}  // namespace atlas
