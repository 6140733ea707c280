#include "controller/placement/placement.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <unordered_set>

#include "controller/placement/cost.h"
#include "controller/placement/scored.h"
#include "controller/placement/switches.h"

namespace atlas {
namespace {

using placement::contains;
using placement::list_of;
using placement::Scored;

class Placer {
 public:
  Placer(const ClusterSnapshot& cluster, const PlacementRequest& request) : cluster_(cluster), request_(request) {
    for (const auto& dataset : request.datasets) {
      if (dataset.size) {
        total_ += *dataset.size;
      } else {
        size_known_ = false;
      }
    }
    wanted_ = std::max<std::uint32_t>(request.nodes, static_cast<std::uint32_t>(request.required.size()));
    wanted_ = std::max<std::uint32_t>(wanted_, 1);
    need_ = std::max<std::uint32_t>(1, (request.cpus + wanted_ - 1) / wanted_);
    if (request.partition_places) return;
    partition_.reserve(request.partition_nodes.size());
    partition_.insert(request.partition_nodes.begin(), request.partition_nodes.end());
  }

  Decision decide() {
    weigh();
    Decision decision = by_cost_ ? std::move(*by_cost_) : choose();
    const auto runnable = std::count_if(nodes_.begin(), nodes_.end(), [](const Scored& n) { return n.runnable(); });
    const auto holders = std::count_if(nodes_.begin(), nodes_.end(), [](const Scored& n) { return n.holder(); });
    decision.nowhere = runnable == 0;
    decision.all_hold = runnable > 0 && runnable == holders;
    if (!request_.explain) return decision;
    decision.candidates.reserve(nodes_.size());
    if (decision.alternatives.empty()) {
      for (const auto& node : nodes_) decision.candidates.push_back(candidate(node, decision));
    } else {
      for (const auto* node : by_cost(decision.nodes)) decision.candidates.push_back(candidate(*node, decision));
    }
    return decision;
  }

  [[nodiscard]] bool all_hold() const {
    bool any = false;
    for (const auto& view : cluster_.nodes) {
      const auto node = score(view);
      if (!node.runnable()) continue;
      if (!node.holder()) return false;
      any = true;
    }
    return any;
  }

 private:
  void weigh() {
    nodes_.reserve(cluster_.nodes.size());
    for (const auto& node : cluster_.nodes) nodes_.push_back(score(node));
    mark_crowded();
    by_cost_ = choose_by_cost();
    if (by_cost_) return;
    rank();
    if (request_.tasks > 1 && request_.required.empty()) wanted_ = std::max(wanted_, nodes_for_tasks());
  }

  Scored score(const NodeView& view) const {
    Scored node;
    node.view = &view;
    node.required = contains(request_.required, view.name);
    const auto place = static_cast<std::size_t>(&view - cluster_.nodes.data());
    if (cluster_.switches && place < cluster_.switches->size()) node.switches = &(*cluster_.switches)[place];
    node.complete = !request_.datasets.empty();
    for (const auto& dataset : request_.datasets) {
      const auto at = view.holdings.find(dataset.id);
      if (at == view.holdings.end()) {
        node.complete = false;
        continue;
      }
      node.resident += dataset.size ? std::min(at->second.resident, *dataset.size) : at->second.resident;
      node.complete = node.complete && at->second.complete;
      node.warming = node.warming || at->second.warming;
    }
    const auto taken = view.cpus_busy + view.cpus_promised;
    const auto free_cpus = view.cpus > taken ? view.cpus - taken : 0;
    node.free_now = request_.exclusive ? taken == 0 : free_cpus >= need_;
    node.refused = why_refused(view);
    node.not_cached = why_not_cached(view, node);
    return node;
  }

  [[nodiscard]] bool in_partition(const NodeView& view) const {
    if (!request_.partition_places) return partition_.empty() || partition_.contains(view.name);
    const auto place = static_cast<std::size_t>(&view - cluster_.nodes.data());
    return place < request_.partition_places->size() && (*request_.partition_places)[place] != 0;
  }

