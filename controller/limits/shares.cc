#include "controller/limits/shares.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

namespace atlas {
namespace {

using Problem = ShareProblem;
constexpr auto kNone = Problem::kNone;
/// Warm-ups are never starved: the jobs they are for would wait for ever.
constexpr double kWarmFloor = 0.05;
/// Less than this per second is not worth another pass.
constexpr double kCrumb = 1e-3;
/// The level rises towards the right one in each round; almost always it is there after three.
constexpr unsigned kMostRounds = 24;

enum class Order { fair, first_come };

/// fill() for equals: the most that each of them gets.
double level_of(const double* want, std::size_t count, double amount) {
  if (amount <= 0) return 0;
  double level = amount / static_cast<double>(count);
  for (unsigned round = 0; round < kMostRounds; ++round) {
    double content = 0, open = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const bool all = want[i] <= level;
      content += all ? want[i] : 0;
      open += all ? 0 : 1;
    }
    if (open == 0) break;
    const double next = (amount - content) / open;
    if (next <= level * (1 + 1e-12)) break;
    level = next;
  }
  return level;
}

/// One resource, bytes or operations, in one division. What is left of the budgets goes down as it is given.
class Resource {
 public:
  Resource(const Problem& problem, double IoRate::*which) : problem_(problem), which_(which) {
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
      for (const auto& budget : budgets(kind)) {
        left_[kind].push_back(budget.rate.*which);
        limited_[kind] = limited_[kind] || !is_unlimited(budget.rate.*which);
      }
    }
  }
  [[nodiscard]] bool limited() const {
    return std::any_of(limited_.begin(), limited_.end(), [](bool is) { return is; });
  }
  enum Kind : std::size_t { origin, node, account, group, user, job, kKinds };
  [[nodiscard]] bool limited(std::size_t kind) const { return limited_[kind]; }
  /// Nothing is left of any origin.
  [[nodiscard]] bool spent() const {
    return std::all_of(left_[origin].begin(), left_[origin].end(), [](double left) { return left < kCrumb; });
  }
  std::array<std::vector<double>, kKinds> left_;

 private:
  [[nodiscard]] const std::vector<Problem::Budget>& budgets(std::size_t kind) const {
    switch (kind) {
      case origin:
        return problem_.origins;
      case node:
        return problem_.nodes;
      case account:
        return problem_.accounts;
      case group:
        return problem_.groups;
      case user:
        return problem_.users;
      default:
        return problem_.jobs;
    }
  }
  const Problem& problem_;
  double IoRate::*which_;
  std::array<bool, kKinds> limited_{};
};

/// A division. A *lane* is one payer at one origin: its flows are its nodes. All that is hierarchical is done on lanes,
/// of which there are few; flows are only gone through, lane by lane: everything about them is in that order.
class Division {
 public:
  explicit Division(const Problem& problem)
      : problem_(problem), bytes_(problem, &IoRate::bytes), operations_(problem, &IoRate::operations) {
    sort_flows();
    group_lanes();
    for (auto* list : {&want_, &want_operations_, &got_, &got_operations_}) list->resize(problem.flows.size());
    shares_.resize(problem.flows.size());
  }

