#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controller/staging/registry.h"

namespace atlas {

/// Tells each node which of what it holds pending jobs are going to read, and in which order, so that something else
/// makes way first. Lives on the strand.
class WantedNotes {
 public:
  /// How a node is told, soonest first; does not block.
  using Outlet = std::function<void(const std::vector<DatasetId>& datasets)>;
  /// A later stream of the same node replaces an earlier one.
  void came(const std::string& node, std::uint64_t stream, Outlet outlet) {
    nodes_[node] = {stream, std::move(outlet), std::nullopt};
  }
  void lost(const std::string& node, std::uint64_t stream) {
    if (const auto at = nodes_.find(node); at != nodes_.end() && at->second.stream == stream) nodes_.erase(at);
  }
  /// Only nodes for which something has changed are told.
  void tell(const std::vector<DatasetId>& soonest_first, const Registry& registry) {
    std::map<DatasetId, std::size_t> rank;
    for (std::size_t i = 0; i < soonest_first.size(); ++i) rank.try_emplace(soonest_first[i], i);
    for (auto& [name, node] : nodes_) {
      std::vector<std::pair<std::size_t, DatasetId>> held;
      const auto* agent = rank.empty() ? nullptr : registry.find(name);
      if (agent != nullptr)
        for (const auto& [key, replica] : agent->replicas)
          if (const auto at = rank.find(key.first); at != rank.end()) held.emplace_back(at->second, key.first);
      std::sort(held.begin(), held.end());
      held.erase(std::unique(held.begin(), held.end()), held.end());
      std::vector<DatasetId> now;
      for (auto& [place, dataset] : held) now.push_back(std::move(dataset));
      if (now == node.told) continue;
      node.outlet(now);
      node.told = std::move(now);
    }
  }

 private:
  struct Node {
    std::uint64_t stream = 0;
    Outlet outlet;
    std::optional<std::vector<DatasetId>> told;  ///< nullopt = nothing: it may know something of an earlier controller
  };
  std::map<std::string, Node> nodes_;
};

}  // namespace atlas
