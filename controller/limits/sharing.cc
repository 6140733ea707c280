#include "controller/limits/sharing.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace atlas {
namespace {

/// Lists of whom there was once are made anew when they have grown by so many.
constexpr std::size_t kGrown = 1000;
/// Nearer to its target than this a share is there.
constexpr double kNear = 0.99;

constexpr IoRate least(const IoRate& a, const IoRate& b) {
  return {std::min(a.bytes, b.bytes), std::min(a.operations, b.operations)};
}
constexpr IoRate most(const IoRate& a, const IoRate& b) {
  return {std::max(a.bytes, b.bytes), std::max(a.operations, b.operations)};
}

}  // namespace

ShareProblem::Budget Sharing::budget_of(LimitKind kind, const std::string& name, std::uint32_t id) const {
  const bool by_id = kind == LimitKind::user || kind == LimitKind::group;
  for (const auto& budget : budgets_)
    if (budget.kind == kind && (by_id ? budget.id == id : budget.name == name)) return {budget.rate, budget.weight};
  return {};
}

void Sharing::set_budgets(std::vector<IoBudget> budgets) {
  if (budgets_ == budgets) return;
  budgets_ = std::move(budgets);
  stale_ = true;  // a thousand limits set one after the other are looked at together
  due_ = divided_ + kLeastPause;
}

/// Finds a flow's places in the lists of the problem; makes those that are new.
void Sharing::place(const std::string& name, Held& held) {
  const auto& flow = held.demand.flow;
  const auto number = [](auto& numbers, const auto& key, auto& list, const auto& make) {
    const auto [it, fresh] = numbers.try_emplace(key, static_cast<std::uint32_t>(list.size()));
    if (fresh) list.push_back(make());
    return it->second;
  };
  held.origin =
      number(origins_, flow.origin, problem_.origins, [&] { return budget_of(LimitKind::origin, flow.origin, 0); });
  nodes_[name].number =
      number(node_numbers_, name, problem_.nodes, [&] { return budget_of(LimitKind::node, name, 0); });
  held.payer = number(payers_, std::tuple(flow.uid, flow.gid, flow.account, flow.job_id), problem_.payers, [&] {
    ShareProblem::Payer payer;
    payer.user = number(users_, flow.uid, problem_.users, [&] { return budget_of(LimitKind::user, {}, flow.uid); });
    const auto group = budget_of(LimitKind::group, {}, flow.gid);
    if (group.rate != kUnlimited || group.weight > 0)
      payer.group = number(groups_, flow.gid, problem_.groups, [&] { return group; });
    const auto account = budget_of(LimitKind::account, flow.account, 0);
    if (!flow.account.empty() && (account.rate != kUnlimited || account.weight > 0))
      payer.account = number(accounts_, flow.account, problem_.accounts, [&] { return account; });
    if (flow.job_id != 0) payer.job = number(jobs_, flow.job_id, problem_.jobs, [] { return ShareProblem::Budget{}; });
    return payer;
  });
  held.job = problem_.payers[held.payer].job;
}

void Sharing::renumber() {
  problem_ = {};
  origins_.clear();
  accounts_.clear();
  node_numbers_.clear();
  users_.clear();
  groups_.clear();
  jobs_.clear();
  payers_.clear();
  for (auto& [name, node] : nodes_)
    for (auto& [flow, held] : node.held) place(name, held);
  payers_after_renumber_ = payers_.size();
  stale_ = false;
}

/// When a job could start changes while it waits.
void Sharing::order_payers() {
  for (const auto& [who, number] : payers_) {
    const auto job_id = std::get<3>(who);
    problem_.payers[number].order = job_id != 0 ? order_(job_id) : 0;
  }
}

void Sharing::report(const std::string& name, std::uint64_t seen, const std::vector<IoDemand>& demands,
                     SteadyTime now) {
  auto& node = nodes_[name];
  node.gone = SteadyTime::max();
  const bool confirmed = seen == node.sent;
  std::map<IoFlow, Held> held;
  bool newcomer = false;
  for (const auto& demand : demands) {
    auto was = node.held.extract(demand.flow);
    const bool fresh = was.empty();
    auto& now_held = held[demand.flow];
    if (!fresh) now_held = std::move(was.mapped());
    now_held.demand = demand;
    if (fresh) place(name, now_held);
    if (confirmed) now_held.in_force = now_held.sent;
    newcomer = newcomer || (!now_held.known && demand.waiting != 0);
  }
  node.held = std::move(held);
  if (payers_.size() > 2 * payers_after_renumber_ + kGrown) renumber();
  if (demands.empty()) return;
  due_ = std::min(due_, newcomer ? std::max(now, divided_ + kLeastPause) : std::max(now, divided_ + kPeriod));
}

