#include "cache-agent/warm/warm_engine.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "cache-agent/origin/reader_pool.h"
#include "cache-agent/warm/chosen.h"
#include "cache-agent/warm/counting_builder.h"
#include "cache-agent/warm/guarded.h"
#include "cache-agent/warm/warm_up.h"
#include "common/memory.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

/// A dataset that changes while it is cached is looked at again so often; then the warm-up fails.
constexpr int kAttempts = 3;
constexpr unsigned kFrontThreads = 4;
constexpr std::chrono::minutes kLongestWalk{10};
/// Half a million files that make way are deleted meanwhile.
constexpr std::chrono::minutes kSpaceForAWarmUp{1};

}  // namespace

WarmEngine::WarmEngine(const std::vector<Origin*>& origins, Store& store, Fetcher& fetcher, const Clock& clock,
                       WarmOptions options)
    : store_(store),
      fetcher_(fetcher),
      clock_(clock),
      options_(std::move(options)),
      shares_(fetcher, options_.node),
      walkers_(options_.runners),
      turns_(runners_, options_.runners, options_.runners_each),
      runners_(options_.runners),
      front_(kFrontThreads) {
  for (Origin* origin : origins) origins_[origin->name()] = origin;
  if (auto policies = store_.database().policies()) policies_ = std::move(*policies);
  for (const auto& [dataset, policy] : policies_) store_.prefer(dataset, policy.tier);
}

WarmEngine::~WarmEngine() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  for (const auto& [key, up] : running_) up->stop.request_stop();
  for (const auto& [key, walk] : walks_) walk->stop.request_stop();
  idle_.wait(lock, [&] { return active_ == 0; });
}

std::string WarmEngine::absolute(const DatasetId& dataset) const {
  const auto it = origins_.find(dataset.origin);
  const std::string root = it == origins_.end() ? "" : it->second->root();
  return dataset.path.empty() ? root : root + "/" + dataset.path;
}

void WarmEngine::warm(WarmRequest request, OnProgress progress, OnDone done) {
  if (const auto ok = check(request.dataset); !ok) return done(fail(ok.error()));
  if (!origins_.contains(request.dataset.origin))
    return done(
        fail(Code::not_found, "origin '" + request.dataset.origin + "' is not configured on node " + options_.node));
  // Resolving groups may ask a directory service, so it does not happen on the caller's thread.
  front_.post([this, request = std::move(request), progress = std::move(progress), done = std::move(done)]() mutable {
    request.as = with_groups(request.as);
    admit(request, progress, done);
  });
}

void WarmEngine::admit(const WarmRequest& request, const OnProgress& progress, const OnDone& done) {
  std::shared_ptr<WarmUp> up;
  bool fresh = false;
  do {
    const std::lock_guard lock(mutex_);
    if (stopping_) return done(fail(Code::unavailable, "the agent of node " + options_.node + " is stopping"));
    auto& slot = running_[key_of_request(request)];
    fresh = slot == nullptr || slot->stop.stop_requested();  // nobody inherits another's cancellation
    if (fresh) {
      slot = std::make_shared<WarmUp>(request, options_.node);
      ++active_;
    }
    up = slot;
  } while (!up->listen(progress, done, clock_.now()));
  if (!fresh) return;
  if (!request.revalidate) {
    const auto complete = already_complete(*up);
    if (!complete || *complete) return finish(up, complete ? Status{} : Status(fail(complete.error())));
  }
  tick(up);
  turns_.post(up->request.as.uid, [this, up] { run(up); });
}

WarmEngine::Running WarmEngine::key_of_request(const WarmRequest& request) {
  return {request.dataset, key_of(request.as), request.cache_limit.count, request.only, request.divided};
}

void WarmEngine::tick(const std::weak_ptr<WarmUp>& weak) {
  const auto up = weak.lock();
  if (!up) return;
  up->tell(clock_.now());
  const std::lock_guard lock(mutex_);
  up->ticking = front_.post_at(clock_.now() + options_.tick, [this, weak] { tick(weak); });
}

void WarmEngine::run(const std::shared_ptr<WarmUp>& up) {
  for (int n = 0; n < kAttempts; ++n) {
    auto done = guarded([&] { return attempt(up, n > 0); });
    if (done && !*done) return;  // it follows another
    if (!done && done.error().code == Code::aborted && n + 1 < kAttempts && !up->stop.stop_requested()) continue;
    return finish(up, done ? Status{} : Status(fail(done.error())));
  }
}

