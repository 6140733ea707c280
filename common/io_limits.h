#pragma once
#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"
#include "common/units.h"

namespace atlas {

/// As good as none: a thousand million times the largest limit that can be set, and sums of it stay finite.
inline constexpr double kNoRate = 1e24;
/// Shares of kNoRate among whole clusters are above this, and all limits below.
[[nodiscard]] constexpr bool is_unlimited(double rate) {
  return rate >= 1e18;
}
/// The largest limits that can be set, per second.
inline constexpr std::uint64_t kFastestRead = std::uint64_t{1} << 50U, kMostOperations = 1'000'000'000;
static_assert(!is_unlimited(static_cast<double>(kFastestRead)));

/// What is read, and paid for, at a time: about what may be read in a second, but not less and not more than these.
inline constexpr Bytes kLeastPiece = kMiB, kMostPiece{4 * kMiB.count};
/// However slow one may read: a piece passes after so long, wherever he reads.
inline constexpr std::chrono::seconds kLongestDebt{30};

/// How fast something is, or may be, read: bytes and operations per second.
struct IoRate {
  double bytes = 0, operations = 0;
  bool operator==(const IoRate&) const = default;
};
inline constexpr IoRate kUnlimited{kNoRate, kNoRate};

/// Where no limit that applies says how much may come at once.
inline constexpr std::chrono::milliseconds kDefaultBurst{100};

/// What a node's reading is told apart by: where from, and for whom.
struct IoFlow {
  std::string origin;
  std::uint32_t uid = 0, gid = 0;
  std::uint32_t job_id = 0;  ///< 0 = nobody's job
  std::string account;       ///< of Slurm; "" = no job's
  auto operator<=>(const IoFlow&) const = default;
};

/// What one node would read and has read of a flow, in the last second or so.
struct IoDemand {
  IoFlow flow;
  IoRate foreground;  ///< wanted: what jobs wait for
  IoRate warm;        ///< wanted: what is read ahead of jobs
  IoRate used;
  std::uint32_t waiting = 0;  ///< requests that are parked
  IoRate cap = kUnlimited;    ///< the job's own limit (--io-limit), on all its nodes together
};

/// What one node may read of a flow.
struct IoShare {
  IoFlow flow;
  IoRate rate;
};

/// Whom a limit is for.
enum class LimitKind { user, group, account, node, origin };
[[nodiscard]] std::string_view name_of(LimitKind kind);
[[nodiscard]] Result<LimitKind> limit_kind(std::string_view text);

/// A limit of reading as nodes know it. All nodes together keep within it, but for a node's own.
struct IoBudget {
  LimitKind kind = LimitKind::user;
  std::string name;
  std::uint32_t id = 0;  ///< uid or gid
  IoRate rate = kUnlimited;
  /// So much of the rate may come at once; 0 = not set: it has no say in that where another limit has.
  std::chrono::milliseconds burst{0};
  double weight = 0;  ///< 0 = not set
  bool operator==(const IoBudget&) const = default;
};
/// Does a node's reading count for this limit?
[[nodiscard]] bool applies(const IoBudget& budget, const std::string& node, const IoFlow& flow);

}  // namespace atlas
