#include "cache-agent/warm/shares.h"

#include <algorithm>

namespace atlas::agent {

std::shared_ptr<const Share> Shares::of(const JobKey& job, const Principal& as, const Manifest& manifest,
                                        const DatasetId& dataset, const std::vector<NodeAddress>& nodes, Bytes cache) {
  const bool among = std::any_of(nodes.begin(), nodes.end(), [&](const auto& node) { return node.node == node_; });
  if (job.job_id == 0 || nodes.size() < 2 || !among) return nullptr;
  const std::pair key{job.job_id, dataset};
  const GenerationId generation = manifest.summary().generation;
  {
    const std::lock_guard lock(mutex_);
    const auto at = held_.find(key);
    if (at != held_.end() && at->second.job == job && at->second.generation == generation &&
        at->second.nodes == nodes && at->second.cache == cache) {
      at->second.as = as;
      return at->second.share;
    }
  }
  // Looks at each file; two that come at once make the same.
  auto share = std::make_shared<const Share>(manifest, nodes, node_, fetcher_.chunk(), cache);
  const std::lock_guard lock(mutex_);
  held_[key] = {job, as, generation, nodes, cache, share};
  return share;
}

bool Shares::bring(std::uint32_t job_id, const std::shared_ptr<Replica>& replica, const Extent& want,
                   std::function<void()> failed) {
  Held held;
  {
    const std::lock_guard lock(mutex_);
    const auto at = held_.find({job_id, replica->dataset()});
    if (at == held_.end() || at->second.generation != replica->generation()) return false;
    held = at->second;
  }
  const auto manifest = replica->manifest();
  if (!manifest || !held.share->mine(**manifest, want.file, want.offset.count)) return false;
  if (!fetcher_.can_keep(*replica, **manifest, want)) return false;
  fetcher_
      .fetch({replica, want, held.as, held.job, Urgency::fault},
             [failed = std::move(failed)](const Status& status) {
               if (!status) failed();
             })
      .detach();
  return true;
}

bool Shares::parked(std::uint32_t job_id, const DatasetId& dataset) {
  Principal as;
  JobKey job;
  {
    const std::lock_guard lock(mutex_);
    const auto at = held_.find({job_id, dataset});
    if (at == held_.end()) return false;
    as = at->second.as;
    job = at->second.job;
  }
  return fetcher_.parks(as, job);
}

void Shares::forget_job(std::uint32_t job_id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(held_, [job_id](const auto& one) { return one.first.first == job_id; });
}

}  // namespace atlas::agent
