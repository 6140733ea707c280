// Walks that several wait for, and replicas that are read before they are complete.
#include "cache-agent/origin/reader_pool.h"
#include "cache-agent/store/sharing.h"
#include "cache-agent/warm/counting_builder.h"
#include "cache-agent/warm/warm_engine.h"
#include "cache-agent/warm/warm_up.h"

namespace atlas::agent {
namespace {

/// Files that can be taken over from an older generation while a job waits to be attached: 2 s at 20 us each.
constexpr std::size_t kLentInTime = 100'000;

}  // namespace

/// Walks, and tells those who wait. `walk` is in walks_.
WarmEngine::WalkResult WarmEngine::lead(const Walker& walker, const Principal& as, const std::shared_ptr<Walk>& walk,
                                        std::atomic<std::uint64_t>& seen) {
  const auto& dataset = walker.first;
  const auto go = [&]() -> WalkResult {
    const Patterns exclude = excluded(dataset);
    CountingBuilder builder(absolute(dataset), !exclude.empty(), seen);
    ATLAS_TRY(origins_.at(dataset.origin)->walk(as, dataset.path, exclude, builder, walk->stop.get_token()));
    return builder.build();
  };
  WalkResult result = go();
  if (result) remember(dataset, as, *result, walk->began);
  {
    const std::lock_guard lock(mutex_);
    walk->result = result;
    walks_.erase(walker);
  }
  changed_.notify_all();
  return result;
}

/// Joins a walk that is under way, unless it has to be one that begins now.
Result<std::shared_ptr<const Manifest>> WarmEngine::walk(WarmUp& up, bool fresh) {
  const auto& request = up.request;
  const Walker walker{request.dataset, key_of(request.as)};
  up.entries_seen = 0;
  for (;;) {
    std::shared_ptr<Walk> walk;
    {
      std::unique_lock lock(mutex_);
      const auto vouch = fresh ? std::nullopt : known(walker, request.asked);
      if (vouch && vouch->manifest) {
        up.describe(vouch->manifest->summary(), vouch->wall);
        return vouch->manifest;
      }
      auto& slot = walks_[walker];
      if (slot) {
        walk = slot;
        changed_.wait(lock, up.stop.get_token(), [&] { return walk->result.has_value(); });
        if (up.stop.stop_requested()) return fail(Code::cancelled, "the warm-up was cancelled");
        if (!fresh && !*walk->result && walk->result->error().code != Code::cancelled)
          return fail(walk->result->error());
        continue;
      }
      walk = slot = std::make_shared<Walk>();
      walk->led = true;
      walk->began = clock_.now();
    }
    const std::stop_callback stop(up.stop.get_token(), [&] { walk->stop.request_stop(); });
    ATLAS_ASSIGN(auto manifest, lead(walker, request.as, walk, up.entries_seen));
    up.describe(manifest->summary(), clock_.wall());
    return manifest;
  }
}

Result<std::shared_ptr<Replica>> WarmEngine::open_replica(const DatasetId& dataset,
                                                          const std::shared_ptr<const Manifest>& manifest,
                                                          std::optional<Bytes> most) {
  const auto& summary = manifest->summary();
  const std::pair key{dataset, summary.generation};
  {
    std::unique_lock lock(mutex_);  // two that make the same directory would spoil each other's work
    changed_.wait(lock, [&] { return opening_.insert(key).second; });
  }
  Lender lender;
  const auto reserve = [&]() -> Result<Reservation> {
    if (!most || most->count == 0) {
      lender = store_.lender_for(dataset, *manifest);
      if (most && lender.files.size() > kLentInTime) lender = {};
      auto all = store_.reserve(dataset, summary, lender);
      if (all || !most) return all;
    }
    return store_.reserve_some(dataset, summary, *most);
  };
  const auto open = [&]() -> Result<std::shared_ptr<Replica>> {
    ATLAS_ASSIGN(auto reservation, reserve());
    ATLAS_ASSIGN(auto opened, store_.open(dataset, manifest, std::move(reservation)));
    if (!lender.files.empty()) {
      ATLAS_TRY(opened->prepare());
      ATLAS_TRY(lend(lender, *opened));
    }
    return opened;
  };
  auto replica = open();
  {
    const std::lock_guard lock(mutex_);
    opening_.erase(key);
  }
  changed_.notify_all();
  return replica;
}

Result<WarmEngine::Seen> WarmEngine::observe(const DatasetId& dataset, const Principal& as, SteadyTime deadline,
                                             const Asked& asked) {
  ATLAS_TRY(check(dataset));
  if (!origins_.contains(dataset.origin))
    return fail(Code::not_found, "origin '" + dataset.origin + "' is not configured on node " + options_.node);
  const Principal who = with_groups(as);
  const Walker walker{dataset, key_of(who)};
  if (const auto generation = kept(walker, asked)) return Seen{*generation, nullptr};
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stopping_) return fail(Code::unavailable, "the agent of node " + options_.node + " is stopping");
    if (const auto vouch = known(walker, asked)) return Seen{vouch->generation, vouch->manifest};
    auto& slot = walks_[walker];
    const auto walk = slot ? slot : slot = std::make_shared<Walk>();
    if (!std::exchange(walk->led, true)) {
      walk->began = clock_.now();
      ++active_;
      runners_.post([this, walker, who, walk] {
        std::atomic<std::uint64_t> seen{0};
        static_cast<void>(lead(walker, who, walk, seen));  // told to those who wait
        const std::lock_guard over(mutex_);
        if (--active_ == 0) idle_.notify_all();
      });
    }
    if (!changed_.wait_until(lock, deadline, [&] { return walk->result.has_value(); }))
      return fail(Code::deadline_exceeded, "its files are still being listed");
    if (!*walk->result) return fail(walk->result->error());
    // One that had begun before it was asked for may have missed something: then the next one does not.
    if (walk->began >= asked.when) return Seen{(**walk->result)->summary().generation, **walk->result};
  }
}

Result<std::shared_ptr<Replica>> WarmEngine::open_partial(const DatasetId& dataset, const Principal& as, Bytes most,
                                                          SteadyTime deadline, const Asked& asked) {
  ATLAS_ASSIGN(auto seen, observe(dataset, as, deadline, asked));
  const Principal who = with_groups(as);
  auto replica = store_.find(dataset, seen.generation);
  const bool complete = replica && replica->state() == ReplicaState::complete;
  if (!complete && !seen.manifest && replica) {
    if (auto stored = replica->manifest()) seen.manifest = std::move(*stored);
  }
  if (!complete && !seen.manifest) {
    ATLAS_ASSIGN(seen, observe(dataset, as, deadline, {clock_.now()}));
  }
  if (!complete) {
    replica.reset();  // so that making room sees it as it is
    const Bytes limit = policy_of(dataset).cache;
    if (limit.count != 0 && limit.count < seen.manifest->summary().bytes)
      most = most.count == 0 ? limit : std::min(most, limit);
    ATLAS_ASSIGN(replica, open_replica(dataset, seen.manifest, most));
    ATLAS_TRY(replica->prepare());
    WarmRequest reading;
    reading.dataset = dataset;
    reading.settled_only = true;
    replica->keep_only_before(unsettled_since(reading, replica->generation()));
  }
  ATLAS_TRY(store_.vouch(*replica, who, clock_.wall()));
  if (const auto why = replica->why_not_viewable_for(who); !why.empty()) return fail(Code::failed_precondition, why);
  return replica;
}

}  // namespace atlas::agent
