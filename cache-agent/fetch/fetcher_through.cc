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
  passing->size = r.want.length.count;
  {
    const std::lock_guard lock(mutex_);
    passing->flight = make_flight(*want, r.want.offset.count, r.want.offset.count + r.want.length.count);
  }
  want->cancelled = [this, weak = std::weak_ptr(passing)] {
    if (const auto unwanted = weak.lock()) give_up(unwanted);
  };
  if (!ask_keeper(passing)) pass_origin(passing);
  return Waiter(want);
}

void Fetcher::pass_origin(const std::shared_ptr<Passing>& passing) {
  const auto& flight = passing->flight;
  const Charge charge = charge_for(*flight, leader_of(*flight), Bytes{passing->size - passing->came}, 2);
  if (const auto grant = governor_.try_admit(charge)) return pass(passing, *grant);
  flight->tally->waiting.fetch_add(1, std::memory_order_relaxed);
  auto ticket = governor_.admit(charge, [this, passing, bytes = charge.bytes](Grant grant) {
    if (!passing->begin()) return governor_.settle(grant, {}, 0);
    paid_after_waiting(*passing->flight, bytes);
    pass(passing, grant);
  });
  {
    const std::lock_guard lock(flight->mutex);
    passing->parked = !passing->begun;
    if (passing->parked) flight->tickets.push_back(std::move(ticket));
  }
  if (passing->want->settled) give_up(passing);
}

void Fetcher::pass(const std::shared_ptr<Passing>& passing, const Grant& grant) {
  passing->paid = true;
  passing->flight->grant = grant;
  const auto& flight = passing->flight;
  flight->origin->run_for(path_of(*flight), flight->as, flight->urgency, [this, passing](const Status& able) {
    passing->flight->status = able;
    bring(passing);
  });
}

/// What waits for a limit goes at once when nobody waits for it any more: a thousand killed readers leave nothing.
void Fetcher::give_up(const std::shared_ptr<Passing>& passing) {
  auto& flight = *passing->flight;
  std::vector<Ticket> tickets;
  {
    const std::lock_guard lock(flight.mutex);
    if (!passing->parked || std::exchange(passing->begun, true)) return;
    tickets.swap(flight.tickets);
  }
  flight.tally->waiting.fetch_sub(1, std::memory_order_relaxed);
  writers_.post([this, passing] { hand_over(passing, nobody_waits()); });
}

/// On the origin's thread: reads what has not come of the flight's piece, then tells on a writer's.
void Fetcher::bring(const std::shared_ptr<Passing>& passing) {
  const auto& flight = passing->flight;
  const auto read_all = [&]() -> Status {
    ATLAS_TRY(flight->status);
    if (passing->want->settled) return nobody_waits();
    ATLAS_ASSIGN(const auto memory, passing->data());
    ATLAS_ASSIGN(const auto file,
                 flight->origin->open(path_of(*flight), flight->manifest->at(flight->file).attributes));
    file->expect_pieces();
    file->expect_no_second_read();  // by way of us: who reads it keeps it in memory himself
    for (std::uint64_t at = passing->came; at < passing->size;) {
      ATLAS_ASSIGN(const auto piece, file->read(Bytes{flight->begin + at}, memory.subspan(at)));
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
  const auto& flight = *passing->flight;
  if (passing->paid) governor_.settle(flight.grant, Bytes{flight.bytes}, flight.operations);
  passing->flight->into.reset();
  if (!passing->want->settled.exchange(true)) {
    passing->done([&]() -> Result<std::span<const std::byte>> {
      ATLAS_TRY(status);
      return passing->data();
    }());
  }
  const std::lock_guard lock(mutex_);
  if (--active_ == 0) idle_.notify_all();
}

}  // namespace atlas::agent
