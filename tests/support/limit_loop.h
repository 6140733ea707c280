#pragma once
#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/io_limits.h"

namespace atlas {

/// A model of the control loop: the controller's division and the agents' governors as they are, under a clock and
/// messages that are made here. The same numbers give the same course of events.
struct LoopOptions {
  using milliseconds = std::chrono::milliseconds;
  struct User {
    std::vector<std::uint32_t> nodes{0, 1, 2, 3};
    unsigned processes = 8;  ///< on each node; each reads one piece after the other
    double weight = 0, limit = kNoRate;
    std::vector<std::pair<milliseconds, milliseconds>> active{};  ///< from, until
    milliseconds think{0};                                        ///< between two pieces of a process
  };
  std::vector<User> users;
  std::uint32_t nodes = 4;
  double capacity = 400e6;   ///< of the origin, bytes/s
  double piece = 1 << 20;    ///< bytes of one read
  milliseconds latency{10};  ///< of a read
  /// Of a message, each way: a loop takes a second and what the jitter adds. Messages do not overtake each other.
  milliseconds delay{500}, jitter{250};
  milliseconds length{60'000};
  std::vector<std::pair<milliseconds, milliseconds>> away{};  ///< when no message of the controller gets through
  std::uint32_t seed = 1;
};

struct LoopResult {
  static constexpr std::chrono::milliseconds kBin{100};
  std::vector<std::vector<double>> read;  ///< by user, by bin: bytes/s that the origin was asked for
  [[nodiscard]] double total(std::size_t bin) const;
  /// The mean of a user, or of all (-1), in [from, until).
  [[nodiscard]] double mean(int user, std::chrono::milliseconds from, std::chrono::milliseconds until) const;
  /// The highest mean of all over any window of this length.
  [[nodiscard]] double highest(std::chrono::milliseconds window) const;
};

[[nodiscard]] LoopResult run_limit_loop(const LoopOptions& options);

}  // namespace atlas