  [[nodiscard]] std::string why_refused(const NodeView& view) const {
    if (!in_partition(view)) return request_.explain ? "not in partition " + request_.partition : "elsewhere";
    if (contains(request_.excluded, view.name)) return "excluded by the job";
    if (request_.required.size() >= wanted_ && !contains(request_.required, view.name))
      return "not in the job's node list";
    if (!view.usable) return view.state.empty() ? "not usable" : view.state;
    if (view.cpus < need_ && !request_.explain) return "too small";
    if (view.cpus < need_)
      return "has " + std::to_string(view.cpus) + " CPUs, the job needs " + std::to_string(need_) + " per node";
    return {};
  }

  [[nodiscard]] std::string why_not_cached(const NodeView& view, const Scored& node) const {
    if (!view.cache) return "no cache agent in service";
    if (const auto at = request_.failed.find(view.name); at != request_.failed.end()) return at->second;
    if (node.complete) return {};
    const auto missing = missing_on(node);
    if (view.room < missing && (!divides() || view.room < missing_of_share(node))) {
      if (!request_.explain) return "no room";
      return "room for " + format_size(view.room) + ", " + format_size(missing) + " needed";
    }
    return {};
  }

  [[nodiscard]] Bytes missing_on(const Scored& node) const {
    const Bytes want = request_.cache ? *request_.cache : total_;
    return want > node.resident ? want - node.resident : Bytes{};
  }

  /// What does not fit one node the job's nodes divide.
  [[nodiscard]] bool divides() const { return request_.divide && wanted_ > 1 && request_.tasks <= 1 && size_known_; }

  /// One of them gets no more than its part and one file, or a chunk of a large one; and there is more than data in a
  /// cache.
  [[nodiscard]] Bytes share() const {
    constexpr std::uint64_t kOver = 20;
    const Bytes part{total_.count / wanted_};
    return Bytes{part.count + part.count / kOver};
  }

  [[nodiscard]] Bytes missing_of_share(const Scored& node) const {
    const Bytes want = request_.cache ? std::min(*request_.cache, share()) : share();
    return want > node.resident ? want - node.resident : Bytes{};
  }

  /// As many jobs wait for the node as it can run at once: another one had better be warmed elsewhere, if elsewhere is
  /// idle.
  void mark_crowded() {
    const bool alternative = std::any_of(nodes_.begin(), nodes_.end(),
                                         [](const Scored& n) { return n.cacheable() && n.free_now && !n.complete; });
    if (!alternative) return;
    for (auto& node : nodes_) node.crowded = !node.free_now && node.view->cpus_promised >= node.view->cpus;
  }

  void rank() {
    const auto key = [](const Scored& n) {
      return std::tuple(!n.required, n.crowded, !n.complete, -static_cast<double>(n.resident.count), !n.warming,
                        !n.free_now, -static_cast<double>(n.view->room.count), n.load(),
                        std::string_view(n.view->name));
    };
    std::stable_sort(nodes_.begin(), nodes_.end(), [&](const Scored& a, const Scored& b) { return key(a) < key(b); });
  }

  /// By the cost model, where one is given and everything it needs is known.
  [[nodiscard]] std::optional<Decision> choose_by_cost() {
    if (!cluster_.cost || request_.tasks > 1 || !size_known_) return std::nullopt;
    if (!request_.datasets.empty() && too_large()) return std::nullopt;
    // --locality F@TIME: the user has said himself what is worth waiting for, and how long.
    if (request_.may_wait && request_.locality && request_.locality->max_wait.count() > 0 &&
        request_.warm != WarmMode::wait)
      return std::nullopt;
    return placement::cheapest(*cluster_.cost, request_, wanted_, need_, nodes_);
  }

