#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "controller/staging/job.h"
#include "controller/staging/registry.h"

namespace atlas {

/// What a job holds on its nodes, and a job that waits for its end (--dependency) is going to read, stays there when
/// the first one lets go of it, until the second has begun. Lives on the strand.
class Followers {
 public:
  using Jobs = std::map<std::uint32_t, std::unique_ptr<StagedJob>>;
  using Places = std::set<std::pair<std::string, DatasetId>>;

  /// At each poll, and before a running job lets go: notes what running jobs hold for those that follow, and forgets
  /// what nobody will come for. True when something is held that was not before.
  bool look(const Jobs& jobs, const Registry& registry, SteadyTime now);
  /// Nodes, and what is not to be evicted there.
  [[nodiscard]] Places places() const;

 private:
  using Heir = std::tuple<std::uint32_t, std::string, DatasetId>;  ///< job, node
  std::map<Heir, SteadyTime> held_;                                ///< when its predecessor was seen to run there last
};

}  // namespace atlas
