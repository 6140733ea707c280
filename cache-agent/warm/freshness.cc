// How old may the walk be that says what a job is shown, and whose may it be?
#include <algorithm>

#include "cache-agent/origin/reader_pool.h"
#include "cache-agent/warm/warm_engine.h"

namespace atlas::agent {

void WarmEngine::learn(const DatasetId& dataset, const DatasetPolicy& policy) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = policies_.find(dataset);
    if (known == policies_.end() ? policy == DatasetPolicy{} : known->second == policy) return;
    // What a walk left out, or did not, is another tree now.
    if (policy_in_lock(dataset).exclude != policy.exclude) {
      std::erase_if(vouches_, [&](const auto& item) { return item.first.first == dataset; });
      for (const auto& [walker, walk] : walks_)
        if (walker.first == dataset) walk->stop.request_stop();  // whoever waits for it begins another
    }
    policies_[dataset] = policy;
  }
  store_.prefer(dataset, policy.tier);
  static_cast<void>(store_.database().put_policy(dataset, policy));  // the controller tells it again
}

DatasetPolicy WarmEngine::policy_in_lock(const DatasetId& dataset) const {
  const auto known = policies_.find(dataset);
  return known == policies_.end() ? DatasetPolicy{} : known->second;
}

DatasetPolicy WarmEngine::policy_of(const DatasetId& dataset) const {
  const std::lock_guard lock(mutex_);
  return policy_in_lock(dataset);
}

Patterns WarmEngine::excluded(const DatasetId& dataset) const {
  auto all = policy_of(dataset).exclude;
  if (const auto more = options_.exclude.find(dataset.origin); more != options_.exclude.end())
    all.insert(all.end(), more->second.begin(), more->second.end());
  return Patterns(all);
}

std::optional<Principal> WarmEngine::granted_by(const DatasetId& dataset, const Principal& as) const {
  const Principal who = with_groups(as);
  for (const auto& grant : policy_of(dataset).grants)
    if (grant.owner != who.uid && std::find(who.groups.begin(), who.groups.end(), grant.group) != who.groups.end())
      return with_groups({grant.owner, grant.owner_group, {}});
  return std::nullopt;
}

/// Does the tree take long to list, then or now? The storage may be slow, or hang. mutex_ is held.
bool WarmEngine::takes_long(const Walker& walker, const Vouch& vouch) const {
  const auto now = walks_.find(walker);
  return vouch.ended - vouch.began > options_.brief_walk ||
         (now != walks_.end() && clock_.now() - now->second->began >= options_.brief_walk);
}

/// mutex_ is held.
bool WarmEngine::vouches(const Walker& walker, const Vouch& vouch, const Asked& asked) const {
  const auto policy = policy_in_lock(walker.first);
  const auto age = clock_.now() - vouch.began;
  const bool asked_before = vouch.began >= asked.when;
  switch (policy.revalidate) {
    case Revalidate::ttl:
      return age <= policy.revalidate_after;
    case Revalidate::always:
      return age <= options_.revalidate && asked_before;
    case Revalidate::never:  // of what is not complete; see kept()
    default:
      return age <= options_.revalidate && (asked_before || takes_long(walker, vouch));
  }
}

/// What a walk of this principal has shown, if it will do; mutex_ is held.
std::optional<WarmEngine::Vouch> WarmEngine::known(const Walker& walker, const Asked& asked) const {
  const auto it = vouches_.find(walker);
  if (it == vouches_.end() || !vouches(walker, it->second, asked)) return std::nullopt;
  if (it->second.ended < clock_.now() - options_.revalidate) {
    // An old version is good for who reads a copy of it. What has to be read from the origin may be another by now.
    const auto replica = store_.find(walker.first, it->second.generation);
    if (!replica || replica->state() != ReplicaState::complete) return std::nullopt;
  }
  return it->second;
}

/// The newest complete version that a walk of this principal has shown, ever, if no newer walk is wanted.
std::optional<GenerationId> WarmEngine::kept(const Walker& walker, const Asked& asked) const {
  if (!asked.keep && policy_of(walker.first).revalidate != Revalidate::never) return std::nullopt;
  const auto replica = store_.newest_complete_for(walker.first, walker.second);
  return replica ? std::optional(replica->generation()) : std::nullopt;
}

/// mutex_ is held.
void WarmEngine::forget_old_walks() {
  const SteadyTime oldest = clock_.now() - options_.revalidate;
  for (auto& [walker, vouch] : vouches_)
    if (vouch.ended < oldest) vouch.manifest.reset();
  std::erase_if(vouches_, [&](const auto& item) {
    const auto& [walker, vouch] = item;
    return vouch.ended < oldest && !vouches(walker, vouch, {vouch.began});
  });
}

/// mutex_ is held.
void WarmEngine::remember(const Walker& walker, const std::shared_ptr<const Manifest>& manifest, SteadyTime began) {
  const auto expire = [this] {
    const std::lock_guard timer_lock(mutex_);
    forget_old_walks();
  };
  vouches_[walker] = {manifest->summary().generation,
                      began,
                      clock_.now(),
                      clock_.wall(),
                      manifest,
                      front_.post_at(clock_.now() + options_.revalidate + std::chrono::milliseconds(1), expire)};
}

}  // namespace atlas::agent
