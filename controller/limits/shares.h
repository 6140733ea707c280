#pragma once
#include <cstdint>
#include <vector>

#include "common/io_limits.h"

namespace atlas {

/// Who wants to read how much on which node, and what he may: all of a cluster at one moment, in numbers. Whoever is
/// named is named by his position in a list.
struct ShareProblem {
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Budget {
    IoRate rate = kUnlimited;
    double weight = 0;  ///< 0: not set. Then a user's is 1, and an account or a group is but a bound on its users
  };
  std::vector<Budget> origins, nodes, accounts, groups, users, jobs;
  struct Payer {
    std::uint32_t account = kNone, group = kNone, user = 0, job = kNone;
    std::int64_t order = 0;  ///< warm-ups of a user: the lower first
  };
  std::vector<Payer> payers;
  struct Flow {
    std::uint32_t origin = 0, node = 0, payer = 0;
    IoRate foreground, warm;
  };
  std::vector<Flow> flows;
};

/// What each flow may read. Weighted max-min: users share an origin by weight (those of an account or a group that has
/// a weight of its own share what that gets), a user's jobs share what he gets, a job's nodes what it gets; each gets
/// what it wants or as much as the others that want more. The smallest of all budgets applies. What jobs wait for goes
/// before warm-ups, which keep a twentieth; a user's warm-ups go one after the other. What nobody wants is lent to all
/// that want anything. No budget is ever exceeded. Pure.
[[nodiscard]] std::vector<IoRate> divide(const ShareProblem& problem);

/// What may be told to the nodes at this moment on the way to `target`: less at once, more only as far as every budget
/// has room beside what may still be in force elsewhere, though it has been taken back. Who has nothing yet gets a
/// twentieth of what he is to get. Pure.
[[nodiscard]] std::vector<IoRate> within_what_is_back(const ShareProblem& problem, const std::vector<IoRate>& in_force,
                                                      const std::vector<IoRate>& target);

/// Divides an amount among parts by weight, max-min. Sets `got`.
struct SharePart {
  double want = 0, weight = 1, got = 0;
};
void fill(SharePart* parts, std::size_t count, double amount);

}  // namespace atlas
