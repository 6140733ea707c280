#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>

#include "common/units.h"

namespace atlas {

/// Whose turn it is to read an origin ahead of its job. As many transfers at a time as fill the origin, the most urgent
/// first: then each job's data comes whole, one after the other, instead of everybody's at a share of the rate, all of
/// it late. Pure: told at each look at the queue what is under way, then asked for each job, the most urgent first.
/// Not thread-safe.
class OriginTurns {
 public:
  /// An origin as it is now. Rates are bytes per second as measured, 0 = not known: then there are no turns.
  struct Line {
    Bytes one;                 ///< the best of a single transfer
    Bytes all;                 ///< of all transfers together
    std::uint32_t active = 0;  ///< transfers under way that get something
    Bytes left;                ///< of these, still to come
  };

  /// So many fill the origin. One more than that: the origin does not wait for the next one to begin, and what it can
  /// give is found out where only few have read it.
  [[nodiscard]] static std::uint32_t at_a_time(Bytes one, Bytes all) {
    if (one.count == 0) return UINT32_MAX;
    constexpr double kMost = 1e6;
    const double fill = std::ceil(static_cast<double>(all.count) / static_cast<double>(one.count));
    return 1 + static_cast<std::uint32_t>(std::clamp(fill, 1.0, kMost));
  }

  /// A new look: nobody stands in line yet.
  void begin(std::map<std::string, Line> lines) {
    lines_ = std::move(lines);
    waiting_.clear();
    in_order_ = true;
  }
  /// Until the next look jobs come as they come, and have no turn before those who stand in line.
  void end() { in_order_ = false; }

  /// Whether data that takes `transfer` seconds to come would lie about if it were brought now, for a job that has its
  /// nodes in `start` seconds: until then plans change, and what it would displace may be read.
  [[nodiscard]] static bool early(double start, double transfer) {
    constexpr double kSlack = 2, kLeast = 60;
    return start > kSlack * transfer + kLeast;
  }

  /// Whether `transfers` that read `bytes` together may begin now; they count as under way then. Otherwise they stand
  /// in line before all that are asked for later. What is early does not, and begins only where nobody reads.
  [[nodiscard]] bool take(const std::string& origin, std::uint32_t transfers, Bytes bytes, bool early = false) {
    const auto at = lines_.find(origin);
    if (at == lines_.end() || transfers == 0) return true;
    auto& line = at->second;
    auto& waiting = waiting_[origin];
    const auto most = early && line.one.count > 0 ? 1 : at_a_time(line.one, line.all);
    if (line.active < most && ((in_order_ && !early) || waiting.count == 0)) {
      line.active += transfers;
      line.left += bytes;
      return true;
    }
    if (!early) waiting += bytes;
    return false;
  }

  /// What the origin gives to others before it gives to whoever asks next.
  [[nodiscard]] Bytes ahead(const std::string& origin) const {
    const auto at = lines_.find(origin);
    if (at == lines_.end()) return {};
    const auto waiting = waiting_.find(origin);
    return waiting == waiting_.end() ? at->second.left : Bytes{at->second.left.count + waiting->second.count};
  }

 private:
  std::map<std::string, Line> lines_;
  std::map<std::string, Bytes> waiting_;
  bool in_order_ = false;
};

}  // namespace atlas
