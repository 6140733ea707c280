#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "controller/limits/sharing.h"
#include "controller/staging/cache_space.h"
#include "controller/staging/executor.h"

namespace atlas {

/// The limits of reading, and what is done about them: nodes are told of the limits when they come, soon after one is
/// set, and of their shares whenever these are divided anew. Lives on the strand.
class IoLimits {
 public:
  /// Catalogue errors are handed to `complain` (the daemon's log) and do not stop it.
  IoLimits(Executor& strand, const CacheSpace& limits, Catalog& catalog, const Clock& clock,
           std::function<void(const Error&)> complain)
      : strand_(strand), limits_(limits), catalog_(catalog), clock_(clock), complain_(std::move(complain)) {}
  /// The accounts that an earlier controller has seen. Once, before use.
  [[nodiscard]] Status load();
  /// After limits are loaded, set or removed.
  void changed();
  /// So many nodes there were before the controller was started anew: until they have had the time to come back an
  /// equal part is one of so many. Once, before use.
  void expect(std::size_t nodes);
  /// Whose warm-up goes first, by job. Once, before use.
  void order_by(std::function<std::int64_t(std::uint32_t)> order) { sharing_.order_by(std::move(order)); }

  /// How a node is told; neither blocks.
  struct Outlet {
    std::function<void(const std::vector<IoBudget>& budgets, std::uint32_t nodes)> budgets;
    std::function<void(const Sharing::Message& shares)> shares;
  };
  /// A later stream of the same node replaces an earlier one.
  void came(const std::string& node, std::uint64_t stream, Outlet outlet);
  void lost(const std::string& node, std::uint64_t stream);
  void report(const std::string& node, std::uint64_t stream, std::uint64_t seen, const std::vector<IoDemand>& demands);

  /// Slurm says that a user runs jobs under this account; a restart does not forget it, three months without such a job
  /// do.
  void note_account(std::uint32_t uid, const std::string& account);
  /// What a warm-up is charged to that a user asks for by hand: of the accounts that he is known to use (jobs in
  /// Slurm's queue, what is in the cache for him) the one with the lowest limit. "" when
  /// none is known, or several of which none has one.
  [[nodiscard]] std::string account_of(std::uint32_t uid) const;
  /// Any job was seen under it.
  [[nodiscard]] bool knows_account(const std::string& account) const;

  [[nodiscard]] Sharing::Use use_of(const LimitRow& limit) const { return sharing_.use_of(budget_of(limit)); }
  /// Of each of them, in one pass over what is read.
  [[nodiscard]] std::vector<Sharing::Use> uses(const std::vector<LimitRow>& limits) const;
  [[nodiscard]] std::vector<Sharing::NodeUse> uses_of(const LimitRow& limit) const {
    return sharing_.uses_of(budget_of(limit));
  }

 private:
  struct Node {
    std::uint64_t stream = 0;
    Outlet outlet;
  };
  [[nodiscard]] static IoBudget budget_of(const LimitRow& limit);
  void tell(const Node& node) const;
  [[nodiscard]] std::size_t node_count() const;
  void count_again(std::chrono::milliseconds wait);
  void tell_all_soon();
  void schedule();
  void divide(std::uint64_t timer);

  Executor& strand_;
  const CacheSpace& limits_;
  Catalog& catalog_;
  const Clock& clock_;
  std::function<void(const Error&)> complain_;
  Sharing sharing_;
  std::map<std::string, Node> nodes_;
  std::map<std::uint32_t, std::map<std::string, WallTime>> accounts_;  ///< by user; when it was noted last
  SteadyTime due_ = SteadyTime::max();                                 ///< of the timer that counts
  std::uint64_t timer_ = 0;
  bool telling_ = false;      ///< nodes will be told of the limits in a moment
  std::size_t expected_ = 0;  ///< nodes, here or on their way back
  SteadyTime expected_until_{};
  bool counting_ = false;  ///< they will be counted anew then
};

}  // namespace atlas
