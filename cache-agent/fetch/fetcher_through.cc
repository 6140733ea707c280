// What is read without being kept.
#include <vector>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/fetch/flight.h"
#include "common/percent.h"

namespace atlas::agent {

Waiter Fetcher::read_through(FetchRequest request, GotBytes done) {
  auto want = std::make_shared<Want>();
  want->request = std::move(request);
  const auto& r = want->request;
  want->done = [done](const Status& status) { done(fail(status.error())); };  // errors come this way only
  const auto manifest = r.into->manifest();
  if (!manifest || !origins_.contains(r.into->dataset().origin)) {
    Status failed = manifest ? Status(fail(Code::not_found, "its origin is not configured on this node"))
                             : Status(fail(manifest.error()));
    writers_.post([want, failed] {
      if (!want->settled.exchange(true)) want->done(failed);
    });
    return Waiter(want);
  }
  want->manifest = *manifest;
  want->tally = tallies_.of(r.into->dataset(), r.as.uid);
  const auto passing = std::make_shared<Passing>();
  passing->want = want;
  passing->done = std::move(done);
  passing->data.resize(r.want.length.count);
  {
    const std::lock_guard lock(mutex_);
    passing->flight = make_flight(*want, r.want.offset.count, r.want.offset.count + r.want.length.count);
  }
  if (!ask_keeper(passing)) pass_origin(passing);
  return Waiter(want);
}

void Fetcher::pass_origin(const std::shared_ptr<Passing>& passing) {
  const auto& flight = passing->flight;
  const Charge charge = charge_for(*flight, Bytes{passing->data.size() - passing->came}, 2);
  const auto go = [this, passing](Grant grant) {
    passing->paid = true;
    passing->flight->grant = grant;
    passing->flight->origin->run(passing->flight->as, passing->flight->urgency, [this, passing](const Status& able) {
      passing->flight->status = able;
      bring(passing);
    });
  };
  if (const auto grant = governor_.try_admit(charge)) return go(*grant);
  flight->tally->waiting.fetch_add(1, std::memory_order_relaxed);
  flight->tickets.push_back(governor_.admit(charge, [passing, go, bytes = charge.bytes](Grant grant) {
    paid_after_waiting(*passing->flight, bytes);
    go(grant);
  }));
}

/// On the origin's thread: reads what has not come of the flight's piece, then tells on a writer's.
void Fetcher::bring(const std::shared_ptr<Passing>& passing) {
  const auto& flight = passing->flight;
  const auto read_all = [&]() -> Status {
    ATLAS_TRY(flight->status);
    if (passing->want->settled) return fail(Code::cancelled, "nobody waits for it any more");
    ATLAS_ASSIGN(const auto file,
                 flight->origin->open(path_of(*flight), flight->manifest->at(flight->file).attributes));
    file->expect_pieces();
    for (std::uint64_t at = passing->came; at < passing->data.size();) {
      ATLAS_ASSIGN(const auto piece, file->read(Bytes{flight->begin + at}, std::span(passing->data).subspan(at)));
      if (piece.length.count == 0) return fail(Code::aborted, printable(path_of(*flight)) + " became shorter");
      if (!piece.hole) count(*flight, piece.length.count, 1);
      at += piece.length.count;  // holes read as the zeros that are there
    }
    return {};
  };
  const Status status = read_all();
  writers_.post([this, passing, status] { hand_over(passing, status); });
}

/// On a writer's thread.
void Fetcher::hand_over(const std::shared_ptr<Passing>& passing, const Status& status) {
  if (passing->paid) settle(*passing->flight);
  passing->flight->into.reset();
  if (!passing->want->settled.exchange(true)) {
    if (status) {
      passing->done(std::span<const std::byte>(passing->data));
    } else {
      passing->done(fail(status.error()));
    }
  }
  const std::lock_guard lock(mutex_);
  if (--active_ == 0) idle_.notify_all();
}

}  // namespace atlas::agent
