#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "common/config.h"
#include "controller/staging/agent_port.h"
#include "controller/staging/datasets.h"
#include "controller/staging/registry.h"
#include "controller/staging/warmups.h"

namespace atlas {

/// What the settings of datasets ask for without any job: replicas that nobody has used for --ttl go; a dataset that
/// somebody has warmed is brought to --replicas nodes. Looks now and then; lives on the strand.
class Upkeep {
 public:
  using Tell = std::function<void(const std::string&)>;
  /// What reading for a user, and for no job of his, is charged to.
  using AccountOf = std::function<std::string(std::uint32_t uid)>;
  Upkeep(Executor& strand, AgentPort& agents, Registry& registry, Datasets& datasets, WarmUps& warmups,
         const Clock& clock, Tell tell, AccountOf account_of)
      : strand_(strand),
        agents_(agents),
        registry_(registry),
        datasets_(datasets),
        warmups_(warmups),
        clock_(clock),
        tell_(std::move(tell)),
        account_of_(std::move(account_of)) {}

  /// Compares what nodes hold with what was settled, if it has not done so for a while. Called at every poll.
  void look();

 private:
  using Place = std::pair<std::string, DatasetId>;
  void drop_unused(const DatasetId& dataset, std::chrono::milliseconds ttl);
  void spread(const DatasetId& dataset, const DatasetSettings& settings);

  Executor& strand_;
  AgentPort& agents_;
  Registry& registry_;
  Datasets& datasets_;
  WarmUps& warmups_;
  const Clock& clock_;
  Tell tell_;
  AccountOf account_of_;
  SteadyTime looked_{};
  std::set<std::pair<std::string, GenerationId>> dropping_;  ///< on which node
  std::map<Place, SteadyTime> failed_;                       ///< warm-ups; tried again after a while
};

}  // namespace atlas
