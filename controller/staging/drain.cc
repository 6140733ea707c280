// Nodes that leave, and jobs that Slurm has lost.
#include <algorithm>
#include <set>

#include "common/hostlist.h"
#include "controller/staging/staging.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

constexpr auto kMoveAgainAfter = 2min;
// data_in ends within 25 s (atlas_stage.lua). After an outage of slurmctld what takes much longer has been lost in it;
// else it may be that slurmctld has thousands of hooks to run.
constexpr auto kLostInACrash = 30s;
constexpr auto kLost = 3min;
constexpr auto kAfterAnOutage = 10min;

/// Slurm lets its jobs end and starts none; what is on it can still be read.
bool drains(const std::string& state) {
  return state.starts_with("drain") || state.starts_with("fail") || state.starts_with("maint");
}

/// A site's own data_in may take as long as it likes.
bool only_ours(const std::string& directives) {
  for (std::size_t from = 0; from < directives.size();) {
    const auto end = std::min(directives.find('\n', from), directives.size());
    const auto line = directives.substr(from, end - from);
    if (line.starts_with("#BB_LUA") && !line.starts_with("#BB_LUA atlas ")) return false;
    from = end + 1;
  }
  return true;
}

}  // namespace

/// What jobs hold on a node that is being drained, in Slurm or in Atlas, and no node that stays holds, is brought to
/// one: from that node, while it is still there.
void Staging::copy_from_leaving_nodes() {
  if (!cluster_ || !parts_.config.warm.peers) return;
  std::set<std::string> leaving;
  for (const auto& [name, agent] : parts_.registry.agents()) {
    const auto at = cluster_->nodes.find(name);
    if (agent.connected && (agent.drained || (at != cluster_->nodes.end() && drains(at->second->state))))
      leaving.insert(name);
  }
  if (leaving.empty() || !agents_settled()) return;
  const auto now = parts_.clock.now();
  std::erase_if(moved_, [&](const auto& item) { return now - item.second > kMoveAgainAfter; });
  for (const auto& [id, job] : jobs_) {
    if (job->hopeless || job->ending) continue;
    for (const auto& node : leases_.nodes_of(id)) {
      if (!leaving.contains(node)) continue;
      for (std::size_t i = 0; i < job->datasets.size(); ++i) {
        const auto& dataset = job->datasets[i];
        if (moved_.contains(dataset) || !parts_.registry.complete_on(node, dataset) || kept_elsewhere(dataset))
          continue;
        moved_[dataset] = now;
        const auto* refuge = refuge_for(*job, dataset);
        if (refuge == nullptr) continue;
        parts_.log.info(parts_.datasets.label_of(dataset) + ", which job " + std::to_string(id) + " holds on " + node +
                        ", goes to " + refuge->node + " too: " + node + " is being drained");
        auto order = warm_order(*job, i, {refuge->node});
        order.settled_only = true;
        static_cast<void>(warmups_.want(refuge->node, order,
                                        {{}, [this, dataset, to = refuge->node](const Result<Generation>& result) {
                                           if (!result)
                                             parts_.log.warn(parts_.datasets.label_of(dataset) + " on " + to + ": " +
                                                             result.error().message);
                                         }}));
      }
    }
  }
}

/// Or will be, on a node that stays.
bool Staging::kept_elsewhere(const DatasetId& dataset) const {
  const auto stays = [&](const AgentInfo* agent) {
    return agent != nullptr && agent->in_service() && cluster_->usable(agent->node);
  };
  const auto& holders = parts_.registry.holders_of(dataset);
  const auto filling = warmups_.filling(dataset);
  return std::any_of(
             holders.begin(), holders.end(),
             [&](const auto* agent) { return stays(agent) && parts_.registry.holding(*agent, dataset).complete; }) ||
         std::any_of(filling.begin(), filling.end(),
                     [&](const auto& warm) { return stays(parts_.registry.find(warm.node)); });
}

/// Where there is most room for it, of the nodes that the job might run on.
const AgentInfo* Staging::refuge_for(const StagedJob& job, const DatasetId& dataset) const {
  const AgentInfo* best = nullptr;
  Bytes most = parts_.registry.newest(dataset).value_or(Generation{}).bytes;
  for (const auto& [name, agent] : parts_.registry.agents()) {
    if (!agent.in_service() || !cluster_->usable(name)) continue;
    const auto at = cluster_->nodes.find(name);
    if (at->second->asleep || !in_partition(*at->second, job.record)) continue;
    const auto room = Registry::room_on(agent);
    if (room < most || (best != nullptr && room == most)) continue;
    best = &agent;
    most = room;
  }
  return best;
}

void Staging::note_staging_in(StagedJob& job) {
  const auto now = parts_.clock.now();
  if (!job.record.staging_in || !job.pending()) {
    job.staging_in = {};
    job.wedged = false;
    return;
  }
  if (job.staging_in == SteadyTime{}) job.staging_in = now;
  job.staging_in = std::max(job.staging_in, slurm_back_);  // then it was begun anew, if at all
  const bool outage = slurm_back_ != SteadyTime{} && now - slurm_back_ < kAfterAnOutage;
  const bool wedged = only_ours(job.record.burst_buffer) && now - job.staging_in > (outage ? kLostInACrash : kLost);
  if (wedged && !job.wedged)
    parts_.log.warn("job " + std::to_string(job.row.key.job_id) + " (" + job.row.user +
                    ") is staging in for good: slurmctld was killed in the middle of it; only scancel helps");
  job.wedged = job.wedged || wedged;
}

std::vector<std::uint32_t> Staging::wedged_jobs() const {
  std::vector<std::uint32_t> out;
  for (const auto& [id, job] : jobs_)
    if (job->wedged) out.push_back(id);
  return out;
}

}  // namespace atlas
