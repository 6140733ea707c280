// How shares get from what is in force to what is wanted.
#include <algorithm>
#include <array>

#include "controller/limits/shares.h"

namespace atlas {
namespace {

/// One resource of within_what_is_back().
void step(const ShareProblem& problem, double IoRate::*which, const std::vector<IoRate>& in_force,
          std::vector<IoRate>& target) {
  constexpr double kFirst = 0.05;
  struct Scope {
    double room = kNoRate, more = 0;
    [[nodiscard]] double part() const {
      if (room >= more || more <= 0) return 1;
      return std::max(0.0, room / more);
    }
  };
  std::array<std::vector<Scope>, 6> scopes;
  const std::array lists{&problem.origins, &problem.nodes, &problem.accounts,
                         &problem.groups,  &problem.users, &problem.jobs};
  std::vector<std::size_t> limited;  // kinds: without a limit there is room for all
  for (std::size_t kind = 0; kind < lists.size(); ++kind) {
    bool any = false;
    for (const auto& budget : *lists[kind]) {
      scopes[kind].push_back({budget.rate.*which, 0});
      any = any || !is_unlimited(budget.rate.*which);
    }
    if (any) limited.push_back(kind);
  }
  const auto places = [&](const ShareProblem::Flow& flow) {
    const auto& who = problem.payers[flow.payer];
    return std::array{flow.origin, flow.node, who.account, who.group, who.user, who.job};
  };
  const auto more = [&](std::size_t i) { return std::max(0.0, target[i].*which - in_force[i].*which); };
  for (std::size_t i = 0; i < target.size(); ++i) {
    const auto at = places(problem.flows[i]);
    for (const auto kind : limited) {
      if (at[kind] == ShareProblem::kNone) continue;
      auto& scope = scopes[kind][at[kind]];
      scope.room -= in_force[i].*which;
      scope.more += more(i);
    }
  }
  for (std::size_t i = 0; i < target.size(); ++i) {
    const double rise = more(i);
    if (rise <= 0) continue;
    const auto at = places(problem.flows[i]);
    double part = 1;
    for (const auto kind : limited)
      if (at[kind] != ShareProblem::kNone) part = std::min(part, scopes[kind][at[kind]].part());
    target[i].*which = std::max(in_force[i].*which + rise * part, target[i].*which * kFirst);
  }
}

}  // namespace

std::vector<IoRate> within_what_is_back(const ShareProblem& problem, const std::vector<IoRate>& in_force,
                                        const std::vector<IoRate>& target) {
  auto out = target;
  step(problem, &IoRate::bytes, in_force, out);
  step(problem, &IoRate::operations, in_force, out);
  return out;
}

}  // namespace atlas
