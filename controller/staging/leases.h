#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "controller/staging/agent_port.h"
#include "controller/staging/executor.h"
#include "controller/staging/registry.h"
#include "db/catalog.h"

namespace atlas {

/// Which nodes know of which jobs. The row is written first, then the agent is told, again and again until it has
/// answered. Lives on the strand.
class Leases {
 public:
  Leases(Executor& strand, AgentPort& agents, Registry& registry, Catalog& catalog,
         std::function<void(const Error&)> complain);
  [[nodiscard]] Status load();

  /// Tells the node of the job (again, if it has forgotten). `done`, if given, is called once with the agent's answer
  /// or why there is none; when the node knows already, at once with what it said then.
  void plan(const std::string& node, const PlanOrder& order, bool hard,
            std::function<void(const Result<std::vector<ReplicaInfo>>&)> done = {});
  /// Tells the node that the job is over there. `done`, if given, is called once, when the agent has answered.
  void release(const std::string& node, const JobKey& job, std::function<void(const ReleaseOutcome&)> done = {});
  /// Repeats what has not been answered. Called at every poll.
  void reconcile();
  /// The agent asked for the job by itself: it knows, no need to tell it.
  void note_known(const std::string& node, const PlanOrder& order);
  /// The node's agent has come (back) with the jobs it knows: what it has forgotten is told again. Returns those that
  /// are unknown here.
  [[nodiscard]] std::vector<JobKey> agent_knows(const std::string& node, const std::vector<JobKey>& jobs);

  [[nodiscard]] bool contains(const std::string& node, std::uint32_t job_id) const;
  [[nodiscard]] std::vector<std::string> nodes_of(std::uint32_t job_id) const;
  [[nodiscard]] std::size_t count_on(const std::string& node) const;
  [[nodiscard]] bool idle() const { return leases_.empty(); }

 private:
  struct Lease {
    LeaseRow row;
    PlanOrder order;  ///< empty job_id: known from the catalogue only
    std::vector<ReplicaInfo> answer;
    bool in_flight = false;
    std::vector<std::function<void(const Result<std::vector<ReplicaInfo>>&)>> planned;
    std::vector<std::function<void(const ReleaseOutcome&)>> released;
    JobKey job;
  };
  using Key = std::pair<std::uint32_t, std::string>;
  void send(const Key& key);
  void send_plan(const Key& key, const std::string& address);
  void send_release(const Key& key, const std::string& address);
  void check(const Status& status);

  Executor& strand_;
  AgentPort& agents_;
  Registry& registry_;
  Catalog& catalog_;
  std::function<void(const Error&)> complain_;
  std::map<Key, Lease> leases_;
};

}  // namespace atlas
