// What the nodes of a job divide because it does not fit one of them.
#include <algorithm>

#include "cache-agent/warm/chosen.h"
#include "cache-agent/warm/warm_engine.h"
#include "cache-agent/warm/warm_up.h"

namespace atlas::agent {
namespace {

constexpr std::chrono::minutes kSpaceForAWarmUp{1};

}  // namespace

/// Of one dataset on a node, as far as anybody has said.
Bytes WarmEngine::limit_of(const DatasetId& dataset, Bytes cache_limit) const {
  const Bytes settings = policy_of(dataset).cache;
  if (settings.count == 0 || cache_limit.count == 0) return std::max(settings, cache_limit);
  return std::min(settings, cache_limit);
}

std::shared_ptr<const Share> WarmEngine::divide(const Division& division, const Principal& as, const DatasetId& dataset,
                                                const Manifest& manifest) {
  if (!options_.divide) return nullptr;
  return shares_.of(division.job, as, manifest, dataset, division.nodes, limit_of(dataset, division.cache_limit));
}

std::shared_ptr<const Share> WarmEngine::share_of(const Division& division, const Principal& as,
                                                  const Replica& replica) {
  if (division.nodes.size() < 2 || replica.state() == ReplicaState::complete || replica.may_hold_all()) return nullptr;
  const auto manifest = replica.manifest();
  return manifest ? divide(division, as, replica.dataset(), **manifest) : nullptr;
}

/// The data of a replica that has its share and what it has besides already; at least 1.
Bytes WarmEngine::wanted_by(const Share* share, const Manifest& manifest, const std::shared_ptr<Replica>& here) {
  std::uint64_t bytes = 1;
  for (FileIndex i = 0; i < manifest.size(); ++i) {
    const auto entry = manifest.at(i);
    for (std::uint32_t block = 0; block < entry.blocks; ++block) {
      const std::uint64_t at = block * kBlock.count;
      const std::uint64_t length = std::min(kBlock.count, entry.attributes.size - at);
      if (share->mine(manifest, i, at) || (here && here->resident(manifest, {i, Bytes{at}, Bytes{length}})))
        bytes += (length + 4095) / 4096 * 4096;
    }
  }
  return Bytes{bytes};
}

/// A warm-up of what is this node's of a generation of which not all may be here. What does not fit is left out: it is
/// read through. Without a share it is an error that not all may be here.
Status WarmEngine::fill_share(WarmUp& up, const Seen& seen, const Chosen& chosen, const Error& why_not_all) {
  const auto& request = up.request;
  const auto& manifest = seen.manifest;
  const auto& summary = manifest->summary();
  const auto share =
      divide({request.payer, request.divided, request.cache_limit}, request.as, request.dataset, *manifest);
  if (!share) return fail(why_not_all);
  Bytes most = wanted_by(share.get(), *manifest, store_.find(request.dataset, summary.generation));
  if (request.cache_limit.count != 0) {
    const std::lock_guard lock(mutex_);
    auto& filled = filled_[request.payer.job_id];
    std::uint64_t others = 0;
    for (const auto& [dataset, bytes] : filled)
      if (dataset != request.dataset) others += bytes;
    if (others >= request.cache_limit.count) return fail(why_not_all);
    most = std::min(most, request.cache_limit - Bytes{others});
    filled[request.dataset] = most.count;
  }
  ATLAS_ASSIGN(auto replica, open_replica(request.dataset, manifest, most,
                                          {request.as.uid, request.as.gid, request.account}, kSpaceForAWarmUp));
  up.expect(most);
  up.fill_into(replica);
  up.enter(WarmPhase::fetching, clock_.now());
  std::map<FileIndex, FileMeta> none;
  Status status = replica->prepare();
  if (status) status = fetch_all(up, replica, *manifest, chosen, share.get(), none);
  if (!status && status.error().code != Code::resource_exhausted) {
    up.fill_into(nullptr);
    return settle(request.dataset, std::move(replica), status);
  }
  up.skipped = std::max<std::uint64_t>(1, summary.files - replica->files_resident());
  ATLAS_TRY(store_.vouch(*replica, request.as, seen.walked));
  store_.settle(replica);
  return {};
}

}  // namespace atlas::agent
