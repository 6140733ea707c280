// Is what is here still what was fetched?
#include "cache-agent/origin/reader_pool.h"
#include "cache-agent/warm/warm_engine.h"

namespace atlas::agent {

void WarmEngine::verify(WarmRequest request, OnProgress progress, OnDone done) {
  if (const auto ok = check(request.dataset); !ok) return done(fail(ok.error()));
  if (!origins_.contains(request.dataset.origin))
    return done(
        fail(Code::not_found, "origin '" + request.dataset.origin + "' is not configured on node " + options_.node));
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return done(fail(Code::unavailable, "the agent of node " + options_.node + " is stopping"));
    ++active_;
  }
  const auto uid = request.as.uid;
  turns_.post(uid,
              [this, request = std::move(request), progress = std::move(progress), done = std::move(done)]() mutable {
                request.as = with_groups(request.as);
                request.revalidate = true;
                const auto bad = compare(request, progress);
                if (bad) {
                  warm(
                      std::move(request),
                      [progress, bad = *bad](WarmProgress now) {
                        now.bad_blocks = bad;
                        progress(now);
                      },
                      [done, bad = *bad](Result<WarmProgress> last) {
                        if (last) last->bad_blocks = bad;
                        done(std::move(last));
                      });
                } else {
                  done(fail(bad.error()));
                }
                const std::lock_guard lock(mutex_);
                if (--active_ == 0) idle_.notify_all();
              });
}

/// The number of bad blocks in all generations of the dataset. Only for who may read it: it costs the disk a lot.
Result<std::uint64_t> WarmEngine::compare(const WarmRequest& request, const OnProgress& progress) {
  ATLAS_TRY(origins_.at(request.dataset.origin)->check_access(request.as, request.dataset.path, options_.access_limit));
  WarmProgress now;
  now.phase = WarmPhase::verifying;
  now.dataset = request.dataset;
  now.node = options_.node;
  const auto replicas = store_.replicas_of(request.dataset);
  for (const auto& replica : replicas) {
    now.bytes_total += replica->bytes_resident();
    now.files_total += replica->files_resident();
  }
  progress(now);
  Bytes before;
  SteadyTime told = clock_.now();
  for (const auto& replica : replicas) {
    const Bytes resident = replica->bytes_resident();
    const std::uint64_t files = replica->files_resident();
    const auto verified = store_.verify(replica, [&](Bytes checked) {
      if (clock_.now() - told >= options_.tick) {
        told = clock_.now();
        now.bytes_done = before + checked;
        progress(now);
      }
      const std::lock_guard lock(mutex_);
      return !stopping_;
    });
    if (!verified) return fail(verified.error());
    now.bad_blocks += verified->bad;
    now.files_done += files;
    before += resident;
  }
  now.bytes_done = before;
  progress(now);
  return now.bad_blocks;
}

}  // namespace atlas::agent