  /// What is chosen first, then by what it would cost.
  [[nodiscard]] std::vector<const Scored*> by_cost(const std::vector<std::string>& chosen) const {
    const std::unordered_set<std::string_view> first(chosen.begin(), chosen.end());
    std::vector<std::tuple<bool, bool, double, const Scored*>> order;
    order.reserve(nodes_.size());
    for (const auto& node : nodes_)
      order.emplace_back(!first.contains(node.view->name), !node.runnable(), node.start + node.transfer, &node);
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      const auto key = [](const auto& x) { return std::tie(std::get<0>(x), std::get<1>(x), std::get<2>(x)); };
      return key(a) != key(b) ? key(a) < key(b) : std::get<3>(a)->view->name < std::get<3>(b)->view->name;
    });
    std::vector<const Scored*> sorted;
    sorted.reserve(order.size());
    for (const auto& item : order) sorted.push_back(std::get<3>(item));
    return sorted;
  }

  /// How many nodes, best first, the tasks of an array fill when it is let go.
  [[nodiscard]] std::uint32_t nodes_for_tasks() const {
    const std::uint64_t slots_wanted = std::uint64_t{request_.tasks} * wanted_;
    std::uint64_t slots = 0;
    std::uint32_t count = 0;
    for (const auto& node : nodes_) {
      if (slots >= slots_wanted) break;
      if (!node.cacheable() || !(node.free_now || node.complete)) continue;
      const auto taken = node.view->cpus_busy + node.view->cpus_promised;
      const auto free_cpus = node.view->cpus > taken ? node.view->cpus - taken : 0;
      slots += request_.exclusive ? 1 : free_cpus / need_;
      ++count;
    }
    return count;
  }

  template <class Predicate>
  [[nodiscard]] std::vector<std::string> best(Predicate&& fits) const {
    std::vector<const Scored*> found;
    for (const auto& node : nodes_)
      if (fits(node)) found.push_back(&node);
    // Tasks of an array run by themselves.
    if (request_.tasks > 1) found.resize(std::min<std::size_t>(found.size(), wanted_));
    const auto equal = [](const Scored& a, const Scored& b) {
      return std::tie(a.crowded, a.complete, a.resident, a.warming, a.free_now) ==
             std::tie(b.crowded, b.complete, b.resident, b.warming, b.free_now);
    };
    std::vector<std::string> names;
    for (const auto* node : placement::first_together(found, wanted_, equal)) names.push_back(node->view->name);
    return names;
  }

  [[nodiscard]] Decision choose() const {
    if (request_.datasets.empty()) return cold("the job names no dataset");
    if (std::none_of(nodes_.begin(), nodes_.end(), [](const Scored& n) { return n.runnable(); }))
      return cold("no node can run the job at present");
    const auto free_holders = best([](const Scored& n) { return n.holder() && n.free_now; });
    if (free_holders.size() == wanted_) return go(free_holders);
    if (request_.may_wait && request_.locality && request_.locality->max_wait.count() > 0 &&
        request_.warm != WarmMode::wait) {
      if (auto decision = wait_for_share()) return *decision;
    }
    switch (request_.warm) {
      case WarmMode::wait:
        return request_.may_wait ? warm_or_wait() : start_now(free_holders, "it does not wait any longer");
      case WarmMode::overlap:
        return overlap(free_holders);
      default:
        return start_now(free_holders, "it does not wait");
    }
  }

  [[nodiscard]] Decision go(const std::vector<std::string>& nodes) const {
    return {Action::go,
            nodes,
            false,
            list_of(nodes) + (nodes.size() == 1 ? " holds" : " hold") + " the data" + sized() +
                (nodes.size() == 1 ? " and is free" : " and are free"),
            {}};
  }

