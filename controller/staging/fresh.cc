// What a job is to be shown: how new, of which settings.
#include <algorithm>

#include "controller/staging/staging.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kLongestLook = 10min;
constexpr auto kLookAgainAfter = 10s;

IoRate rate_of(const Request& request) {
  IoRate out = kUnlimited;
  if (!request.io_limit) return out;
  if (request.io_limit->read) out.bytes = static_cast<double>(request.io_limit->read->count);
  if (request.io_limit->operations) out.operations = static_cast<double>(*request.io_limit->operations);
  return out;
}

}  // namespace

PlanOrder Staging::plan_order(const StagedJob& job) const {
  PlanOrder order{job.row.key,           job.principal(),    {},
                  job.row.reason,        job.row.waited,     job.request.cache.value_or(Bytes{}),
                  job.request.on_change, job.record.account, rate_of(job.request)};
  for (std::size_t i = 0; i < job.datasets.size(); ++i) {
    auto policy = parts_.datasets.policy_of(job.datasets[i]);
    const auto asked = job.asked(policy);
    order.datasets.push_back(
        {job.datasets[i], i < job.row.generations.size() ? job.row.generations[i] : GenerationId{}, std::move(policy),
         asked, i < job.request.datasets.size() && job.request.read_write.contains(job.request.datasets[i])});
  }
  order.divided = divided_by(job, job.row.nodes);
  return order;
}

/// The nodes that divide what does not fit one of them. Tasks of an array are jobs of their own, each on its own node.
/// A node without an agent takes no share; one whose agent is away for a moment keeps its own.
std::vector<NodeAddress> Staging::divided_by(const StagedJob& job, const std::vector<std::string>& nodes) const {
  std::vector<NodeAddress> out;
  if (!parts_.config.warm.peers || job.row.array || nodes.size() < 2) return out;
  for (const auto& node : nodes)
    if (const auto* agent = parts_.registry.find(node); agent != nullptr && !agent->address.empty())
      out.push_back({node, agent->address});
  std::sort(out.begin(), out.end());
  if (out.size() < 2) out.clear();
  return out;
}

WarmOrder Staging::warm_order(const StagedJob& job, std::size_t dataset, const std::vector<std::string>& nodes) const {
  WarmOrder order{job.datasets[dataset], job.principal(), job.row.key, job.request.cache.value_or(Bytes{})};
  order.policy = parts_.datasets.policy_of(order.dataset);
  order.asked = job.asked(order.policy);
  order.keep = job.request.on_change == OnChange::keep;
  order.account = job.record.account;
  order.io_limit = rate_of(job.request);
  order.divided = divided_by(job, nodes);
  return order;
}

/// --on-change=fail: what the datasets are now is what the job must find when it starts. On record before anything else
/// is done about the job; if no node can be asked, the job's own warm-up says it later.
void Staging::note_what_it_is(StagedJob& job) {
  const auto now = parts_.clock.now();
  if (job.request.on_change != OnChange::fail || job.looking || job.hopeless || job.knows_what_it_was() ||
      (job.looked != SteadyTime{} && now - job.looked < kLookAgainAfter))
    return;
  const AgentInfo* agent = nullptr;
  for (const auto& [name, info] : parts_.registry.agents())
    if (info.in_service() && agent == nullptr) agent = &info;
  if (agent == nullptr) return;
  job.looking = true;
  job.row.generations.resize(job.datasets.size());
  for (std::size_t i = 0; i < job.datasets.size(); ++i) {
    if (!job.row.generations[i].empty()) continue;
    parts_.agents.survey(agent->address, job.datasets[i], job.principal(), parts_.datasets.policy_of(job.datasets[i]),
                         kLongestLook, [this, key = job.row.key, i](const Result<WarmProgress>& seen) {
                           parts_.strand.post([this, key, i, seen] {
                             auto* same = find(key);
                             if (same == nullptr) return;
                             same->looking = false;
                             if (seen && !seen->generation.id.empty() && same->row.generations[i].empty()) {
                               same->row.generations[i] = seen->generation.id;
                               parts_.registry.note_generation(same->datasets[i], seen->generation);
                               return touch(*same);
                             }
                             same->looked = parts_.clock.now();
                             if (!seen)
                               parts_.log.warn("job " + std::to_string(key.job_id) + ": what " +
                                               parts_.datasets.label_of(same->datasets[i]) +
                                               " was at its submit is not known: " + seen.error().message);
                           });
                         });
  }
}

}  // namespace atlas
