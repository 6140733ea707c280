// Walks that several wait for, and replicas that are read before they are complete.
#include "cache-agent/origin/reader_pool.h"
#include "cache-agent/store/sharing.h"
#include "cache-agent/warm/counting_builder.h"
#include "cache-agent/warm/guarded.h"
#include "cache-agent/warm/warm_engine.h"
#include "cache-agent/warm/warm_up.h"
#include "common/memory.h"

namespace atlas::agent {
namespace {

/// Files that can be taken over from an older generation while a job waits to be attached: 2 s at 20 us each.
constexpr std::size_t kLentInTime = 100'000;
/// How long what its user need not keep may take to make way, while a job waits to be attached.
constexpr std::chrono::milliseconds kSpaceForAJobThatStarts{500};

}  // namespace

/// The walk that is under way, else one that begins now, on a thread of its own: it may hang with the origin. mutex_ is
/// held.
std::shared_ptr<WarmEngine::Walk> WarmEngine::join_walk(const Walker& walker, const Principal& as) {
  auto& slot = walks_[walker];
  if (slot) return slot;
  slot = std::make_shared<Walk>();
  slot->began = clock_.now();
  ++active_;
  walkers_.post([this, walker, as, walk = slot] { lead(walker, as, walk); });
  return slot;
}

/// Walks, and tells those who wait. `walk` is in walks_.
void WarmEngine::lead(const Walker& walker, const Principal& as, const std::shared_ptr<Walk>& walk) {
  const auto& dataset = walker.first;
  const auto go = [&]() -> WalkResult {
    const Patterns exclude = excluded(dataset);
    CountingBuilder builder(absolute(dataset), !exclude.empty(), walk->seen);
    ATLAS_TRY(origins_.at(dataset.origin)->walk(as, dataset.path, exclude, builder, walk->stop.get_token()));
    return builder.build();
  };
  WalkResult result = guarded(go);
  if (walk->seen > kMany) return_free_memory();
  const std::lock_guard lock(mutex_);
  if (walk->stop.stop_requested())
    result = fail(Code::cancelled, "the listing of its files was called off");
  else if (result)
    remember(walker, *result, walk->began);
  walk->ended = clock_.wall();
  walk->result = std::move(result);
  walks_.erase(walker);
  changed_.notify_all();
  if (--active_ == 0) idle_.notify_all();
}

/// Waits for the walk to end; at the latest until `deadline`, and until it has turned out not to be brief: then an
/// older one may do. mutex_ is held by `lock`. True when it has ended.
bool WarmEngine::await(std::unique_lock<std::mutex>& lock, const Walk& walk, const std::stop_token& stop,
                       SteadyTime deadline) {
  const SteadyTime brief_until = walk.began + options_.brief_walk;
  if (clock_.now() < brief_until) deadline = std::min(deadline, brief_until);
  return changed_.wait_until(lock, stop, deadline, [&] { return walk.result.has_value(); });
}

/// What a walk shows that is under way or begins now; one that begins now, if it has to be fresh.
Result<WarmEngine::Seen> WarmEngine::walk(WarmUp& up, bool fresh) {
  const auto& request = up.request;
  const Walker walker{request.dataset, key_of(request.as)};
  const SteadyTime wanted = fresh ? clock_.now() : request.asked.when;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (up.stop.stop_requested()) return fail(Code::cancelled, "the warm-up was cancelled");
    const auto vouch = fresh ? std::nullopt : known(walker, request.asked);
    if (vouch && vouch->manifest) return Seen{vouch->generation, vouch->manifest, vouch->wall};
    const auto walk = join_walk(walker, request.as);
    up.count(std::shared_ptr<std::atomic<std::uint64_t>>(walk, &walk->seen));
    ++walk->waiting;
    const bool ended = await(lock, *walk, up.stop.get_token(), SteadyTime::max());
    // Nobody else waits for what a cancelled warm-up wanted to know.
    if (--walk->waiting == 0 && up.stop.stop_requested()) walk->stop.request_stop();
    if (!ended || walk->began < wanted) continue;  // it may have missed something: then the next one does not
    if (*walk->result) return Seen{(**walk->result)->summary().generation, **walk->result, walk->ended};
    if (walk->result->error().code != Code::cancelled) return fail(walk->result->error());
  }
}

