#include "controller/placement/cost.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <unordered_set>

#include "controller/placement/switches.h"

namespace atlas::placement {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

double seconds_of(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

std::string span_of(double seconds) {
  return format_duration(std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(seconds)) * 1000));
}

/// Whether data is brought to a node before the job is there.
bool moves_ahead(const PlacementRequest& request) {
  return request.warm != WarmMode::none;
}

/// Seconds until the node has enough CPUs for the job, for as long as it may run.
double start_on(const NodeView& view, bool free_now, const PlacementRequest& request, std::uint32_t need) {
  if (view.ahead.empty()) return free_now ? 0 : kNever;
  const auto cpus = request.exclusive ? view.cpus : need;
  const double lasts = request.duration ? seconds_of(*request.duration) : kNever;
  double start = kNever;
  for (const auto& step : view.ahead) {
    const double in = std::max(0.0, seconds_of(step.in));
    if (step.cpus < cpus) {
      if (start < kNever && in < start + lasts) start = kNever;
      if (start < kNever) break;
    } else if (start == kNever) {
      start = in;
    }
  }
  return start;
}

/// A set of nodes, when all of them are free, and how long the slowest of them takes to have its data.
struct Set {
  std::vector<const Scored*> nodes;
  double start = kNever, stall = 0, transfer = 0, cost = kNever;

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto* node : nodes) out.push_back(node->view->name);
    return out;
  }
};

/// Which of two nodes is the better one for data, when both are free in time.
bool better(const Scored* a, const Scored* b) {
  if (a->fixed != b->fixed) return b->fixed;
  if (a->transfer != b->transfer) return a->transfer < b->transfer;
  if (a->warming != b->warming) return a->warming;  // one transfer does for all who wait
  if (a->view->readers != b->view->readers) return a->view->readers < b->view->readers;
  if (a->view->wanted != b->view->wanted) return a->view->wanted < b->view->wanted;
  if (a->view->room != b->view->room) return a->view->room > b->view->room;
  if (const double x = a->load(), y = b->load(); x != y) return x < y;
  return a->view->name < b->view->name;
}

class Chooser {
 public:
  Chooser(const CostModel& model, const PlacementRequest& request, std::uint32_t wanted, std::vector<Scored>& nodes)
      : model_(model), request_(request), wanted_(wanted), nodes_(nodes) {}

  [[nodiscard]] bool expect(std::uint32_t need) {
    if (!rates()) return false;
    const std::unordered_set<std::string_view> slurms(request_.slurm_nodes.begin(), request_.slurm_nodes.end());
    for (auto& node : nodes_) {
      if (!node.runnable()) continue;
      node.start = start_on(*node.view, node.free_now, request_, need);
      if (request_.slurm_start) {
        const double slurm = seconds_of(*request_.slurm_start);
        node.start = slurms.contains(node.view->name) ? slurm : std::max(node.start, slurm);
      }
      node.start = std::max(node.start, seconds_of(node.view->boot));
      node.fixed = !node.cacheable();
      node.transfer = transfer_to(node);
      if (node.start < kNever) by_start_.push_back(&node);
    }
    // Which of those that are free at the same time are chosen is not decided by their order. What is free now, which
    // may be thousands, needs no sorting.
    const auto later =
        std::partition(by_start_.begin(), by_start_.end(), [](const Scored* node) { return node->start <= 0; });
    sorted_ = static_cast<std::size_t>(later - by_start_.begin());
    return by_start_.size() >= wanted_ && required_known();
  }

  /// The cheapest of all sets that can start within the job's patience.
  Set sweep() {
    Set best;
    std::vector<const Scored*> chosen;  // a heap, the worst on top
    std::uint32_t required = 0;
    double latest = kNever;
    for (std::size_t i = 0; i < by_start_.size(); ++i) {
      sort_to(i + 2);
      const auto* node = by_start_[i];
      if (node->start > latest || node->start >= best.cost) break;
      take(chosen, node, required);
      if (i + 1 < by_start_.size() && by_start_[i + 1]->start == node->start) continue;
      if (chosen.size() < wanted_ || required < request_.required.size()) continue;
      if (latest == kNever) latest = node->start + patience();
      Set set = costed(chosen, node->start);
      if (soonest_.nodes.empty()) soonest_ = set;
      if (holders_.nodes.empty() && set.transfer == 0) holders_ = set;
      if (set.cost < best.cost - 1e-9) best = std::move(set);
    }
    for (auto* set : {&best, &soonest_, &holders_}) bring_together(*set);
    return best;
  }

