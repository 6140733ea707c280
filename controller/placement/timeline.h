#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
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

/// How much of their time limits users' jobs use: most end long before it. Learned from those that have ended.
class RunTimes {
 public:
  /// A job of the user, allowed `limit`, ran for `ran`.
  void learn(std::uint32_t user, double limit, double ran) {
    if (limit <= 0 || !std::isfinite(limit)) return;
    auto& share = share_.try_emplace(user, 1.0).first->second;
    constexpr double kOld = 0.7;  // three jobs are half of what is known
    share = kOld * share + (1 - kOld) * std::clamp(ran / limit, 0.0, 1.0);
  }
  /// How long a job of the user may be expected to run.
  [[nodiscard]] double expected(std::uint32_t user, double limit) const {
    const auto at = share_.find(user);
    return at == share_.end() ? limit : limit * at->second;
  }
  /// How long one that has run for `since` will go on. One that has outrun what was expected of it may do so for as
  /// long again, within its limit; it has not ended yet.
  [[nodiscard]] double left(std::uint32_t user, double limit, double since) const {
    const double over = since - expected(user, limit);
    return over < 0 ? std::max(-over, kOverdue) : std::max(std::min(over, limit - since), kOverdue);
  }
  static constexpr double kOverdue = 60;

 private:
  std::map<std::uint32_t, double> share_;
};

}  // namespace atlas