void WarmEngine::finish(const std::shared_ptr<WarmUp>& up, const Status& status) {
  {
    const std::lock_guard lock(mutex_);
    up->ticking.cancel();
    const auto mine = running_.find(key_of_request(up->request));
    if (mine != running_.end() && mine->second == up) running_.erase(mine);
  }
  if (up->snapshot(clock_.now()).files_total > kMany) return_free_memory();
  up->end(status, clock_.now());
  const std::lock_guard lock(mutex_);
  if (--active_ == 0) idle_.notify_all();
}

Result<bool> WarmEngine::attempt(const std::shared_ptr<WarmUp>& up, bool fresh_walk) {
  if (!fresh_walk && !up->request.revalidate) {
    ATLAS_ASSIGN(const bool complete, already_complete(*up));
    if (complete) return true;
  }
  up->enter(WarmPhase::walking, clock_.now());
  const auto owner = granted_by(up->request.dataset, up->request.as);
  if (owner) {
    ATLAS_ASSIGN(const bool there, granted(*up, *owner));
    if (there) return true;
  }
  auto walked = walk(*up, fresh_walk || up->request.revalidate);
  if (!walked && owner && walked.error().code == Code::permission_denied)
    return fail(Code::failed_precondition,
                show(up->request.dataset) + " is shared with a group of " + show(up->request.as) +
                    ", but not all that its owner has now is on node " + options_.node + ": the owner can warm it");
  if (!walked) return fail(walked.error());
  up->describe(walked->manifest->summary(), walked->walked);
  const auto key = std::pair(up->request.dataset, walked->generation);
  std::shared_ptr<WarmUp> other;
  {
    const std::lock_guard lock(mutex_);
    auto& filling = filling_[key];
    other = filling;
    if (!other) {
      filling = up;
    } else if (up->request.only.all()) {
      up->follow(other);
      other->followers.push_back(up);
    }
  }
  if (other && up->request.only.all()) {
    fetcher_.back(other->backers, {up->request.as, up->request.payer, up->stop.get_token()});
    return false;
  }
  const auto filled = guarded([&]() -> Result<bool> {
    ATLAS_TRY(fill(*up, *walked, other != nullptr));
    return true;
  });
  if (other) {
    // The other one has ended early, and taken the room along that it had.
    if (!filled && filled.error().code == Code::resource_exhausted) return fail(Code::aborted, filled.error().message);
    return filled;
  }
  std::vector<std::shared_ptr<WarmUp>> followers;
  {
    const std::lock_guard lock(mutex_);
    filling_.erase(key);
    followers = std::move(up->followers);
  }
  for (const auto& follower : followers) {
    follower->follow(nullptr);
    turns_.post(follower->request.as.uid, [this, follower] { run(follower); });
  }
  if (!filled) return fail(filled.error());
  return true;
}

/// A recent walk of this very principal vouches for a complete replica. Another's does not: what it saw may have been
/// closed, or changed, since.
Result<bool> WarmEngine::already_complete(WarmUp& up) {
  const auto& request = up.request;
  const Walker walker{request.dataset, key_of(request.as)};
  std::optional<GenerationId> generation = kept(walker, request.asked);
  WallTime seen = clock_.wall();
  if (!generation) {
    const std::lock_guard lock(mutex_);
    forget_old_walks();
    const auto vouch = known(walker, request.asked);
    if (!vouch) return false;
    generation = vouch->generation;
    seen = vouch->wall;
  }
  const auto replica = store_.find(request.dataset, *generation);
  if (!replica || !replica->mountable_for(request.as)) return false;
  up.describe(replica->summary(), seen);
  store_.touch(*replica);
  return true;
}

/// A dataset that is shared with this principal: is all that its owner has now here?
Result<bool> WarmEngine::granted(WarmUp& up, const Principal& owner) {
  const auto& request = up.request;
  const auto seen = observe(request.dataset, owner, clock_.now() + kLongestWalk, request.asked);
  const auto replica = seen ? store_.find(request.dataset, seen->generation) : nullptr;
  if (!replica || !replica->mountable_for(owner)) return false;
  // What is kept by the dataset's settings, whenever it was walked, is what it is now.
  up.describe(replica->summary(), seen->walked == WallTime{} ? clock_.wall() : seen->walked);
  store_.touch(*replica);
  return true;
}