  std::vector<IoRate> run() {
    const bool warm = std::any_of(problem_.flows.begin(), problem_.flows.end(),
                                  [](const auto& flow) { return flow.warm.bytes > 0 || flow.warm.operations > 0; });
    if (warm) {
      give(&Flow::warm, Order::first_come, kWarmFloor);
      floor_ = shares_;
    }
    give(&Flow::foreground, Order::fair, 1);
    if (warm) give(&Flow::warm, Order::first_come, 1);
    lend();
    std::vector<IoRate> out(shares_.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[flows_[i].from] = shares_[i];
    return out;
  }

 private:
  struct Lane {
    std::uint32_t payer = 0, origin = 0;
    std::uint32_t begin = 0, end = 0;   ///< of flows_
    double all = 0, want = 0, got = 0;  ///< of its flows; as far as its budgets go; what it gets
  };
  struct Flow {
    IoRate foreground, warm;
    std::uint32_t from = 0;  ///< place in the problem
    std::uint32_t node = 0;
  };
  using LaneList = std::vector<std::uint32_t>;  ///< where lanes: those of one user are neighbours

  [[nodiscard]] const Problem::Payer& payer(const Lane& lane) const { return problem_.payers[lane.payer]; }

  void sort_flows() {
    const std::size_t origins = problem_.origins.size();
    std::vector<std::uint32_t> count(problem_.payers.size() * origins + 1);
    const auto place = [&](const Problem::Flow& flow) { return flow.payer * origins + flow.origin; };
    for (const auto& flow : problem_.flows) ++count[place(flow) + 1];
    for (std::size_t at = 0; at + 1 < count.size(); ++at) {
      if (count[at + 1] != 0)
        lanes_.push_back({static_cast<std::uint32_t>(at / origins), static_cast<std::uint32_t>(at % origins), count[at],
                          count[at] + count[at + 1], 0, 0, 0});
      count[at + 1] += count[at];
    }
    flows_.resize(problem_.flows.size());
    for (std::uint32_t i = 0; i < flows_.size(); ++i) {
      const auto& flow = problem_.flows[i];
      flows_[count[place(flow)]++] = {flow.foreground, flow.warm, i, flow.node};
    }
    on_node_.resize(problem_.nodes.size());
    for (std::uint32_t i = 0; i < flows_.size(); ++i) {
      const auto& rate = problem_.nodes[flows_[i].node].rate;
      if (!is_unlimited(rate.bytes) || !is_unlimited(rate.operations)) on_node_[flows_[i].node].push_back(i);
    }
    user_of_.resize(flows_.size());
    for (const auto& lane : lanes_)
      std::fill(user_of_.begin() + lane.begin, user_of_.begin() + lane.end, payer(lane).user);
  }

  void group_lanes() {
    LaneList all(lanes_.size());
    for (std::uint32_t i = 0; i < all.size(); ++i) all[i] = i;
    std::stable_sort(all.begin(), all.end(), [&](auto a, auto b) {
      const auto& x = payer(lanes_[a]);
      const auto& y = payer(lanes_[b]);
      return std::tie(x.user, x.order) < std::tie(y.user, y.order);
    });
    of_[Resource::origin].resize(problem_.origins.size());
    of_[Resource::account].resize(problem_.accounts.size());
    of_[Resource::group].resize(problem_.groups.size());
    of_[Resource::user].resize(problem_.users.size());
    of_[Resource::job].resize(problem_.jobs.size());
    for (const auto at : all) {
      const auto& who = payer(lanes_[at]);
      of_[Resource::origin][lanes_[at].origin].push_back(at);
      if (who.account != kNone) of_[Resource::account][who.account].push_back(at);
      if (who.group != kNone) of_[Resource::group][who.group].push_back(at);
      of_[Resource::user][who.user].push_back(at);
      if (who.job != kNone) of_[Resource::job][who.job].push_back(at);
    }
  }

  [[nodiscard]] double weight_of_user(std::uint32_t user) const {
    const double weight = problem_.users[user].weight;
    return weight > 0 ? weight : 1;
  }

  /// Gives what is left to what is wanted, first operations, then the bytes that so many operations bring.
  void give(IoRate Flow::*wanted, Order order, double part) {
    if (bytes_.spent()) return;
    const auto& flows = flows_;
    const bool operations = operations_.limited();
    const bool rest = wanted == &Flow::warm && part == 1;  // of what a warm-up has got a part of
    for (std::size_t i = 0; i < flows.size(); ++i) {
      want_[i] = std::max(0.0, (flows[i].*wanted).bytes - (rest ? floor_[i].bytes : 0));
      want_operations_[i] = std::max(0.0, (flows[i].*wanted).operations - (rest ? floor_[i].operations : 0));
    }
    if (operations) {
      pour(operations_, want_operations_, got_operations_, order, part);
      for (std::size_t i = 0; i < flows.size(); ++i)
        if (got_operations_[i] < want_operations_[i]) want_[i] *= got_operations_[i] / want_operations_[i];
    }
    pour(bytes_, want_, got_, order, part);
    take(bytes_, got_);
    if (operations) {
      for (std::size_t i = 0; i < flows.size(); ++i)  // those for which there are no bytes are another's
        if (got_[i] < want_[i]) got_operations_[i] *= got_[i] / want_[i];
      take(operations_, got_operations_);
    }
    for (std::size_t i = 0; i < flows.size(); ++i) {
      shares_[i].bytes += got_[i];
      if (operations) shares_[i].operations += got_operations_[i];
    }
  }

  /// What nobody wants goes to all that want anything, so that nobody who wants more a moment later has to ask first.
  void lend() {
    for (auto* resource : {&bytes_, &operations_}) {
      const auto which = resource == &bytes_ ? &IoRate::bytes : &IoRate::operations;
      if (resource->limited()) {
        if (resource->spent()) continue;
        std::fill(want_.begin(), want_.end(), kNoRate);
        pour(*resource, want_, got_, Order::fair, 1);
        for (std::size_t i = 0; i < want_.size(); ++i) shares_[i].*which += got_[i];
      } else {
        for (auto& share : shares_) share.*which = kNoRate;
      }
    }
  }

  /// Wants into gots, within what is left of every budget.
  void pour(Resource& resource, std::vector<double>& want, std::vector<double>& got, Order order, double part) {
    if (resource.limited(Resource::node)) bound_nodes(resource, want);
    for (auto& lane : lanes_) {
      lane.all = 0;
      for (auto at = lane.begin; at < lane.end; ++at) lane.all += want[at];
      lane.want = lane.all;
    }
    for (const auto kind : {Resource::job, Resource::user, Resource::group, Resource::account}) {
      if (!resource.limited(kind)) continue;
      for (std::size_t i = 0; i < of_[kind].size(); ++i)
        if (!is_unlimited(resource.left_[kind][i]) && !of_[kind][i].empty())
          share_lanes(of_[kind][i], resource.left_[kind][i], order, &Lane::want, false);
    }
    for (std::size_t i = 0; i < of_[Resource::origin].size(); ++i)
      share_lanes(of_[Resource::origin][i], resource.left_[Resource::origin][i] * part, order, &Lane::got, true);
    for (const auto& lane : lanes_) spread(lane, want, got);
  }

  void bound_nodes(const Resource& resource, std::vector<double>& want) {
    for (std::size_t node = 0; node < on_node_.size(); ++node) {
      const double left = resource.left_[Resource::node][node];
      if (on_node_[node].empty() || is_unlimited(left)) continue;
      parts_.clear();
      for (const auto at : on_node_[node]) parts_.push_back({want[at], weight_of_user(user_of_[at]), 0});
      fill(parts_.data(), parts_.size(), left);
      for (std::size_t k = 0; k < parts_.size(); ++k) want[on_node_[node][k]] = parts_[k].got;
    }
  }

  /// A run of lanes that share as one: a user's, or those of all users of an account or a group with a weight.
  struct Party {
    std::size_t begin = 0, end = 0;  ///< of the list
    double weight = 1;
    bool whole = false;  ///< of several users
  };

  /// Shares an amount among lanes, by users; `into`: what they get, or what they may want at most.
  void share_lanes(const LaneList& lanes, double amount, Order order, double Lane::*into, bool parties) {
    LaneList list = lanes;
    std::vector<SharePart> parts;
    std::vector<Party> shares;
    const auto scope = [&](std::uint32_t at) -> std::tuple<int, std::uint32_t> {
      const auto& who = payer(lanes_[at]);
      if (parties && who.account != kNone && problem_.accounts[who.account].weight > 0) return {0, who.account};
      if (parties && who.group != kNone && problem_.groups[who.group].weight > 0) return {1, who.group};
      return {2, who.user};
    };
    if (parties) std::stable_sort(list.begin(), list.end(), [&](auto a, auto b) { return scope(a) < scope(b); });
    for (std::size_t at = 0; at < list.size();) {
      const auto [kind, whose] = scope(list[at]);
      Party party{at, at, kind == 2 ? weight_of_user(whose) : 1, kind != 2};
      if (kind == 0) party.weight = problem_.accounts[whose].weight;
      if (kind == 1) party.weight = problem_.groups[whose].weight;
      double want = 0;
      for (; party.end < list.size() && scope(list[party.end]) == std::tuple(kind, whose); ++party.end)
        want += lanes_[list[party.end]].want;
      parts.push_back({want, party.weight, 0});
      shares.push_back(party);
      at = party.end;
    }
    fill(parts.data(), parts.size(), amount);
    for (std::size_t i = 0; i < shares.size(); ++i) {
      const LaneList own(list.begin() + static_cast<std::ptrdiff_t>(shares[i].begin),
                         list.begin() + static_cast<std::ptrdiff_t>(shares[i].end));
      if (shares[i].whole) {
        share_lanes(own, parts[i].got, order, into, false);
      } else {
        share_jobs(own, parts[i].got, order, into);
      }
    }
  }

  void share_jobs(const LaneList& lanes, double amount, Order order, double Lane::*into) {
    if (order == Order::first_come) {
      for (const auto at : lanes) {
        const double got = std::min(lanes_[at].want, std::max(0.0, amount));
        lanes_[at].*into = got;
        amount -= got;
      }
      return;
    }
    parts_.clear();
    for (const auto at : lanes) parts_.push_back({lanes_[at].want, 1, 0});
    fill(parts_.data(), parts_.size(), amount);
    for (std::size_t i = 0; i < lanes.size(); ++i) lanes_[lanes[i]].*into = parts_[i].got;
  }

  /// A lane's amount among its nodes.
  void spread(const Lane& lane, const std::vector<double>& want, std::vector<double>& got) {
    if (lane.got >= lane.all)
      return void(std::copy(&want[lane.begin], &want[lane.begin] + (lane.end - lane.begin), &got[lane.begin]));
    const double level = level_of(&want[lane.begin], lane.end - lane.begin, lane.got);
    for (auto at = lane.begin; at < lane.end; ++at) got[at] = std::min(want[at], level);
  }

  void take(Resource& resource, const std::vector<double>& got) {
    const auto less = [](double& left, double by) { left = std::max(0.0, left - by); };
    for (const auto& lane : lanes_) {
      double sum = 0;
      for (auto at = lane.begin; at < lane.end; ++at) sum += got[at];
      const auto& who = payer(lane);
      less(resource.left_[Resource::origin][lane.origin], sum);
      if (who.account != kNone) less(resource.left_[Resource::account][who.account], sum);
      if (who.group != kNone) less(resource.left_[Resource::group][who.group], sum);
      less(resource.left_[Resource::user][who.user], sum);
      if (who.job != kNone) less(resource.left_[Resource::job][who.job], sum);
    }
    if (!resource.limited(Resource::node)) return;
    for (std::size_t node = 0; node < on_node_.size(); ++node)
      for (const auto at : on_node_[node]) less(resource.left_[Resource::node][node], got[at]);
  }

  const Problem& problem_;
  Resource bytes_, operations_;
  std::vector<Lane> lanes_;
  std::vector<Flow> flows_;             ///< by lane
  std::vector<std::uint32_t> user_of_;  ///< by flow
  std::vector<LaneList> on_node_;       ///< flows of the nodes that have a limit
  std::array<std::vector<LaneList>, Resource::kKinds> of_;
  std::vector<double> want_, want_operations_, got_, got_operations_;
  std::vector<IoRate> shares_, floor_;
  std::vector<SharePart> parts_;  ///< scratch
};

}  // namespace

