#include "controller/staging/followers.h"

#include <algorithm>
#include <vector>

namespace atlas {
namespace {

// A job that does not start for so long after its predecessor's end waits for more than that: then its data is what any
// pending job's is (Outlook::wanted).
constexpr std::chrono::hours kLongest{1};

bool may_come(const StagedJob& job) {
  return job.pending() && !job.hopeless && !job.record.held && job.record.state_reason != "DependencyNeverSatisfied";
}

}  // namespace

bool Followers::look(const Jobs& jobs, const Registry& registry, SteadyTime now) {
  bool more = false;
  std::multimap<std::uint32_t, const StagedJob*> running;  // by their own numbers, and their arrays'
  const bool any = std::any_of(jobs.begin(), jobs.end(), [](const auto& at) { return at.second->record.dependent; });
  for (const auto& [id, job] : jobs) {
    if (!any || job->ending || job->row.phase != JobPhase::running) continue;
    running.emplace(id, job.get());
    if (const auto array = job->record.array_job_id; array != 0 && array != id) running.emplace(array, job.get());
  }
  for (const auto& [id, job] : jobs) {
    if (running.empty() || !job->record.dependent || !may_come(*job)) continue;
    for (const auto followed : job->record.follows) {
      const auto [from, to] = running.equal_range(followed);
      for (auto at = from; at != to; ++at)
        for (const auto& dataset : job->datasets) {
          const auto& theirs = at->second->datasets;
          // Naming a dataset is no right to keep it in caches.
          if (std::find(theirs.begin(), theirs.end(), dataset) == theirs.end() ||
              !registry.has_read(dataset, job->row.uid))
            continue;
          for (const auto& node : at->second->row.nodes)
            if (registry.complete_on(node, dataset))
              more = held_.insert_or_assign({id, node, dataset}, now).second || more;
        }
    }
  }
  std::erase_if(held_, [&](const auto& item) {
    const auto job = jobs.find(std::get<0>(item.first));
    return job == jobs.end() || !may_come(*job->second) || now - item.second > kLongest;
  });
  return more;
}

Followers::Places Followers::places() const {
  Places out;
  for (const auto& [heir, seen] : held_) out.emplace(std::get<1>(heir), std::get<2>(heir));
  return out;
}

}  // namespace atlas
