#include "controller/staging/io_limits.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

namespace atlas {
namespace {

/// A thousand limits set by a script, or a thousand nodes that come back, are told of once, not a million times.
constexpr std::chrono::milliseconds kTogether{200};
/// A node whose stream broke, or that an earlier controller knew, is back before that, or out of order.
constexpr std::chrono::seconds kComesBack{60};
/// Under which accounts users' jobs run is written down once in so long, and known for so long.
constexpr std::chrono::hours kNotedAgain{24}, kKnown{90 * 24};

}  // namespace

IoBudget IoLimits::budget_of(const LimitRow& limit) {
  IoBudget out{limit.kind,
               limit.name,
               limit.id,
               kUnlimited,
               limit.burst.value_or(std::chrono::milliseconds(0)),
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
  node.outlet.budgets(sharing_.budgets(), static_cast<std::uint32_t>(node_count()));
}

std::size_t IoLimits::node_count() const {
  return clock_.now() < expected_until_ ? std::max(expected_, nodes_.size()) : nodes_.size();
}

void IoLimits::expect(std::size_t nodes) {
  expected_ = std::max(node_count(), nodes);
  expected_until_ = clock_.now() + kComesBack;
  if (std::exchange(counting_, true)) return;
  count_again(kComesBack);
}

void IoLimits::count_again(std::chrono::milliseconds wait) {
  strand_.post_after(wait, [this] {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(expected_until_ - clock_.now());
    if (left.count() > 0) return count_again(left);
    counting_ = false;
    tell_all_soon();
  });
}

Status IoLimits::load() {
  ATLAS_ASSIGN(const auto known, catalog_.accounts(clock_.wall() - kKnown));
  for (const auto& one : known) accounts_[one.uid][one.account] = one.seen;
  return {};
}

void IoLimits::note_account(std::uint32_t uid, const std::string& account) {
  if (account.empty()) return;
  const auto now = clock_.wall();
  const auto [at, added] = accounts_[uid].try_emplace(account, now);
  if (!added && at->second + kNotedAgain > now) return;
  at->second = now;
  if (auto ok = catalog_.note_account({uid, account, now}); !ok) complain_(ok.error());
}

std::string IoLimits::account_of(std::uint32_t uid) const {
  auto known = limits_.accounts_of(uid);
  if (const auto seen = accounts_.find(uid); seen != accounts_.end())
    for (const auto& [account, when] : seen->second) known.insert(account);
  constexpr auto kNone = std::numeric_limits<std::uint64_t>::max();
  const auto rank = [=](const LimitRow& limit) {
    return std::tuple(limit.read.value_or(Bytes{kNone}).count, limit.operations.value_or(kNone),
                      limit.cache.value_or(Bytes{kNone}).count);
  };
  const LimitRow* lowest = nullptr;
  for (const auto& account : known) {
    const auto at = limits_.limits_by_name().find({LimitKind::account, account});
    if (at == limits_.limits_by_name().end()) continue;
    if (lowest == nullptr || rank(at->second) < rank(*lowest)) lowest = &at->second;
  }
  if (lowest != nullptr) return lowest->name;
  return known.size() == 1 ? *known.begin() : "";
}

bool IoLimits::knows_account(const std::string& account) const {
  return std::any_of(accounts_.begin(), accounts_.end(),
                     [&](const auto& user) { return user.second.contains(account); });
}

std::vector<Sharing::Use> IoLimits::uses(const std::vector<LimitRow>& limits) const {
  std::vector<IoBudget> budgets;
  budgets.reserve(limits.size());
  for (const auto& limit : limits) budgets.push_back(budget_of(limit));
  return sharing_.uses(budgets);
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
  expect(nodes_.size());
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