  [[nodiscard]] Decision decide(Set best) {
    Decision decision;
    if (request_.datasets.empty()) {
      decision.action = best.start == 0 ? Action::go : Action::cold;
      if (best.start == 0) decision.nodes = best.names();
      decision.reason =
          best.start == 0 ? "the job names no dataset: " + list_of(best.names()) + " hold least of what others wait for"
                          : "the job names no dataset";
    } else if (best.transfer == 0 && (best.start == 0 || patience() > 0)) {
      hold(decision, best);
    } else if (request_.warm == WarmMode::none || best.transfer == 0) {
      start_as_it_is(decision, best);
    } else if (std::all_of(best.nodes.begin(), best.nodes.end(), [](const Scored* n) { return n->fixed; })) {
      decision.reason = "no node that could run the job in time can cache its data";
    } else {
      decision.action = Action::warm;
      for (const auto* node : best.nodes)
        if (!node->fixed) decision.nodes.push_back(node->view->name);
      decision.reason = warm_reason(best, decision.nodes);
    }
    note(decision, decision.action, best);
    if (holders_.nodes.empty()) holders_ = soonest_holders();
    if (!holders_.nodes.empty() && holders_.names() != best.names()) note(decision, Action::wait, holders_);
    if (!soonest_.nodes.empty() && soonest_.names() != best.names()) note(decision, Action::cold, soonest_);
    return decision;
  }

 private:
  /// Nodes for which others would do as well are exchanged for such as hang on one switch with the rest.
  void bring_together(Set& set) const {
    std::sort(set.nodes.begin(), set.nodes.end(), better);
    if (set.nodes.size() < 2 || set.nodes.front()->switches == nullptr) return;
    const auto equal = [](const Scored& a, const Scored& b) {
      return std::tie(a.fixed, a.transfer, a.warming, a.view->readers) ==
             std::tie(b.fixed, b.transfer, b.warming, b.view->readers);
    };
    auto ordered = set.nodes;
    const auto optional =
        std::stable_partition(ordered.begin(), ordered.end(), [](const auto* n) { return n->required; });
    if (optional == ordered.end()) return;
    const auto* last = ordered.back();
    const std::unordered_set<const Scored*> chosen(ordered.begin(), ordered.end());
    for (const auto* node : by_start_)
      if (node->start <= set.start && !node->required && equal(*node, *last) && !chosen.contains(node))
        ordered.push_back(node);
    std::sort(ordered.begin() + static_cast<std::ptrdiff_t>(chosen.size()), ordered.end(), better);
    set.nodes = first_together(ordered, set.nodes.size(), equal);
    std::sort(set.nodes.begin(), set.nodes.end(), better);
  }

  /// The first `count` of by_start_ are in order. Few of many are ever looked at: the sweep ends when nothing that
  /// begins later can be better.
  void sort_to(std::size_t count) {
    while (sorted_ < std::min(count, by_start_.size())) {
      constexpr std::size_t kAtATime = 128;
      const auto soonest = [](const Scored* a, const Scored* b) { return a->start < b->start; };
      const auto from = by_start_.begin() + static_cast<std::ptrdiff_t>(sorted_);
      sorted_ = std::min(by_start_.size(), sorted_ + std::max(kAtATime, sorted_));
      const auto to = by_start_.begin() + static_cast<std::ptrdiff_t>(sorted_);
      if (to != by_start_.end()) std::nth_element(from, to, by_start_.end(), soonest);
      std::sort(from, to, soonest);
    }
  }

  bool rates() {
    for (const auto& dataset : request_.datasets) {
      const auto at = model_.origin_rate.find(dataset.id.origin);
      double rate = at == model_.origin_rate.end() ? 0 : static_cast<double>(at->second.count);
      const bool held =
          model_.peer_rate.count > 0 && std::any_of(nodes_.begin(), nodes_.end(), [&](const Scored& node) {
            if (!node.view->cache) return false;
            const auto holding = node.view->holdings.find(dataset.id);
            return holding != node.view->holdings.end() && holding->second.complete;
          });
      const bool from_peer = held && static_cast<double>(model_.peer_rate.count) > rate;
      if (from_peer) rate = static_cast<double>(model_.peer_rate.count);
      if (rate <= 0) return false;
      const auto line = model_.origin_line.find(dataset.id.origin);
      rates_.push_back(rate);
      lines_.push_back(from_peer || line == model_.origin_line.end() ? nullptr : &line->second);
    }
    return true;
  }

