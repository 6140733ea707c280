#pragma once
#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"
#include "common/units.h"

namespace atlas {

/// As good as none: ten million times what a site's storage gives, and sums of it stay finite.
inline constexpr double kNoRate = 1e18;
/// Shares of kNoRate among whole clusters are above this.
[[nodiscard]] constexpr bool is_unlimited(double rate) {
  return rate >= 1e12;
}

/// How fast something is, or may be, read: bytes and operations per second.
struct IoRate {
  double bytes = 0, operations = 0;
  bool operator==(const IoRate&) const = default;
};
inline constexpr IoRate kUnlimited{kNoRate, kNoRate};

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
  std::chrono::milliseconds burst = kDefaultBurst;  ///< so much of the rate may come at once
  double weight = 0;                                ///< 0 = not set
  bool operator==(const IoBudget&) const = default;
};
/// Does a node's reading count for this limit?
[[nodiscard]] bool applies(const IoBudget& budget, const std::string& node, const IoFlow& flow);

}  // namespace atlas
