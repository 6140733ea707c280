#include "controller/staging/io_limits.h"

#include <algorithm>
#include <utility>

namespace atlas {
namespace {

/// A thousand limits set by a script, or a thousand nodes that come back, are told of once, not a million times.
constexpr std::chrono::milliseconds kTogether{200};

}  // namespace

IoBudget IoLimits::budget_of(const LimitRow& limit) {
  IoBudget out{limit.kind,
               limit.name,
               limit.id,
               kUnlimited,
               limit.burst.value_or(kDefaultBurst),
               static_cast<double>(limit.weight.value_or(0))};
  if (limit.read) out.rate.bytes = static_cast<double>(limit.read->count);
  if (limit.operations) out.rate.operations = static_cast<double>(*limit.operations);
  return out;
}

void IoLimits::changed() {
  std::vector<IoBudget> budgets;
  for (const auto& limit : limits_.limits())
    if (limit.read || limit.operations || limit.weight) budgets.push_back(budget_of(limit));
  const bool loaded = nodes_.empty() && sharing_.budgets().empty() && !budgets.empty();
  sharing_.set_budgets(std::move(budgets));
  tell_all_soon();
  if (!loaded) return schedule();
  // What an earlier controller gave to nodes that have not come back yet is still theirs.
  due_ = SteadyTime::min();
  strand_.post_after(Sharing::kHolds, [this] {
    due_ = SteadyTime::max();
    schedule();
  });
}

void IoLimits::tell(const Node& node) const {
  node.outlet.budgets(sharing_.budgets(), static_cast<std::uint32_t>(nodes_.size()));
}

void IoLimits::tell_all_soon() {
  if (std::exchange(telling_, true)) return;
  strand_.post_after(kTogether, [this] {
    telling_ = false;
    for (const auto& [name, node] : nodes_) tell(node);
  });
}

void IoLimits::came(const std::string& node, std::uint64_t stream, Outlet outlet) {
  sharing_.lost(node, clock_.now());
  auto& here = nodes_[node] = {stream, std::move(outlet)};
  tell(here);
  tell_all_soon();  // an equal part is another one now
}

void IoLimits::lost(const std::string& node, std::uint64_t stream) {
  const auto it = nodes_.find(node);
  if (it == nodes_.end() || it->second.stream != stream) return;
  nodes_.erase(it);
  sharing_.lost(node, clock_.now());
  tell_all_soon();
}

void IoLimits::report(const std::string& node, std::uint64_t stream, std::uint64_t seen,
                      const std::vector<IoDemand>& demands) {
  const auto it = nodes_.find(node);
  if (it == nodes_.end() || it->second.stream != stream) return;
  sharing_.report(node, seen, demands, clock_.now());
  schedule();
}

/// One timer counts, the earliest; those before it find that another has taken their place.
void IoLimits::schedule() {
  if (sharing_.due() >= due_) return;
  due_ = sharing_.due();
  const auto wait =
      std::chrono::ceil<std::chrono::milliseconds>(std::max(due_ - clock_.now(), SteadyTime::duration(0)));
  strand_.post_after(wait, [this, timer = ++timer_] { divide(timer); });
}

void IoLimits::divide(std::uint64_t timer) {
  if (timer != timer_) return;
  due_ = SteadyTime::max();
  for (const auto& [name, message] : sharing_.divide(clock_.now()))
    if (const auto node = nodes_.find(name); node != nodes_.end()) node->second.outlet.shares(message);
  schedule();
}

}  // namespace atlas