  [[nodiscard]] bool required_known() const {
    const auto known = std::count_if(by_start_.begin(), by_start_.end(), [](const Scored* n) { return n->required; });
    return static_cast<std::size_t>(known) == request_.required.size();
  }

  [[nodiscard]] double transfer_to(const Scored& node) const {
    double limit = kNever;
    if (model_.node_rate.count > 0) limit = static_cast<double>(model_.node_rate.count) / (1 + node.view->readers);
    double sum = 0;
    for (std::size_t i = 0; i < request_.datasets.size(); ++i) {
      const auto size = *request_.datasets[i].size;
      const auto holding = node.view->holdings.find(request_.datasets[i].id);
      Bytes has;
      if (node.view->cache && holding != node.view->holdings.end())
        has = holding->second.complete ? size : std::min(holding->second.resident, size);
      if (has >= size) continue;
      const auto missing = static_cast<double>((size - has).count);
      double takes = missing / std::min(rates_[i], limit);
      if (const auto* line = lines_[i]; line != nullptr && line->rate.count > 0)
        takes =
            std::max(takes, (static_cast<double>(line->ahead.count) + missing) / static_cast<double>(line->rate.count));
      // What is on its way does not share the origin with itself; who wants it sooner than it would come pays for it.
      if (node.view->cache && holding != node.view->holdings.end() && holding->second.warming && holding->second.left)
        takes = std::min(takes, seconds_of(*holding->second.left));
      sum += takes;
    }
    return sum;
  }

  [[nodiscard]] double patience() const {
    if (!request_.may_wait || request_.datasets.empty()) return 0;
    double most = seconds_of(request_.patience);
    if (request_.warm != WarmMode::wait)
      most = request_.locality ? std::min(most, seconds_of(request_.locality->max_wait)) : 0;
    return most;
  }

  /// Keeps the best `wanted_` of what was taken so far; the user's own nodes are never let go.
  void take(std::vector<const Scored*>& chosen, const Scored* node, std::uint32_t& required) const {
    const auto worse = [](const Scored* a, const Scored* b) {
      return a->required != b->required ? a->required : better(a, b);
    };
    if (node->required) ++required;
    if (chosen.size() == wanted_ && !worse(node, chosen.front())) return;
    chosen.push_back(node);
    std::push_heap(chosen.begin(), chosen.end(), worse);
    if (chosen.size() <= wanted_) return;
    std::pop_heap(chosen.begin(), chosen.end(), worse);
    chosen.pop_back();
  }

  [[nodiscard]] Set costed(std::vector<const Scored*> nodes, double start) const {
    Set set;
    set.start = start;
    for (const auto* node : nodes) {
      set.transfer = std::max(set.transfer, node->transfer);
      set.stall = std::max(set.stall, stall_of(*node, start, request_));
    }
    set.cost = start + model_.stall * set.stall + model_.transfer * set.transfer;
    set.nodes = std::move(nodes);
    return set;
  }

  /// The first nodes that will be free and hold all of it, however long that takes: for the reasons.
  [[nodiscard]] Set soonest_holders() const {
    std::vector<const Scored*> nodes;
    for (const auto* node : by_start_)
      if (node->transfer == 0) nodes.push_back(node);
    if (nodes.size() < wanted_) return {};
    std::partial_sort(nodes.begin(), nodes.begin() + wanted_, nodes.end(), [](const Scored* a, const Scored* b) {
      return a->start != b->start ? a->start < b->start : a->view->name < b->view->name;
    });
    nodes.resize(wanted_);
    const double start = nodes.back()->start;
    return costed(std::move(nodes), start);
  }

  [[nodiscard]] Bytes total() const {
    Bytes sum;
    for (const auto& dataset : request_.datasets) sum += *dataset.size;
    return sum;
  }

