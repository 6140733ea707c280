#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "common/identity.h"

namespace atlas::agent {

/// What is fetched of a dataset for a user, for people to see. Counting is a few additions without a lock.
struct Tally {
  std::atomic<std::uint64_t> bytes{0}, operations{0};  ///< read from the origin
  std::atomic<std::uint64_t> throttled{0};             ///< of these bytes, what had to wait for a limit
  std::atomic<std::uint64_t> peer_bytes{0};
  std::atomic<std::uint32_t> waiting{0};  ///< pieces that wait for a limit now
};

/// All that a node counts so. Thread-safe.
class Tallies {
 public:
  [[nodiscard]] std::shared_ptr<Tally> of(const DatasetId& dataset, std::uint32_t uid) {
    const std::lock_guard lock(mutex_);
    auto& tally = tallies_[{dataset, uid}];
    if (!tally) tally = std::make_shared<Tally>();
    return tally;
  }

  struct Read {
    DatasetId dataset;
    std::uint32_t uid = 0;
    std::uint64_t bytes = 0, operations = 0, throttled = 0, peer_bytes = 0;
    std::uint32_t waiting = 0;
  };
  /// What was fetched since the last call, where anything was. What nobody fetches any more is forgotten.
  [[nodiscard]] std::vector<Read> take() {
    std::vector<Read> out;
    const std::lock_guard lock(mutex_);
    for (auto it = tallies_.begin(); it != tallies_.end();) {
      Tally& tally = *it->second;
      // Only of() makes new owners, under the lock. Looked at first: what the last one has added is read below.
      const bool over = it->second.use_count() == 1;
      const Read read{it->first.first,
                      it->first.second,
                      tally.bytes.exchange(0),
                      tally.operations.exchange(0),
                      tally.throttled.exchange(0),
                      tally.peer_bytes.exchange(0),
                      tally.waiting};
      const bool some = (read.bytes | read.operations | read.throttled | read.peer_bytes | read.waiting) != 0;
      if (some) out.push_back(read);
      it = over && !some ? tallies_.erase(it) : std::next(it);
    }
    return out;
  }

 private:
  std::mutex mutex_;  ///< guards what follows
  std::map<std::pair<DatasetId, std::uint32_t>, std::shared_ptr<Tally>> tallies_;
};

}  // namespace atlas::agent
