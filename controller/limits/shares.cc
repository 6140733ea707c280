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

/// Sums that do not wait for each other: one sum alone takes as long as all its additions in turn.
constexpr std::size_t kSums = 4;
using Sums = std::array<double, kSums>;
double total(const Sums& sums) {
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

double sum_of(const double* amounts, std::size_t count) {
  Sums sums{};
  std::size_t i = 0;
  for (; i + kSums <= count; i += kSums)
    for (std::size_t k = 0; k < kSums; ++k) sums[k] += amounts[i + k];
  for (; i < count; ++i) sums[0] += amounts[i];
  return total(sums);
}

/// fill() for equals: the most that each of them gets.
double level_of(const double* want, std::size_t count, double amount) {
  if (amount <= 0) return 0;
  double level = amount / static_cast<double>(count);
  for (unsigned round = 0; round < kMostRounds; ++round) {
    Sums contents{}, opens{};
    const auto look = [&](std::size_t i, std::size_t k) {
      const bool all = want[i] <= level;
      contents[k] += all ? want[i] : 0;
      opens[k] += all ? 0 : 1;
    };
    std::size_t i = 0;
    for (; i + kSums <= count; i += kSums)
      for (std::size_t k = 0; k < kSums; ++k) look(i + k, k);
    for (; i < count; ++i) look(i, 0);
    const double open = total(opens);
    if (open == 0) break;
    const double next = (amount - total(contents)) / open;
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
  };
  /// A flow on a node that has a limit.
  struct OnNode {
    std::uint32_t flow = 0;
    double weight = 0;
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
    const bool nodes = bytes_.limited(Resource::node) || operations_.limited(Resource::node);
    on_node_.resize(nodes ? problem_.nodes.size() : 0);
    for (std::uint32_t i = 0; i < flows_.size(); ++i) {
      const auto& flow = problem_.flows[i];
      const std::uint32_t at = count[place(flow)]++;
      flows_[at] = {flow.foreground, flow.warm, i};
      if (!nodes) continue;
      const auto& rate = problem_.nodes[flow.node].rate;
      if (!is_unlimited(rate.bytes) || !is_unlimited(rate.operations))
        on_node_[flow.node].push_back({at, weight_of_user(problem_.payers[flow.payer].user)});
    }
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

  // Flows are gone through lane by lane, with all that is to be done for a lane in turn: what there is of one fits the
  // processor's nearest cache, what there is of all does not fit any.

  /// Gives what is left to what is wanted, first operations, then the bytes that so many operations bring.
  void give(IoRate Flow::*wanted, Order order, double part) {
    if (bytes_.spent()) return;
    const bool operations = operations_.limited();
    const bool rest = wanted == &Flow::warm && part == 1;  // of what a warm-up has got a part of
    for (const auto& lane : lanes_) find_wants(lane, wanted, rest);
    if (operations) {
      pour(operations_, want_operations_, order, part);
      for (const auto& lane : lanes_) {
        spread(lane, want_operations_, got_operations_);
        scale(lane, want_, got_operations_, want_operations_);
      }
    }
    pour(bytes_, want_, order, part);
    for (const auto& lane : lanes_) {
      spread(lane, want_, got_);
      take(bytes_, lane, got_);
      add(lane, &IoRate::bytes, got_);
      if (!operations) continue;
      scale(lane, got_operations_, got_, want_);  // those for which there are no bytes are another's
      take(operations_, lane, got_operations_);
      add(lane, &IoRate::operations, got_operations_);
    }
    take_on_nodes(bytes_, got_);
    if (operations) take_on_nodes(operations_, got_operations_);
  }

  void find_wants(const Lane& lane, IoRate Flow::*wanted, bool rest) {
    double* const want = want_.data();
    double* const want_operations = want_operations_.data();
    for (auto at = lane.begin; at < lane.end; ++at) {
      const IoRate& rate = flows_[at].*wanted;
      want[at] = std::max(0.0, rate.bytes - (rest ? floor_[at].bytes : 0));
      want_operations[at] = std::max(0.0, rate.operations - (rest ? floor_[at].operations : 0));
    }
  }

  /// Makes an amount as much less as another got less than it wanted.
  static void scale(const Lane& lane, std::vector<double>& amount, const std::vector<double>& got,
                    const std::vector<double>& want) {
    double* const amounts = amount.data();
    const double* const gots = got.data();
    const double* const wants = want.data();
    // Without a branch, which would go either way for each.
    for (auto at = lane.begin; at < lane.end; ++at) {
      const double ratio = gots[at] / wants[at];
      amounts[at] *= gots[at] < wants[at] ? ratio : 1;
    }
  }

  void add(const Lane& lane, double IoRate::*which, const std::vector<double>& got) {
    for (auto at = lane.begin; at < lane.end; ++at) shares_[at].*which += got[at];
  }

  /// What nobody wants goes to all that want anything, so that nobody who wants more a moment later has to ask first.
  void lend() {
    for (auto* resource : {&bytes_, &operations_}) {
      const auto which = resource == &bytes_ ? &IoRate::bytes : &IoRate::operations;
      if (resource->limited()) {
        if (resource->spent()) continue;
        std::fill(want_.begin(), want_.end(), kNoRate);
        pour(*resource, want_, Order::fair, 1);
        for (const auto& lane : lanes_) {
          spread(lane, want_, got_);
          add(lane, which, got_);
        }
      } else {
        for (auto& share : shares_) share.*which = kNoRate;
      }
    }
  }

  /// What each lane gets of what its flows want, within what is left of every budget.
  void pour(Resource& resource, std::vector<double>& want, Order order, double part) {
    if (resource.limited(Resource::node)) bound_nodes(resource, want);
    for (auto& lane : lanes_) lane.want = lane.all = sum_of(&want[lane.begin], lane.end - lane.begin);
    for (const auto kind : {Resource::job, Resource::user, Resource::group, Resource::account}) {
      if (!resource.limited(kind)) continue;
      for (std::size_t i = 0; i < of_[kind].size(); ++i)
        if (!is_unlimited(resource.left_[kind][i]) && !of_[kind][i].empty())
          share_lanes(of_[kind][i], resource.left_[kind][i], order, &Lane::want, false);
    }
    for (std::size_t i = 0; i < of_[Resource::origin].size(); ++i)
      share_lanes(of_[Resource::origin][i], resource.left_[Resource::origin][i] * part, order, &Lane::got, true);
  }

  void bound_nodes(const Resource& resource, std::vector<double>& want) {
    for (std::size_t node = 0; node < on_node_.size(); ++node) {
      const double left = resource.left_[Resource::node][node];
      if (on_node_[node].empty() || is_unlimited(left)) continue;
      parts_.clear();
      for (const auto& [flow, weight] : on_node_[node]) parts_.push_back({want[flow], weight, 0});
      fill(parts_.data(), parts_.size(), left);
      for (std::size_t k = 0; k < parts_.size(); ++k) want[on_node_[node][k].flow] = parts_[k].got;
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

  static void lessen(double& left, double by) { left = std::max(0.0, left - by); }

  void take(Resource& resource, const Lane& lane, const std::vector<double>& got) const {
    const double sum = sum_of(&got[lane.begin], lane.end - lane.begin);
    const auto& who = payer(lane);
    lessen(resource.left_[Resource::origin][lane.origin], sum);
    if (who.account != kNone) lessen(resource.left_[Resource::account][who.account], sum);
    if (who.group != kNone) lessen(resource.left_[Resource::group][who.group], sum);
    lessen(resource.left_[Resource::user][who.user], sum);
    if (who.job != kNone) lessen(resource.left_[Resource::job][who.job], sum);
  }

  void take_on_nodes(Resource& resource, const std::vector<double>& got) const {
    if (!resource.limited(Resource::node)) return;
    for (std::size_t node = 0; node < on_node_.size(); ++node)
      for (const auto& [flow, weight] : on_node_[node]) lessen(resource.left_[Resource::node][node], got[flow]);
  }

  const Problem& problem_;
  Resource bytes_, operations_;
  std::vector<Lane> lanes_;
  std::vector<Flow> flows_;                   ///< by lane
  std::vector<std::vector<OnNode>> on_node_;  ///< by node
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

std::vector<IoRate> divide(const ShareProblem& problem) {
  if (problem.flows.empty()) return {};
  return Division(problem).run();
}

}  // namespace atlas
