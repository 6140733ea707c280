#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "controller/placement/placement.h"

namespace atlas {

/// How many CPUs of one node will be free when, seconds from now: running jobs give theirs back, planned ones take
/// some. Not thread-safe.
class CpuTimeline {
 public:
  explicit CpuTimeline(std::uint32_t free_now = 0) : steps_{{0.0, free_now}} {}

  /// Nothing but that is known.
  void reset(std::uint32_t free_now) { steps_.assign(1, {0.0, free_now}); }
  /// A job that runs ends in `at`.
  void give(double at, std::uint32_t cpus) {
    if (cpus == 0) return;
    for (auto i = split(std::max(0.0, at)); i < steps_.size(); ++i) steps_[i].second += cpus;
  }
  /// A job is to run there from `from` to `to`. What is not free it cannot take: the plan is not exact.
  void take(double from, double to, std::uint32_t cpus) {
    if (to <= from || cpus == 0) return;
    const auto first = split(std::max(0.0, from));
    const auto last = std::isfinite(to) ? split(to) : steps_.size();
    for (auto i = first; i < last; ++i) steps_[i].second -= std::min(steps_[i].second, cpus);
  }

  /// For NodeView::ahead; never more than the node has.
  [[nodiscard]] std::vector<FreeCpus> steps(std::uint32_t cpus_of_node) const {
    std::vector<FreeCpus> out;
    put_steps(cpus_of_node, out);
    return out;
  }
  void put_steps(std::uint32_t cpus_of_node, std::vector<FreeCpus>& out) const {
    out.clear();
    out.reserve(steps_.size());
    for (const auto& [at, free] : steps_) {
      const std::chrono::milliseconds in(static_cast<std::int64_t>(std::ceil(std::min(at, 1e9) * 1000)));
      out.push_back({in, std::min(free, cpus_of_node)});
    }
  }

 private:
  /// The step that begins at `at`, made if there is none.
  std::size_t split(double at) {
    const auto after = std::upper_bound(steps_.begin(), steps_.end(), at,
                                        [](double time, const auto& step) { return time < step.first; });
    const auto before = std::prev(after);
    const auto index = static_cast<std::size_t>(before - steps_.begin());
    if (before->first == at) return index;
    steps_.insert(after, {at, before->second});
    return index + 1;
  }

  std::vector<std::pair<double, std::uint32_t>> steps_;  ///< by time, the first at 0
};

/// Seconds that a job which has reached its time limit goes on, as far as anybody can say.
inline constexpr double kOverdue = 60;

}  // namespace atlas
