#include "sim/cache.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace atlas::sim {

const NodeCache::Entry* NodeCache::find(std::uint32_t dataset) const {
  const auto at = entries_.find(dataset);
  return at == entries_.end() ? nullptr : &at->second;
}

double NodeCache::room(std::uint32_t dataset, const Worth& worth) const {
  double room = free();
  for (const auto& [other, entry] : entries_)
    if (other != dataset && entry.pins == 0 && worth(other, entry) < std::numeric_limits<double>::infinity())
      room += entry.reserved;
  return room;
}

double NodeCache::reserve(std::uint32_t dataset, double size, const Worth& worth) {
  auto& mine = entries_[dataset];
  while (mine.reserved + free() < size) {
    std::optional<std::uint32_t> victim;
    double least = std::numeric_limits<double>::infinity();
    for (const auto& [other, entry] : entries_) {
      if (other == dataset || entry.pins > 0) continue;
      if (const double value = worth(other, entry); value < least) {
        least = value;
        victim = other;
      }
    }
    if (!victim) break;
    evict(*victim);
  }
  const double more = std::min(std::max(0.0, size - mine.reserved), free());
  mine.reserved += more;
  taken_ += more;
  return mine.reserved;
}

void NodeCache::evict(std::uint32_t dataset) {
  const auto at = entries_.find(dataset);
  taken_ -= at->second.reserved;
  wasted_ += at->second.unread;
  entries_.erase(at);
}

double NodeCache::wasted_in_the_end() const {
  double sum = wasted_;
  for (const auto& [dataset, entry] : entries_) sum += entry.unread;
  return sum;
}

}  // namespace atlas::sim