  /// Whatever is there now: free holders if any, anything otherwise.
  [[nodiscard]] Decision start_now(const std::vector<std::string>& free_holders, const std::string& because) const {
    if (!free_holders.empty()) {
      auto decision = go(free_holders);
      if (free_holders.size() < wanted_)
        decision.reason += "; the other " + std::to_string(wanted_ - free_holders.size()) + " of " +
                           std::to_string(wanted_) + " nodes may be any";
      return decision;
    }
    const auto holders = best([](const Scored& n) { return n.holder(); });
    if (!holders.empty())
      return cold(list_of(holders) + " hold" + (holders.size() == 1 ? "s" : "") + " the data but " +
                  (holders.size() == 1 ? "is" : "are") + " busy, and " + because);
    return cold("no node holds the data yet, and " + because);
  }

  /// --locality F@TIME: a set with that share exists but is busy.
  [[nodiscard]] std::optional<Decision> wait_for_share() const {
    const auto share_of = [&](const std::vector<std::string>& names) {
      Bytes sum;
      for (const auto& node : nodes_)
        if (contains(names, node.view->name)) sum += node.resident;
      const double whole = static_cast<double>(total_.count) * wanted_;
      return whole > 0 ? static_cast<double>(sum.count) / whole : 0.0;
    };
    const double wanted_share = request_.locality->share;
    if (!size_known_ || wanted_share <= 0) return std::nullopt;
    const auto free_set = best([](const Scored& n) { return n.runnable() && n.view->cache && n.free_now; });
    if (free_set.size() == wanted_ && share_of(free_set) >= wanted_share) {
      return Decision{Action::go, free_set, false, list_of(free_set) + " hold the wanted share of the data", {}};
    }
    const auto any_set = best([](const Scored& n) { return n.runnable() && n.view->cache; });
    if (any_set.size() < wanted_ || share_of(any_set) < wanted_share) return std::nullopt;
    return Decision{Action::wait,
                    any_set,
                    false,
                    list_of(any_set) + (any_set.size() == 1 ? " holds" : " hold") +
                        " the wanted share of the data and is worth waiting for (--locality)",
                    {}};
  }

  [[nodiscard]] Decision warm_or_wait() const {
    if (auto refusal = too_large()) return *refusal;
    const auto holders = best([](const Scored& n) { return n.holder() && !n.crowded; });
    if (holders.size() == wanted_)
      return {Action::wait,
              holders,
              false,
              list_of(holders) + (holders.size() == 1 ? " holds" : " hold") + " the data" + sized() + " and " +
                  (holders.size() == 1 ? "is" : "are") + " busy: waiting for " + (holders.size() == 1 ? "it" : "them"),
              {}};
    const auto nodes = best([](const Scored& n) { return n.cacheable(); });
    if (nodes.empty()) return cold(why_nothing_cacheable());
    return {Action::warm, nodes, false, warm_reason(nodes), {}};
  }

  [[nodiscard]] Decision overlap(const std::vector<std::string>& free_holders) const {
    if (auto refusal = too_large()) {
      if (!free_holders.empty()) return start_now(free_holders, "it does not wait");
      return *refusal;
    }
    const auto nodes = best([](const Scored& n) { return n.cacheable() && n.free_now; });
    if (nodes.empty())
      return cold(
          "no node that could cache the data is free now, and it does not wait: the cache fills where it starts");
    return {Action::warm, nodes, false, warm_reason(nodes) + ", while the job starts", {}};
  }