  void hold(Decision& decision, const Set& best) const {
    const auto names = best.names();
    const bool one = names.size() == 1;
    decision.nodes = names;
    decision.action = best.start == 0 ? Action::go : Action::wait;
    decision.reason = list_of(names) + (one ? " holds" : " hold") + " the data (" + format_size(total()) + ") and " +
                      (one ? "is" : "are") + " free" + (best.start == 0 ? "" : " in " + span_of(best.start));
    if (best.start > 0 && soonest_.cost < kNever && soonest_.names() != names)
      decision.reason += ": waiting for " + std::string(one ? "it" : "them") + " takes less than starting in " +
                         span_of(soonest_.start) + " on " + list_of(soonest_.names()) + " and reading for " +
                         span_of(soonest_.stall);
  }

  /// The job does not wait and nothing is brought ahead: as much of it as is held where it starts anyway.
  void start_as_it_is(Decision& decision, const Set& best) const {
    if (best.start == 0)
      for (const auto* node : best.nodes)
        if (node->complete && !node->fixed) decision.nodes.push_back(node->view->name);
    decision.action = decision.nodes.empty() ? Action::cold : Action::go;
    const auto holders = soonest_holders();
    if (!decision.nodes.empty()) {
      decision.reason = list_of(decision.nodes) + (decision.nodes.size() == 1 ? " holds" : " hold") + " the data and " +
                        (decision.nodes.size() == 1 ? "is" : "are") + " free; the other " +
                        std::to_string(wanted_ - decision.nodes.size()) + " of " + std::to_string(wanted_) +
                        " nodes may be any";
    } else if (!holders.nodes.empty()) {
      decision.reason = list_of(holders.names()) + (wanted_ == 1 ? " holds" : " hold") +
                        " the data but would be free only in " + span_of(holders.start) + ", and it does not wait";
    } else {
      decision.reason = "no node holds the data yet, and it does not wait";
    }
  }

  [[nodiscard]] std::string warm_reason(const Set& best, const std::vector<std::string>& nodes) const {
    Bytes resident;
    bool joins = false;
    for (const auto* node : best.nodes) {
      resident += node->resident;
      joins = joins || node->warming;
    }
    std::string reason = (joins ? "joins the warm-up on " : "warming ") + list_of(nodes);
    if (resident.count > 0) reason += ", where " + format_size(resident) + " is already";
    reason += (best.start == 0 ? ": free now" : ": free in " + span_of(best.start)) + ", then " + span_of(best.stall) +
              " until the data is there";
    const auto holders = soonest_holders();
    if (holders.nodes.empty()) return reason + "; no free set of nodes holds it";
    return reason + "; " + list_of(holders.names()) + (wanted_ == 1 ? ", which holds it, is" : ", which hold it, are") +
           " free in " + span_of(holders.start);
  }

  void note(Decision& decision, Action action, const Set& set) const {
    Bytes resident;
    for (const auto* node : set.nodes)
      resident += node->complete ? total() : node->view->cache ? node->resident : Bytes{};
    decision.alternatives.push_back({action, set.names(), resident, Bytes{total().count * set.nodes.size()},
                                     milliseconds_of(set.start), milliseconds_of(set.stall), set.cost});
  }

  const CostModel& model_;
  const PlacementRequest& request_;
  const std::uint32_t wanted_;
  std::vector<Scored>& nodes_;
  std::vector<double> rates_;                  ///< bytes/s, per dataset of the request
  std::vector<const CostModel::Line*> lines_;  ///< who is before it at its origin, per dataset; null = nobody
  std::vector<const Scored*> by_start_;
  std::size_t sorted_ = 0;  ///< so many of its first are where they belong
  Set soonest_;             ///< the best of those that start soonest
  Set holders_;             ///< the first that holds all of it
};

}  // namespace

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(std::llround(std::min(seconds, 1e12) * 1000));
}

double stall_of(const Scored& node, double start, const PlacementRequest& request) {
  return node.fixed || !moves_ahead(request) ? node.transfer : std::max(0.0, node.transfer - start);
}

std::optional<Decision> cheapest(const CostModel& model, const PlacementRequest& request, std::uint32_t wanted,
                                 std::uint32_t need, std::vector<Scored>& nodes) {
  Chooser chooser(model, request, wanted, nodes);
  if (!chooser.expect(need)) return std::nullopt;
  auto best = chooser.sweep();
  if (best.nodes.empty()) return std::nullopt;
  return chooser.decide(std::move(best));
}

}  // namespace atlas::placement
