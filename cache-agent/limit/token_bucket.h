#pragma once
#include <algorithm>
#include <chrono>

#include "common/io_limits.h"
#include "common/units.h"

namespace atlas::agent {

/// Tokens that come at a steady rate, to be had as long as there are any: whoever takes more than there are leaves a
/// debt, which those after him wait for. So a request of any size passes, and the rate holds over time. Pure: it is
/// told the (steady) time, and a time that goes back is one that stands still. Starts empty: a restart gives nobody
/// anything.
class TokenBucket {
 public:
  using Seconds = std::chrono::duration<double>;
  /// However slow: one request in so long passes, or a job whose reads are answered in bounded time would get errors.
  static constexpr Seconds kLongestDebt = atlas::kLongestDebt;

  TokenBucket() = default;
  TokenBucket(double rate, Seconds burst, SteadyTime now) : rate_(rate), burst_(burst), when_(now) {}

  /// What has come so far stays, up to `saved` even if less may be saved up at the new rate; what is owed is owed
  /// still, for kLongestDebt at most.
  void set(double rate, Seconds burst, SteadyTime now, double saved = 0) {
    refill(now);
    if (is_unlimited(rate_)) level_ = std::min(level_, 0.0);  // nothing was saved up where nothing was counted
    rate_ = rate;
    burst_ = burst;
    level_ = std::min(level_, std::max(highest(), saved));
    forgive();
  }
  [[nodiscard]] bool ready(SteadyTime now) {
    if (is_unlimited(rate_)) return true;
    refill(now);
    return level_ >= 0;
  }
  void take(double tokens) {
    if (is_unlimited(rate_)) return;
    if (tokens < 0) {
      const double less = std::min(forgiven_, -tokens);
      forgiven_ -= less;
      return raise(-tokens - less);
    }
    if (level_ >= 0) forgiven_ = 0;  // what that was for has been waited for
    level_ -= tokens;
    forgive();
  }
  /// What was taken and not needed.
  void give_back(double tokens) { take(-tokens); }
  /// When ready() will say yes, after a no.
  [[nodiscard]] SteadyTime ready_at() const {
    if (level_ >= 0) return when_;
    // A clock tick late rather than early: who comes too early comes again.
    return when_ + std::chrono::ceil<SteadyTime::duration>(Seconds(-level_ / rate_)) + SteadyTime::duration(1);
  }
  [[nodiscard]] double rate() const { return rate_; }
  [[nodiscard]] double level() const { return level_; }

 private:
  void refill(SteadyTime now) {
    if (now <= when_) return;
    raise(rate_ * Seconds(now - when_).count());
    when_ = now;
  }
  /// What was saved up at a higher rate does not grow, but stays.
  void raise(double tokens) { level_ = std::max(level_, std::min(level_ + tokens, highest())); }
  void forgive() {
    const double more = std::max(0.0, lowest() - level_);
    forgiven_ += more;
    level_ += more;
  }
  [[nodiscard]] double lowest() const { return -rate_ * kLongestDebt.count(); }
  [[nodiscard]] double highest() const { return rate_ * burst_.count(); }

  double rate_ = kNoRate;  ///< per second, more than 0
  Seconds burst_{0};
  double level_ = 0;     ///< below 0: owed
  double forgiven_ = 0;  ///< beyond the longest debt; of that nothing is given back
  SteadyTime when_{};
};

}  // namespace atlas::agent