Status WarmEngine::check_limit(const WarmUp& up, const ManifestSummary& summary) {
  const auto& request = up.request;
  if (const Bytes most = policy_of(request.dataset).cache; most.count != 0 && summary.bytes > most.count)
    return fail(Code::resource_exhausted, show(request.dataset) + " needs " + format_size(Bytes{summary.bytes}) +
                                              " of cache, but its settings allow " + format_size(most) +
                                              " on a node (atlasctl dataset show)");
  if (request.cache_limit.count == 0) return {};
  const std::lock_guard lock(mutex_);
  auto& filled = filled_[request.payer.job_id];
  std::uint64_t others = 0;
  for (const auto& [dataset, bytes] : filled)
    if (dataset != request.dataset) others += bytes;
  if (others + summary.bytes > request.cache_limit.count)
    return fail(Code::resource_exhausted,
                show(request.dataset) + " needs " + format_size(Bytes{summary.bytes}) + " of cache" +
                    (others == 0 ? "" : " besides " + format_size(Bytes{others}) + " for the job's other datasets") +
                    ", but --cache allows " + format_size(request.cache_limit) +
                    "; ask for more, or leave --cache out");
  filled[request.dataset] = summary.bytes;
  return {};
}

void WarmEngine::forget_job(std::uint32_t job_id) {
  shares_.forget_job(job_id);
  const std::lock_guard lock(mutex_);
  filled_.erase(job_id);
}

Status WarmEngine::fill(WarmUp& up, const Seen& seen, bool beside) {
  const auto& request = up.request;
  const auto& manifest = seen.manifest;
  const auto& summary = manifest->summary();
  auto replica = store_.find(request.dataset, summary.generation);
  if (replica && replica->state() == ReplicaState::complete) {
    ATLAS_TRY(store_.vouch(*replica, request.as, seen.walked));
    store_.touch(*replica);
    return {};
  }
  const Chosen chosen(request.only, *manifest, unsettled_since(request, summary.generation));
  if (chosen.none())
    return fail(Code::not_found,
                "no file of " + show(request.dataset) +
                    " is meant by --path or --files-from: both name files as they are called below it");
  const Bytes have = replica ? replica->bytes_resident() : Bytes{};  // of a part that was warmed before
  replica.reset();                                                   // so that making room sees it as it is
  const bool several = options_.divide && !chosen.picky() && request.divided.size() > 1;
  if (!chosen.picky()) {
    const auto allowed = check_limit(up, summary);
    if (!allowed && several) return fill_share(up, seen, chosen, allowed.error());
    ATLAS_TRY(allowed);
  }
  const std::optional<Bytes> most = chosen.picky() ? std::optional(have + chosen.bytes()) : std::nullopt;
  auto opened = open_replica(request.dataset, manifest, most, {request.as.uid, request.as.gid, request.account},
                             kSpaceForAWarmUp);
  const auto no_room = [](Code code) { return code == Code::resource_exhausted || code == Code::out_of_range; };
  if (!opened && several && no_room(opened.error().code)) return fill_share(up, seen, chosen, opened.error());
  if (!opened) return fail(opened.error());
  replica = std::move(*opened);
  up.fill_into(replica);
  up.enter(WarmPhase::fetching, clock_.now());
  std::map<FileIndex, FileMeta> metas;
  Status status = replica->prepare();
  bool ours = true;  // what fails is our disk, not the origin
  if (status) {
    status =
        fetch_all(up, replica, *manifest, chosen, nullptr, metas);  // the replica itself reports what it cannot write
    ours = status.has_value();
  }
  if (status && (beside || replica->files_resident() != summary.files)) {
    up.skipped = summary.files - replica->files_resident();
    ATLAS_TRY(store_.vouch(*replica, request.as, seen.walked));
    if (!beside) store_.settle(replica);
    return {};
  }
  if (status) {
    up.enter(WarmPhase::sealing, clock_.now());
    status = replica->seal(request.as, metas);
    if (status) store_.share_equal_files(replica);
  }
  if (status) status = store_.vouch(*replica, request.as, seen.walked);
  if (status) status = store_.complete(replica);
  if (status) {
    trim(*replica);
    return {};
  }
  if (ours) store_.note_failure(replica->tier(), status.error());
  up.fill_into(nullptr);
  if (beside) return status;  // what is here, and its room, are the other's
  return settle(request.dataset, std::move(replica), status);
}

/// What changed later is left out: it would be copied for each job anew as long as it goes on changing. A dataset that
/// is seen for the first time is copied whole.
std::int64_t WarmEngine::unsettled_since(const WarmRequest& request, const GenerationId& generation) const {
  constexpr auto kNothing = std::numeric_limits<std::int64_t>::max();
  if (!request.settled_only || options_.settle.count() == 0) return kNothing;
  const auto older = store_.newest_complete(request.dataset);
  if (!older || older->generation() == generation) return kNothing;
  return (clock_.wall() - options_.settle).time_since_epoch().count();
}

