#pragma once
#include <chrono>
#include <cstdint>

#include "common/identity.h"

namespace atlas {

/// What is read, per second, as people are shown it.
struct ReadRates {
  double origin_bytes = 0, origin_operations = 0;
  double throttled_bytes = 0;  ///< of origin_bytes: what had to wait for a limit
  double peer_bytes = 0;       ///< from other nodes' caches
  double asked_bytes = 0;      ///< by jobs, where that is counted: of replicas that are not complete
  double hit_bytes = 0;        ///< of asked_bytes: what was on the node
  std::uint32_t waiting = 0;   ///< reads that wait for a limit now
  /// What was an amount in so much time.
  void per(std::chrono::duration<double> time) {
    for (double* amount : {&origin_bytes, &origin_operations, &throttled_bytes, &peer_bytes, &asked_bytes, &hit_bytes})
      *amount /= time.count();
  }
  ReadRates& operator+=(const ReadRates& other) {
    origin_bytes += other.origin_bytes;
    origin_operations += other.origin_operations;
    throttled_bytes += other.throttled_bytes;
    peer_bytes += other.peer_bytes;
    asked_bytes += other.asked_bytes;
    hit_bytes += other.hit_bytes;
    waiting += other.waiting;
    return *this;
  }
};

/// On one node, of one dataset, for one user.
struct DatasetReads {
  DatasetId dataset;
  std::uint32_t uid = 0;
  ReadRates rates;
};

}  // namespace atlas
