#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "common/io_limits.h"
#include "controller/limits/shares.h"

namespace atlas {

/// Divides the cluster's limits among the nodes, over and over, by what they say that they want. What is taken from one
/// node is given to another only when the first is known to keep to it, or has had the time to learn of it. No clock,
/// no I/O: it is told the time and what comes, and says what is to be sent. Not thread-safe.
class Sharing {
 public:
  /// What is wanted changes by the second.
  static constexpr std::chrono::milliseconds kPeriod{1000};
  /// Sooner for somebody new, but not more often than this.
  static constexpr std::chrono::milliseconds kLeastPause{100};
  /// A node that has not confirmed a message after this has it all the same, or is cut off.
  static constexpr std::chrono::milliseconds kArrived{400};
  /// A node without a word from here keeps to its last shares for so long (LimitGovernor::kShareHolds).
  static constexpr std::chrono::milliseconds kHolds{5000};

  /// Whose warm-up goes first, by job: the lower number. Once, before use.
  void order_by(std::function<std::int64_t(std::uint32_t job_id)> order) { order_ = std::move(order); }

  void set_budgets(std::vector<IoBudget> budgets);
  [[nodiscard]] const std::vector<IoBudget>& budgets() const { return budgets_; }
  /// A node says what it wants, and which message to it was the last that it has seen.
  void report(const std::string& node, std::uint64_t seen, const std::vector<IoDemand>& demands, SteadyTime now);
  /// It wants nothing any more; but what it was given it may still use until its shares run out.
  void lost(const std::string& node, SteadyTime now);

  struct Message {
    std::uint64_t number = 0;
    std::vector<IoShare> shares;
  };
  /// What to tell whom. Due when due() says so.
  [[nodiscard]] std::map<std::string, Message> divide(SteadyTime now);
  [[nodiscard]] SteadyTime due() const { return due_; }

  /// All that a limit applies to, together.
  struct Use {
    IoRate share, used;
    std::uint32_t waiting = 0;
  };
  [[nodiscard]] Use use_of(const IoBudget& budget) const;
  /// Of each of them, in one pass over what is read.
  [[nodiscard]] std::vector<Use> uses(const std::vector<IoBudget>& budgets) const;
  struct NodeUse {
    std::string node;
    IoFlow flow;
    Use use;
  };
  [[nodiscard]] std::vector<NodeUse> uses_of(const IoBudget& budget) const;

 private:
  struct Held {
    IoDemand demand;
    std::uint32_t origin = 0, payer = 0, job = ShareProblem::kNone;
    IoRate in_force, sent;  ///< what it may have at most; what it was told last
    bool known = false;     ///< it was told something
  };
  struct Node {
    std::uint32_t number = 0;  ///< position in ShareProblem::nodes
    std::uint64_t sent = 0;
    SteadyTime sent_at{};
    SteadyTime gone = SteadyTime::max();  ///< lost: nothing is in force any more from then on
    std::map<IoFlow, Held> held;
  };
  void place(const std::string& name, Held& held);
  [[nodiscard]] ShareProblem::Budget budget_of(LimitKind kind, const std::string& name, std::uint32_t id) const;
  void renumber();
  void order_payers();

  std::function<std::int64_t(std::uint32_t)> order_ = [](std::uint32_t job_id) { return std::int64_t{job_id}; };
  std::vector<IoBudget> budgets_;
  std::map<std::string, Node> nodes_;
  SteadyTime due_ = SteadyTime::max(), divided_{};

  /// Everything but flows, kept from one division to the next: names are looked up when they first come.
  ShareProblem problem_;
  std::map<std::string, std::uint32_t> origins_, accounts_, node_numbers_;
  std::map<std::uint32_t, std::uint32_t> users_, groups_, jobs_;
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::string, std::uint32_t>, std::uint32_t> payers_;
  std::size_t payers_after_renumber_ = 0;
  bool stale_ = false;  ///< the limits are others than those in the problem
};

}  // namespace atlas
