#pragma once
#include <cstdint>
#include <functional>
#include <map>

#include "sim/workload.h"

namespace atlas::sim {

/// What a simulated node keeps: whole datasets as far as there is room. Sizes are doubles, for what moves is a fluid.
class NodeCache {
 public:
  struct Entry {
    double resident = 0;  ///< bytes
    double reserved = 0;  ///< bytes of the cache that are taken for it; never less than resident
    double unread = 0;    ///< of resident: brought ahead, and no job has read it yet
    Time used{};
    std::uint32_t pins = 0;  ///< running jobs, and transfers to or from it
  };
  /// What an entry is worth: the least goes first, infinity never goes.
  using Worth = std::function<double(std::uint32_t dataset, const Entry&)>;

  explicit NodeCache(double capacity) : capacity_(capacity) {}

  [[nodiscard]] const Entry* find(std::uint32_t dataset) const;
  [[nodiscard]] Entry& at(std::uint32_t dataset) { return entries_[dataset]; }
  [[nodiscard]] const std::map<std::uint32_t, Entry>& entries() const { return entries_; }
  [[nodiscard]] double free() const { return capacity_ - taken_; }
  /// What could be reserved for `dataset` besides what it has, were everything evicted that may be.
  [[nodiscard]] double room(std::uint32_t dataset, const Worth& worth) const;
  /// Takes up to `size` bytes in all for a dataset, evicting others that are not pinned; what it has then.
  double reserve(std::uint32_t dataset, double size, const Worth& worth);
  /// Bytes that were brought ahead and evicted before anybody read them.
  [[nodiscard]] double wasted() const { return wasted_; }
  /// wasted(), and what nobody has read by now.
  [[nodiscard]] double wasted_in_the_end() const;

 private:
  void evict(std::uint32_t dataset);

  double capacity_;
  double taken_ = 0, wasted_ = 0;
  std::map<std::uint32_t, Entry> entries_;
};

}  // namespace atlas::sim
