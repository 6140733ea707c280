#pragma once
#include <algorithm>
#include <cstdint>
#include <list>
#include <numeric>
#include <random>
#include <unordered_map>
#include <vector>

#include "cache-agent/store/room.h"

namespace atlas::testing {

/// Hit ratios of the last epochs of a training that reads `blocks` equal blocks in a new random order in each epoch,
/// with a cache of `room` blocks: as a replica keeps them (store/room.h itself decides), and with least-recently-used.
struct HitRatios {
  std::vector<double> kept, lru;  ///< by epoch; the first one finds an empty cache
};

inline HitRatios compare_policies(std::uint64_t blocks, std::uint64_t room_blocks, unsigned epochs, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> order(blocks);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  agent::Room room;
  room.set_most(room_blocks);
  std::vector<bool> kept(blocks);
  std::list<std::uint64_t> recent;
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> in_lru;
  HitRatios out;
  for (unsigned epoch = 0; epoch < epochs; ++epoch) {
    std::shuffle(order.begin(), order.end(), random);
    std::uint64_t kept_hits = 0, lru_hits = 0;
    for (const auto block : order) {
      if (kept[block]) {
        ++kept_hits;
      } else {
        kept[block] = room.take(1);
      }
      if (const auto it = in_lru.find(block); it != in_lru.end()) {
        ++lru_hits;
        recent.splice(recent.begin(), recent, it->second);
        continue;
      }
      recent.push_front(block);
      in_lru[block] = recent.begin();
      if (recent.size() > room_blocks) {
        in_lru.erase(recent.back());
        recent.pop_back();
      }
    }
    out.kept.push_back(static_cast<double>(kept_hits) / static_cast<double>(blocks));
    out.lru.push_back(static_cast<double>(lru_hits) / static_cast<double>(blocks));
  }
  return out;
}

}  // namespace atlas::testing
