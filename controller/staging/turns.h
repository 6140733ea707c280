#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace atlas {

/// Whose turn it is when there is more to decide than one look at the queue may take. Each look goes through the jobs
/// by their ids, beginning with the first that had no turn the last time, so that everybody's comes. Lives on the
/// strand.
class Turns {
 public:
  /// Decisions per look at a site of so many nodes, each of which is weighed in each decision: some tens of
  /// milliseconds.
  [[nodiscard]] static std::size_t affordable(std::size_t nodes) {
    constexpr std::size_t kNodes = 120'000, kLeast = 8;
    return std::max(kLeast, kNodes / std::max<std::size_t>(1, nodes));
  }
  void begin(std::size_t budget) {
    left_ = budget;
    from_ = next_;
    next_ = 0;
    in_turn_ = true;
  }
  /// Outside of a look everything is decided as it comes: Slurm itself asks one job at a time.
  void end() { in_turn_ = false; }
  /// The id to begin with.
  [[nodiscard]] std::uint32_t from() const { return from_; }
  /// Whether the job may be decided now. Asked in the order of the ids from from() on, and round.
  [[nodiscard]] bool take(std::uint32_t job) {
    if (!in_turn_) return true;
    if (left_ > 0) {
      --left_;
      return true;
    }
    if (next_ == 0) next_ = job;
    return false;
  }

 private:
  std::size_t left_ = 0;
  std::uint32_t from_ = 0, next_ = 0;
  bool in_turn_ = false;
};

}  // namespace atlas
