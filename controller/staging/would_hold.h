#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "controller/placement/placement.h"

namespace atlas {

/// What nodes' caches would hold if jobs that are only looked at had been served: on each node what was read there
/// last, as far as there is room. Lives on the strand.
class WouldHold {
 public:
  /// A job has, or would have, read so much of the dataset on the node, whose cache has so much room for all of this.
  void read(const std::string& node, const DatasetId& dataset, Bytes bytes, Bytes room);
  [[nodiscard]] Bytes on(const std::string& node, const DatasetId& dataset) const;
  /// Puts it into the view, beside what nodes hold in fact. Returns the nodes that it did this for.
  [[nodiscard]] std::vector<NodeView*> show(ClusterSnapshot& view, const std::vector<WantedDataset>& wanted) const;

 private:
  struct Held {
    Bytes bytes;
    std::uint64_t used = 0;
  };
  std::map<std::string, std::map<DatasetId, Held>> nodes_;
  std::uint64_t uses_ = 0;
};

}  // namespace atlas