void Sharing::lost(const std::string& name, SteadyTime now) {
  const auto it = nodes_.find(name);
  if (it == nodes_.end() || it->second.gone != SteadyTime::max()) return;
  it->second.gone = now + kHolds;
  for (auto& [flow, held] : it->second.held) held.demand = {flow, {}, {}, {}, 0, held.demand.cap};
}

std::map<std::string, Sharing::Message> Sharing::divide(SteadyTime now) {
  std::vector<Held*> flows;
  if (stale_) renumber();
  order_payers();
  problem_.flows.clear();
  for (auto& job : problem_.jobs) job.rate = kUnlimited;
  std::vector<IoRate> in_force;
  std::erase_if(nodes_, [now](const auto& one) { return one.second.gone <= now; });
  for (auto& [name, node] : nodes_) {
    const bool arrived = node.gone == SteadyTime::max() && node.sent_at + kArrived <= now;
    for (auto& [flow, held] : node.held) {
      if (arrived) held.in_force = held.sent;
      if (held.job != ShareProblem::kNone)
        problem_.jobs[held.job].rate = least(problem_.jobs[held.job].rate, held.demand.cap);
      problem_.flows.push_back({held.origin, node.number, held.payer, held.demand.foreground, held.demand.warm});
      in_force.push_back(held.in_force);
      flows.push_back(&held);
    }
  }
  divided_ = now;
  due_ = flows.empty() ? SteadyTime::max() : now + kPeriod;
  const auto target = atlas::divide(problem_);
  const auto shares = within_what_is_back(problem_, in_force, target);
  std::map<std::string, Message> out;
  std::size_t at = 0;
  for (auto& [name, node] : nodes_) {
    if (node.held.empty()) continue;
    if (node.gone != SteadyTime::max()) {
      at += node.held.size();
      continue;
    }
    Message& message = out[name];
    message.number = ++node.sent;
    node.sent_at = now;
    for (auto& [flow, held] : node.held) {
      const IoRate& share = shares[at];
      const IoRate& wanted = target[at++];
      held.in_force = most(held.in_force, share);
      held.sent = share;
      held.known = true;
      message.shares.push_back({flow, share});
      if (share.bytes < wanted.bytes * kNear || share.operations < wanted.operations * kNear) due_ = now + kArrived;
    }
  }
  return out;
}

std::vector<Sharing::NodeUse> Sharing::uses_of(const IoBudget& budget) const {
  std::vector<NodeUse> out;
  for (const auto& [name, node] : nodes_)
    for (const auto& [flow, held] : node.held)
      if (node.gone == SteadyTime::max() && applies(budget, name, flow))
        out.push_back({name, flow, {held.sent, held.demand.used, held.demand.waiting}});
  return out;
}

Sharing::Use Sharing::use_of(const IoBudget& budget) const {
  return uses({budget}).front();
}

std::vector<Sharing::Use> Sharing::uses(const std::vector<IoBudget>& budgets) const {
  std::map<std::pair<LimitKind, std::string_view>, Use*> by_name;
  std::map<std::pair<LimitKind, std::uint32_t>, Use*> by_id;
  std::vector<Use> out(budgets.size());
  for (std::size_t i = 0; i < budgets.size(); ++i) {
    const auto& budget = budgets[i];
    if (budget.kind == LimitKind::user || budget.kind == LimitKind::group) {
      by_id[{budget.kind, budget.id}] = &out[i];
    } else {
      by_name[{budget.kind, budget.name}] = &out[i];
    }
  }
  const auto found = [](const auto& uses, const auto& key) {
    const auto at = uses.find(key);
    return at == uses.end() ? nullptr : at->second;
  };
  for (const auto& [name, node] : nodes_) {
    if (node.gone != SteadyTime::max()) continue;
    auto* const of_node = found(by_name, std::pair(LimitKind::node, std::string_view(name)));
    for (const auto& [flow, held] : node.held) {
      const std::array of{of_node, found(by_id, std::pair(LimitKind::user, flow.uid)),
                          found(by_id, std::pair(LimitKind::group, flow.gid)),
                          found(by_name, std::pair(LimitKind::account, std::string_view(flow.account))),
                          found(by_name, std::pair(LimitKind::origin, std::string_view(flow.origin)))};
      for (auto* use : of) {
        if (use == nullptr) continue;
        use->share.bytes += held.sent.bytes;
        use->share.operations += held.sent.operations;
        use->used.bytes += held.demand.used.bytes;
        use->used.operations += held.demand.used.operations;
        use->waiting += held.demand.waiting;
      }
    }
  }
  return out;
}

}  // namespace atlas
