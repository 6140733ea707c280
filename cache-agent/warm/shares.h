#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/fetch/share.h"
#include "cache-agent/store/replica.h"
#include "common/identity.h"

namespace atlas::agent {

/// What the jobs of this node divide with their other nodes. Thread-safe.
class Shares {
 public:
  Shares(Fetcher& fetcher, std::string node) : fetcher_(fetcher), node_(std::move(node)) {}

  /// The job's share of a generation on this node, the same for all who ask; nullptr when this node is not among its
  /// `nodes`, or they are fewer than two. From now on, until the job is forgotten, what of it the other nodes' readers
  /// miss is brought here as `as`, who has been shown this generation. No node takes more than `cache` (0 = its part).
  [[nodiscard]] std::shared_ptr<const Share> of(const JobKey& job, const Principal& as, const Manifest& manifest,
                                                const DatasetId& dataset, const std::vector<NodeAddress>& nodes,
                                                Bytes cache);
  /// A reader on another of the job's nodes waits for a piece of this replica; `failed` is told if it does not come.
  /// False when it is not this node's to bring, or cannot be kept here. Blocks only when the manifest is not in memory.
  [[nodiscard]] bool bring(std::uint32_t job_id, const std::shared_ptr<Replica>& replica, const Extent& want,
                           std::function<void()> failed);
  /// What is read here for that job, of that dataset, waits for a limit now.
  [[nodiscard]] bool parked(std::uint32_t job_id, const DatasetId& dataset);
  void forget_job(std::uint32_t job_id);

 private:
  struct Held {
    JobKey job;
    Principal as;
    GenerationId generation;
    std::vector<NodeAddress> nodes;
    Bytes cache;
    std::shared_ptr<const Share> share;
  };
  Fetcher& fetcher_;
  const std::string node_;
  std::mutex mutex_;  ///< guards what follows
  std::map<std::pair<std::uint32_t, DatasetId>, Held> held_;
};

}  // namespace atlas::agent
