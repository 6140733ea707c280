#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "controller/staging/agent_port.h"
#include "controller/staging/executor.h"
#include "controller/staging/registry.h"

namespace atlas {

/// Warm-ups under way: one per node, dataset and user, however many wait for it. Lives on the strand. A stream that
/// breaks while its agent is in service is taken up again: the agent goes on where it was.
class WarmUps {
 public:
  WarmUps(Executor& strand, AgentPort& agents, Registry& registry, const Clock& clock);

  struct Waiter {
    std::function<void(const WarmProgress&)> progress;  ///< may be empty
    std::function<void(const Result<Generation>&)> done;
  };
  using Ticket = std::uint64_t;
  /// Joins or starts. `done` is called once, from a later task, unless drop() came first.
  [[nodiscard]] Ticket want(const std::string& node, const WarmOrder& order, Waiter waiter);
  /// Stops waiting; with `cancel`, ends the warm-up on the node too if nobody else waits for it.
  void drop(Ticket ticket, bool cancel);

  /// Told of each progress, and (null) of the end, of all warm-ups. Once, before use.
  using Observer = std::function<void(const std::string& node, const WarmOrder& order, const WarmProgress* progress)>;
  void observe(Observer observer) { observer_ = std::move(observer); }

  [[nodiscard]] bool warming(const std::string& node, const DatasetId& dataset) const;
  [[nodiscard]] const WarmProgress* progress(const std::string& node, const DatasetId& dataset) const;
  struct View {
    std::string node;
    std::uint32_t uid;
    WarmProgress progress;
  };
  [[nodiscard]] std::vector<View> all() const;
  /// The node of each.
  void each(const std::function<void(const std::string& node)>& visit) const {
    for (const auto& [key, running] : running_) visit(std::get<0>(key));
  }
  /// Each whose data is on its way, or that was asked for a moment ago; not those that have got nothing for a while.
  void each_moving(
      const std::function<void(const std::string& node, const WarmOrder&, const WarmProgress&)>& visit) const;
  struct Filling {
    std::string node;
    SteadyTime since;
    GenerationId generation;  ///< none = its walk is not through
  };
  /// The warm-ups of a dataset, of all nodes and users.
  [[nodiscard]] std::vector<Filling> filling(const DatasetId& dataset) const;
  /// Since when the warm-up has been reporting bytes.
  [[nodiscard]] std::chrono::milliseconds running_for(const std::string& node, const DatasetId& dataset) const;

 private:
  /// Node, dataset, user, --cache (who allows less must not fail who allows more), and who divides it.
  using Key = std::tuple<std::string, DatasetId, std::uint32_t, std::uint64_t, std::vector<NodeAddress>>;
  struct Waiting {
    Waiter waiter;
    WarmOrder order;
  };
  struct Running {
    WarmOrder order;  ///< as the agent was asked last
    WarmProgress last;
    std::map<Ticket, Waiting> waiters;
    SteadyTime since{};
    int retries = 0;  ///< since bytes_most has grown
    Bytes bytes_most;
    SteadyTime moved{};      ///< when it has grown last
    std::uint64_t call = 0;  ///< the call whose answers count
  };
  /// running_'s entry of the key, and whether it is new.
  std::pair<std::map<Key, Running>::iterator, bool> enter(const Key& key);
  void leave(const Key& key);
  void start(const Key& key);
  void on_progress(const Key& key, std::uint64_t call, const WarmProgress& progress);
  void on_done(const Key& key, std::uint64_t call, const Status& status);
  void finish(const Key& key, const Result<Generation>& result);

  Executor& strand_;
  AgentPort& agents_;
  Registry& registry_;
  const Clock& clock_;
  Observer observer_ = [](const auto&, const auto&, const auto*) {};
  std::map<Key, Running> running_;
  std::map<DatasetId, std::set<Key>> of_dataset_;  ///< the same keys
  std::map<Ticket, Key> tickets_;
  Ticket next_ticket_ = 1;
  std::uint64_t next_call_ = 1;
};

}  // namespace atlas