void fill(SharePart* parts, std::size_t count, double amount) {
  const auto end = parts + count;
  double wanted = 0, weights = 0;
  for (auto* part = parts; part != end; ++part) {
    wanted += part->want;
    if (part->want > 0) weights += part->weight;
  }
  if (wanted <= amount) {
    for (auto* part = parts; part != end; ++part) part->got = part->want;
    return;
  }
  double level = amount > 0 && weights > 0 ? amount / weights : 0;
  for (unsigned round = 0; level > 0 && round < kMostRounds; ++round) {
    double content = 0, open = 0;  // who gets all he wants at this level, and the others
    for (auto* part = parts; part != end; ++part) {
      if (part->want <= level * part->weight) {
        content += part->want;
      } else {
        open += part->weight;
      }
    }
    if (open == 0) break;
    const double next = (amount - content) / open;
    if (next <= level * (1 + 1e-12)) break;
    level = next;
  }
  for (auto* part = parts; part != end; ++part) part->got = std::min(part->want, level * part->weight);
}

namespace {

/// One resource of within_what_is_back().
void step(const Problem& problem, double IoRate::*which, const std::vector<IoRate>& in_force,
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
  for (std::size_t kind = 0; kind < lists.size(); ++kind)
    for (const auto& budget : *lists[kind]) scopes[kind].push_back({budget.rate.*which, 0});
  const auto places = [&](const Problem::Flow& flow) {
    const auto& who = problem.payers[flow.payer];
    return std::array{flow.origin, flow.node, who.account, who.group, who.user, who.job};
  };
  const auto more = [&](std::size_t i) { return std::max(0.0, target[i].*which - in_force[i].*which); };
  for (std::size_t i = 0; i < target.size(); ++i) {
    const auto at = places(problem.flows[i]);
    for (std::size_t kind = 0; kind < at.size(); ++kind) {
      if (at[kind] == kNone) continue;
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
    for (std::size_t kind = 0; kind < at.size(); ++kind)
      if (at[kind] != kNone) part = std::min(part, scopes[kind][at[kind]].part());
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

std::vector<IoRate> divide(const ShareProblem& problem) {
  if (problem.flows.empty()) return {};
  return Division(problem).run();
}

}  // namespace atlas