Result<std::shared_ptr<Replica>> WarmEngine::open_replica(const DatasetId& dataset,
                                                          const std::shared_ptr<const Manifest>& manifest,
                                                          std::optional<Bytes> most, const Payer& payer,
                                                          std::chrono::milliseconds patience) {
  const auto& summary = manifest->summary();
  const std::pair key{dataset, summary.generation};
  Lender lender;
  if (!most || most->count == 0) lender = store_.lender_for(dataset, *manifest);
  if (most && lender.files.size() > kLentInTime) lender = {};
  // What makes way for it may take its time: nobody else waits for that.
  const SpaceQuestion question{dataset, summary.generation, payer, {}, {}, {}, patience};
  auto allowed = ask_for_space(question, summary, Bytes{lender.bytes}, most);
  if (!allowed && lender.replica) {  // it may be what has to make way
    lender = {};
    allowed = ask_for_space(question, summary, {}, most);
  }
  if (!allowed) return fail(allowed.error());
  {
    std::unique_lock lock(mutex_);  // two that make the same directory would spoil each other's work
    changed_.wait(lock, [&] { return opening_.insert(key).second; });
  }
  const auto reserve = [&]() -> Result<Reservation> {
    if (!most || most->count == 0) {
      auto all = store_.reserve(dataset, summary, lender);
      if (all || !most) return all;
    }
    lender = {};
    return store_.reserve_some(dataset, summary, *most);
  };
  const auto open = [&]() -> Result<std::shared_ptr<Replica>> {
    ATLAS_ASSIGN(auto reservation, reserve());
    ATLAS_ASSIGN(auto opened, store_.open(dataset, manifest, std::move(reservation), payer));
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

/// Makes `most` what the payer's quota allows; an error when that is not enough. With nobody to ask it does not hold.
Status WarmEngine::ask_for_space(SpaceQuestion question, const ManifestSummary& summary, Bytes lent,
                                 std::optional<Bytes>& most) {
  if (space_ == nullptr) return {};
  const auto need = store_.need_of(question.dataset, summary, most, lent);
  if (need.most.count == 0) return {};
  question.have = need.have;
  question.most = need.most;
  question.least = need.least;
  const auto answer = space_->ask(question);
  const bool enough = !answer || answer->granted >= need.most;
  {
    const std::lock_guard lock(mutex_);
    const std::pair key{question.dataset, question.payer.uid};
    if (enough) {
      refused_.erase(key);
    } else {
      refused_[key] = answer->reason;
    }
  }
  if (enough) return {};
  if (!most || answer->granted < need.least) return fail(Code::out_of_range, answer->reason);
  const Bytes total = need.have + answer->granted;
  most = Bytes{std::max<std::uint64_t>(1, total.count - std::min(total.count, need.overhead.count))};
  return {};
}

std::string WarmEngine::why_not_more(const DatasetId& dataset, std::uint32_t uid) const {
  const std::lock_guard lock(mutex_);
  const auto found = refused_.find({dataset, uid});
  return found == refused_.end() ? "" : found->second;
}

Result<WarmEngine::Seen> WarmEngine::observe(const DatasetId& dataset, const Principal& as, SteadyTime deadline,
                                             const Asked& asked) {
  ATLAS_TRY(check(dataset));
  if (!origins_.contains(dataset.origin))
    return fail(Code::not_found, "origin '" + dataset.origin + "' is not configured on node " + options_.node);
  const Principal who = with_groups(as);
  const Walker walker{dataset, key_of(who)};
  if (const auto generation = kept(walker, asked)) return Seen{*generation, nullptr, {}};
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stopping_) return fail(Code::unavailable, "the agent of node " + options_.node + " is stopping");
    if (const auto vouch = known(walker, asked)) return Seen{vouch->generation, vouch->manifest, vouch->wall};
    if (clock_.now() >= deadline) return fail(Code::deadline_exceeded, "its files are still being listed");
    const auto walk = join_walk(walker, who);
    ++walk->waiting;
    const bool ended = await(lock, *walk, {}, deadline);
    --walk->waiting;
    if (!ended) continue;
    if (!*walk->result && walk->result->error().code != Code::cancelled) return fail(walk->result->error());
    // One that had begun before it was asked for may have missed something: then the next one does not.
    if (*walk->result && walk->began >= asked.when)
      return Seen{(**walk->result)->summary().generation, **walk->result, walk->ended};
  }
}

/// Of what the nodes of a job divide room is taken for this one's share alone.
Result<std::shared_ptr<Replica>> WarmEngine::open_some(const DatasetId& dataset, const Principal& as,
                                                       const std::shared_ptr<const Manifest>& manifest, Bytes most,
                                                       const std::string& account, const Division& division) {
  const Payer payer{as.uid, as.gid, account};
  if (division.nodes.size() > 1) {
    if (most.count == 0) {
      if (auto all = open_replica(dataset, manifest, std::nullopt, payer, kSpaceForAJobThatStarts)) return all;
    }
    if (most.count == 0 || most.count < manifest->summary().bytes) {
      if (const auto share = divide(division, as, dataset, *manifest)) {
        const Bytes own = wanted_by(share.get(), *manifest, store_.find(dataset, manifest->summary().generation));
        most = most.count == 0 ? own : std::min(most, own);
      }
    }
  }
  return open_replica(dataset, manifest, most, payer, kSpaceForAJobThatStarts);
}

Result<std::shared_ptr<Replica>> WarmEngine::open_partial(const DatasetId& dataset, const Principal& as, Bytes most,
                                                          SteadyTime deadline, const Asked& asked,
                                                          const std::string& account, const Division& division) {
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
    ATLAS_ASSIGN(replica, open_some(dataset, who, seen.manifest, most, account, division));
    ATLAS_TRY(replica->prepare());
    WarmRequest reading;
    reading.dataset = dataset;
    reading.settled_only = true;
    replica->keep_only_before(unsettled_since(reading, replica->generation()));
  }
  ATLAS_TRY(store_.vouch(*replica, who, seen.walked));
  if (const auto why = replica->why_not_viewable_for(who); !why.empty()) return fail(Code::failed_precondition, why);
  return replica;
}

}  // namespace atlas::agent