/// Older generations go when the settings of the dataset leave them no room.
void WarmEngine::trim(const Replica& newest) {
  const Bytes most = policy_of(newest.dataset()).cache;
  if (most.count == 0) return;
  Bytes total;
  std::vector<GenerationId> others;
  for (const auto& replica : store_.replicas_of(newest.dataset())) {
    total += replica->bytes_resident();
    if (replica.get() != &newest) others.push_back(replica->generation());
  }
  for (const auto& other : others)
    if (total > most) total -= std::min(total, store_.evict(newest.dataset(), other).bytes);  // in use: it stays
}

/// What a failed warm-up leaves: on a disk that is full or bad nothing, otherwise what the next one goes on from. What
/// the tier itself did wrong the store has noted where it happened: an EIO here may as well be the origin's.
Status WarmEngine::settle(const DatasetId& dataset, std::shared_ptr<Replica> replica, const Status& status) {
  store_.settle(replica);
  const GenerationId generation = replica->generation();
  replica.reset();
  const Code code = status.error().code;
  if (code == Code::resource_exhausted || code == Code::internal || code == Code::aborted)
    static_cast<void>(store_.evict(dataset, generation));  // in use after all: it goes with the next eviction
  return status;
}

bool WarmEngine::cancel(const DatasetId& dataset, const Principal& as) {
  const std::string who = key_of(with_groups(as));
  const std::lock_guard lock(mutex_);
  bool any = false;
  for (auto it = running_.lower_bound({dataset, who, 0, {}, {}});
       it != running_.end() && std::get<0>(it->first) == dataset && std::get<1>(it->first) == who; ++it)
    if (!it->second->stop.stop_requested()) any = it->second->stop.request_stop();
  return any;
}

Result<WarmProgress> WarmEngine::survey(const DatasetId& dataset, const Principal& as,
                                        std::chrono::milliseconds limit) {
  ATLAS_TRY(check(dataset));
  const auto origin = origins_.find(dataset.origin);
  if (origin == origins_.end())
    return fail(Code::not_found, "origin '" + dataset.origin + "' is not configured on node " + options_.node);
  const Principal who = with_groups(as);
  WarmUp up({dataset, who, {}, {}, false}, options_.node);
  WarmProgress out;
  const auto settings = policy_of(dataset);
  const Patterns exclude = excluded(dataset);
  const auto seen = std::make_shared<std::atomic<std::uint64_t>>(0);
  up.count(seen);
  CountingBuilder builder(absolute(dataset), !exclude.empty(), *seen);
  const auto began = clock_.now();
  TimerHandle timer;
  if (limit.count() > 0)
    timer = front_.post_at(clock_.now() + limit, [stop = up.stop]() mutable { stop.request_stop(); });
  const Status walked = origin->second->walk(who, dataset.path, exclude, builder, up.stop.get_token());
  if (!walked && walked.error().code != Code::cancelled) return fail(walked.error());
  if (walked) {
    ATLAS_ASSIGN(const auto manifest, builder.build());
    {
      const std::lock_guard lock(mutex_);
      if (policy_in_lock(dataset).exclude == settings.exclude) remember({dataset, key_of(who)}, manifest, began);
    }
    up.describe(manifest->summary(), clock_.wall());
    out = up.snapshot(clock_.now());
    if (const auto replica = store_.find(dataset, manifest->summary().generation)) {
      out.bytes_done = replica->bytes_resident();
      out.files_done = replica->files_resident();
    } else {
      out.files_done = 0;
    }
  } else {
    out = up.snapshot(clock_.now());
    out.files_done = 0;
    out.files_total = builder.files;
    out.bytes_total = Bytes{builder.bytes};
    out.generation.bytes = out.bytes_total;
    out.generation.files = builder.files;
    out.generation.entries = *seen;
    out.message = "an estimate: the walk was not finished within " + format_duration(limit);
  }
  out.generation.owner = builder.owner;
  out.phase = WarmPhase::complete;
  return out;
}

bool WarmEngine::expects(const DatasetId& dataset, const GenerationId& generation) const {
  const std::lock_guard lock(mutex_);
  if (const auto at = filling_.find({dataset, generation}); at != filling_.end() && !at->second->share) return true;
  for (auto it = running_.lower_bound({dataset, "", 0, {}, {}});
       it != running_.end() && std::get<0>(it->first) == dataset; ++it) {
    const auto found = it->second->generation();
    if (!it->second->share && (found.empty() || found == generation)) return true;
  }
  return false;
}

unsigned WarmEngine::warming() const {
  const std::lock_guard lock(mutex_);
  return static_cast<unsigned>(running_.size());
}

}  // namespace atlas::agent
