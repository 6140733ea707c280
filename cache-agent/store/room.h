#pragma once
#include <atomic>
#include <cstdint>
#include <limits>

namespace atlas::agent {

/// How much of a dataset may be kept, and how much is. What does not fit is read through: nothing that is kept makes
/// way for it. An epoch of a training reads everything once, in random order, so whatever is evicted is as likely to be
/// read next as what takes its place, and least-recently-used evicts just what the next epoch asks for first.
/// Lock-free.
class Room {
 public:
  static constexpr std::uint64_t kNoLimit = std::numeric_limits<std::int64_t>::max();
  /// Takes room for `bytes`; false, and nothing is taken, when there is too little.
  [[nodiscard]] bool take(std::uint64_t bytes) {
    std::uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (used + bytes > most_.load(std::memory_order_relaxed)) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  /// Bytes that are there whether there is room or not.
  void add(std::uint64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void give(std::uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  [[nodiscard]] bool fits(std::uint64_t bytes) const {
    return used_.load(std::memory_order_relaxed) + bytes <= most_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  void set_used(std::uint64_t bytes) { used_.store(bytes, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t most() const { return most_.load(std::memory_order_relaxed); }
  /// What is kept beyond a smaller limit stays.
  void set_most(std::uint64_t bytes) { most_.store(bytes, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> used_{0};
  std::atomic<std::uint64_t> most_{kNoLimit};
};

}  // namespace atlas::agent
