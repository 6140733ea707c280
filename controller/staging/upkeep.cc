#include "controller/staging/upkeep.h"

#include <algorithm>
#include <vector>

namespace atlas {
namespace {

using namespace std::chrono_literals;

constexpr auto kEvery = 2s;
constexpr auto kAgainAfter = 10min;

}  // namespace

void Upkeep::look() {
  const auto now = clock_.now();
  if (looked_ != SteadyTime{} && now - looked_ < kEvery) return;
  looked_ = now;
  std::erase_if(failed_, [&](const auto& item) { return now - item.second > kAgainAfter; });
  for (const auto& [dataset, settings] : datasets_.settings()) {
    if (settings.policy.ttl.count() != 0 && !datasets_.pinned(dataset)) drop_unused(dataset, settings.policy.ttl);
    if (settings.policy.replicas != 0) spread(dataset, settings);
  }
}

void Upkeep::drop_unused(const DatasetId& dataset, std::chrono::milliseconds ttl) {
  const auto oldest = clock_.wall() - ttl;
  for (const auto& [node, agent] : registry_.agents()) {
    if (!agent.connected) continue;
    for (auto at = agent.replicas.lower_bound({dataset, GenerationId{}});
         at != agent.replicas.end() && at->first.first == dataset; ++at) {
      const auto& replica = at->second;
      if (!replica.leases.empty() || replica.last_used > oldest || warmups_.warming(node, dataset)) continue;
      const auto key = std::pair(node, at->first.second);
      if (!dropping_.insert(key).second) continue;
      agents_.evict(agent.address, dataset, at->first.second,
                    [this, key, label = datasets_.label_of(dataset), ttl](const Result<EvictOutcome>& outcome) {
                      strand_.post([this, key, label, ttl, outcome] {
                        dropping_.erase(key);
                        if (outcome && outcome->replicas != 0)
                          tell_(label + " was not used on " + key.first + " for " + format_duration(ttl) + ": " +
                                format_size(outcome->bytes) + " freed");
                      });
                    });
    }
  }
}

/// To the nodes with the most room; by the rights of who settled it.
void Upkeep::spread(const DatasetId& dataset, const DatasetSettings& settings) {
  std::size_t have = 0;
  std::vector<const AgentInfo*> others;
  for (const auto& [node, agent] : registry_.agents()) {
    if (!agent.in_service()) continue;
    if (registry_.complete_on(node, dataset) || warmups_.warming(node, dataset)) {
      ++have;
    } else if (!failed_.contains({node, dataset})) {
      others.push_back(&agent);
    }
  }
  if (have == 0 || have >= settings.policy.replicas) return;
  std::stable_sort(others.begin(), others.end(), [](const AgentInfo* a, const AgentInfo* b) {
    return Registry::room_on(*a) > Registry::room_on(*b);
  });
  others.resize(std::min<std::size_t>(others.size(), settings.policy.replicas - have));
  const auto account = account_of_(settings.uid);
  for (const auto* agent : others) {
    WarmOrder order{dataset, {settings.uid, settings.gid, {}}, {}, {}};
    order.policy = datasets_.policy_of(dataset);
    order.asked = clock_.wall();
    order.account = account;
    tell_(datasets_.label_of(dataset) + " goes to " + agent->node +
          " too: " + std::to_string(settings.policy.replicas) + " replicas are wanted");
    static_cast<void>(warmups_.want(agent->node, order,
                                    {{}, [this, place = Place(agent->node, dataset)](const Result<Generation>& result) {
                                       if (result) return;
                                       failed_[place] = clock_.now();
                                       tell_(datasets_.label_of(place.second) + " on " + place.first + ": " +
                                             result.error().message);
                                     }}));
  }
}

}  // namespace atlas