  [[nodiscard]] std::string warm_reason(const std::vector<std::string>& nodes) const {
    Bytes resident;
    bool joins = false;
    for (const auto& node : nodes_) {
      if (!contains(nodes, node.view->name)) continue;
      resident += node.resident;
      joins = joins || node.warming;
    }
    std::string reason = (joins ? "joins the warm-up on " : "warming ") + list_of(nodes);
    if (resident.count > 0) {
      reason += ", which " + std::string(nodes.size() == 1 ? "has" : "have") + " the most of the data (" +
                format_size(resident) + ")";
    } else if (!joins) {
      reason += ": no node has the data yet";
    }
    const bool too_much = std::any_of(nodes_.begin(), nodes_.end(), [&](const Scored& node) {
      return contains(nodes, node.view->name) && node.view->room + node.resident < total_;
    });
    if (divides() && (too_much || (request_.cache && *request_.cache < total_)))
      reason += "; each takes its share, about " +
                format_size(Bytes{total_.count / std::max<std::size_t>(1, nodes.size())}) + " of " +
                format_size(total_);
    if (nodes.size() < wanted_)
      reason += "; only " + std::to_string(nodes.size()) + " of " + std::to_string(wanted_) + " nodes can cache it";
    return reason;
  }

  [[nodiscard]] std::optional<Decision> too_large() const {
    if (request_.cache && size_known_ && *request_.cache < (divides() ? share() : total_))
      return cold("--cache " + format_size(*request_.cache) + " is smaller than " +
                  (divides() ? "each node's share of " : "") + "the data (" + format_size(total_) + ")");
    return std::nullopt;
  }

  [[nodiscard]] std::string why_nothing_cacheable() const {
    const Scored* roomiest = nullptr;
    std::string failed;
    for (const auto& node : nodes_) {
      if (!node.runnable()) continue;
      if (const auto at = request_.failed.find(node.view->name); at != request_.failed.end())
        failed = at->first + ": " + at->second;
      if (node.view->cache && (roomiest == nullptr || roomiest->view->room < node.view->room)) roomiest = &node;
    }
    if (!failed.empty()) return failed;
    if (roomiest == nullptr) return "no node that could run the job has a cache agent in service";
    return "no node has room for " + format_size(missing_on(*roomiest)) + ": the most is " +
           format_size(roomiest->view->room) + " on " + roomiest->view->name;
  }

  [[nodiscard]] static Decision cold(std::string reason) { return {Action::cold, {}, false, std::move(reason), {}}; }

  [[nodiscard]] std::string sized() const { return size_known_ ? " (" + format_size(total_) + ")" : ""; }

  [[nodiscard]] CandidateNode candidate(const Scored& node, const Decision& decision) const {
    CandidateNode out{node.view->name,
                      node.resident,
                      total_,
                      node.free_now && node.runnable(),
                      node.complete,
                      contains(decision.nodes, node.view->name),
                      "",
                      {},
                      {}};
    if (!decision.alternatives.empty() && node.runnable() && node.start < std::numeric_limits<double>::infinity()) {
      out.start = placement::milliseconds_of(node.start);
      out.stall = placement::milliseconds_of(placement::stall_of(node, node.start, request_));
    }
    if (!node.runnable()) {
      out.note = node.refused;
    } else if (!node.not_cached.empty()) {
      out.note = node.not_cached;
    } else if (node.complete) {
      out.note = node.free_now ? "holds the data" : "holds the data, busy";
    } else if (node.warming) {
      out.note = "being warmed";
    } else {
      out.note = node.free_now ? "free" : "busy";
    }
    return out;
  }

  const ClusterSnapshot& cluster_;
  const PlacementRequest& request_;
  std::unordered_set<std::string_view> partition_;
  std::vector<Scored> nodes_;
  std::optional<Decision> by_cost_;
  Bytes total_;
  bool size_known_ = true;
  std::uint32_t wanted_ = 1, need_ = 1;
};

}  // namespace

std::string_view name_of(Action action) {
  switch (action) {
    case Action::go:
      return "go";
    case Action::wait:
      return "wait";
    case Action::warm:
      return "warm";
    case Action::cold:
      break;
  }
  return "cold";
}

Decision place(const ClusterSnapshot& cluster, const PlacementRequest& request) {
  return Placer(cluster, request).decide();
}

bool all_hold(const ClusterSnapshot& cluster, const PlacementRequest& request) {
  return Placer(cluster, request).all_hold();
}

}  // namespace atlas
