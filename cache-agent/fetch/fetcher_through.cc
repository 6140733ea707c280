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
  std::shared_ptr<Flight> flight;
  {
    const std::lock_guard lock(mutex_);
    flight = make_flight(*want, r.want.offset.count, r.want.offset.count + r.want.length.count);
  }
  const Charge charge = charge_for(*flight, r.want.length, 2);
  flight->tickets.push_back(governor_.admit(charge, [this, flight, want, done](Grant grant) {
    flight->grant = grant;
    flight->origin->run(flight->as, flight->urgency, [this, flight, want, done](const Status& able) {
      flight->status = able;
      bring(flight, want, done);
    });
  }));
  return Waiter(want);
}

/// On the origin's thread: reads all of the flight's piece, then tells on a writer's.
void Fetcher::bring(const std::shared_ptr<Flight>& flight, const std::shared_ptr<Want>& want, const GotBytes& done) {
  const auto data = std::make_shared<std::vector<std::byte>>(flight->end - flight->begin);
  const auto read_all = [&]() -> Status {
    ATLAS_TRY(flight->status);
    if (want->settled) return fail(Code::cancelled, "nobody waits for it any more");
    ATLAS_ASSIGN(const auto file,
                 flight->origin->open(path_of(*flight), flight->manifest->at(flight->file).attributes));
    file->expect_pieces();
    for (std::uint64_t at = 0; at < data->size();) {
      ATLAS_ASSIGN(const auto piece, file->read(Bytes{flight->begin + at}, std::span(*data).subspan(at)));
      if (piece.length.count == 0) return fail(Code::aborted, printable(path_of(*flight)) + " became shorter");
      if (!piece.hole) count(*flight, piece.length.count, 1);
      at += piece.length.count;  // holes read as the zeros that are there
    }
    return {};
  };
  const Status status = read_all();
  writers_.post([this, flight, want, done, data, status] {
    settle(*flight);
    flight->into.reset();
    if (!want->settled.exchange(true)) {
      if (status) {
        done(std::span<const std::byte>(*data));
      } else {
        done(fail(status.error()));
      }
    }
    const std::lock_guard lock(mutex_);
    if (--active_ == 0) idle_.notify_all();
  });
}

}  // namespace atlas::agent
