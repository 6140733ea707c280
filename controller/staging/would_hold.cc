#include "controller/staging/would_hold.h"

#include <algorithm>

namespace atlas {

void WouldHold::read(const std::string& node, const DatasetId& dataset, Bytes bytes, Bytes room) {
  auto& here = nodes_[node];
  here.erase(dataset);
  if (bytes.count == 0 || bytes > room) return;
  here[dataset] = {bytes, ++uses_};
  Bytes sum;
  for (const auto& [id, held] : here) sum += held.bytes;
  while (sum > room) {
    const auto oldest = std::min_element(here.begin(), here.end(),
                                         [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
    sum = Bytes{sum.count - oldest->second.bytes.count};
    here.erase(oldest);
  }
}

Bytes WouldHold::on(const std::string& node, const DatasetId& dataset) const {
  const auto here = nodes_.find(node);
  if (here == nodes_.end()) return {};
  const auto held = here->second.find(dataset);
  return held == here->second.end() ? Bytes{} : held->second.bytes;
}

std::vector<NodeView*> WouldHold::show(ClusterSnapshot& view, const std::vector<WantedDataset>& wanted) const {
  std::vector<NodeView*> touched;
  for (auto& node : view.nodes) {
    if (!node.cache || !nodes_.contains(node.name)) continue;
    for (const auto& dataset : wanted) {
      const auto bytes = on(node.name, dataset.id);
      if (bytes.count == 0) continue;
      auto& holding = node.holdings[dataset.id];
      holding.resident = std::max(holding.resident, bytes);
      holding.complete = holding.complete || (dataset.size && bytes >= *dataset.size);
      touched.push_back(&node);
    }
  }
  return touched;
}

}  // namespace atlas
