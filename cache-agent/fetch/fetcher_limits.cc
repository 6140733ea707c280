// Who pays for what is read from an origin, and when it may begin.
#include <algorithm>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/fetch/flight.h"

namespace atlas::agent {

Charge Fetcher::charge_for(const Flight& flight, Bytes bytes, std::uint32_t operations) {
  return {flight.origin->name(), flight.as.uid, flight.as.gid, flight.payer.job_id, flight.urgency, bytes, operations};
}

std::uint64_t Fetcher::piece_of(const Charge& payer) {
  return governor_.at_a_time(payer, kLeastPiece, kMostPiece).count / kMiB.count * kMiB.count;
}

void Fetcher::read_origin(const std::shared_ptr<Flight>& flight) {
  flight->piece = piece_of(charge_for(*flight, {}, 0));
  const Bytes first{std::min(flight->piece, flight->end - flight->begin)};
  if (const auto grant = governor_.try_admit(charge_for(*flight, first, 3))) {
    flight->grant = *grant;
    return read_on(flight);
  }
  seek_payer(flight, first, 3);
}

/// The leader may have to wait for his limit: whoever waits for the flight, too, and can pay first, has it go on. The
/// caller must not touch it any more.
void Fetcher::seek_payer(const std::shared_ptr<Flight>& flight, Bytes bytes, std::uint32_t operations) {
  unsigned turn = 0;
  Charge charge = charge_for(*flight, bytes, operations);
  flight->tally->waiting.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(flight->mutex);
    turn = ++flight->turn;
    flight->unpaid = true;
    flight->stretch = charge;
  }
  std::vector<std::shared_ptr<Want>> wants;  // who comes later sees that it is unpaid, and joins
  Flights followers;
  waiting_for(*flight, wants, followers);
  const auto others = others_than(payer_of(flight->as, flight->payer), *flight, wants, followers);
  offer(flight, turn, charge);
  for (const auto& [payer, urgency] : others) {
    std::tie(charge.uid, charge.gid, charge.job_id) = payer;
    charge.urgency = urgency;
    offer(flight, turn, charge);
  }
}

void Fetcher::paid_after_waiting(const Flight& flight, Bytes bytes) {
  flight.tally->waiting.fetch_sub(1, std::memory_order_relaxed);
  flight.tally->throttled.fetch_add(bytes.count, std::memory_order_relaxed);
}

/// Somebody begins to wait for a flight that others have begun.
void Fetcher::join_payers(const std::shared_ptr<Flight>& flight, const Payer& payer, Urgency urgency) {
  unsigned turn = 0;
  Charge charge;
  {
    const std::lock_guard lock(flight->mutex);
    if (!flight->unpaid) return;
    turn = flight->turn;
    charge = flight->stretch;
  }
  if (payer == Payer{charge.uid, charge.gid, charge.job_id}) return;
  std::tie(charge.uid, charge.gid, charge.job_id) = payer;
  charge.urgency = urgency;
  offer(flight, turn, charge);
}

void Fetcher::back(const std::shared_ptr<Backers>& backers, const Backers::Backer& backer) {
  backers->add(backer);
  Flights flights;
  {
    const auto backed = [&](const std::shared_ptr<Want>& want) { return want->request.backers == backers; };
    const std::lock_guard lock(mutex_);
    for (const auto& [key, flight] : chunks_)
      if (std::any_of(flight->wants.begin(), flight->wants.end(), backed)) flights.push_back(flight);
  }
  for (const auto& flight : flights) join_payers(flight, payer_of(backer.as, backer.payer), Urgency::warm_queued);
}

/// Somebody would pay for a turn; the first who may does.
void Fetcher::offer(const std::shared_ptr<Flight>& flight, unsigned turn, const Charge& charge) {
  const Payer payer{charge.uid, charge.gid, charge.job_id};
  auto ticket = governor_.admit(charge, [this, flight, turn, payer](Grant grant) {
    std::vector<Ticket> others;
    Bytes bytes;
    bool first = false;
    {
      const std::lock_guard lock(flight->mutex);
      first = flight->turn == turn && std::exchange(flight->unpaid, false);
      if (first) {
        others.swap(flight->tickets);
        flight->paid_by = payer;
      }
      bytes = flight->stretch.bytes;
    }
    if (!first) return governor_.settle(grant, {}, 0);
    paid_after_waiting(*flight, bytes);
    flight->grant = grant;
    if (is_wanted(*flight)) return read_on(flight);
    flight->open.reset();
    release(flight, fail(Code::cancelled, "nobody waits for it any more"), On::elsewhere);
  });
  const std::lock_guard lock(flight->mutex);
  if (flight->turn == turn && flight->unpaid) flight->tickets.push_back(std::move(ticket));
}

bool Fetcher::is_wanted(const Flight& flight) {
  const auto waits = [](const std::shared_ptr<Want>& want) { return !want->settled; };
  const std::lock_guard lock(mutex_);
  if (!flight.claim) return std::any_of(flight.wants.begin(), flight.wants.end(), waits);
  const auto claim = claims_.find(*flight.claim);
  return claim == claims_.end() || !claim->second.followers.empty() ||
         std::any_of(claim->second.wants.begin(), claim->second.wants.end(), waits);
}

/// Settles what has been read and asks for the next piece. False: it goes on later, and the caller must not touch it.
bool Fetcher::pay(const std::shared_ptr<Flight>& flight) {
  share_cost(*flight);
  settle(*flight);
  flight->piece = piece_of(charge_for(*flight, {}, 0));
  const std::uint64_t next = std::min(flight->piece, flight->end - flight->at);
  flight->paid = flight->at + next;
  const Charge charge = charge_for(*flight, Bytes{next}, 1);
  if (const auto grant = governor_.try_admit(charge)) {
    flight->grant = *grant;
    const std::lock_guard lock(flight->mutex);
    flight->paid_by.reset();
    return true;
  }
  seek_payer(flight, Bytes{next}, 1);
  return false;
}

void Fetcher::settle(Flight& flight) {
  std::uint64_t bytes = 0;
  std::uint32_t operations = 0;
  {
    const std::lock_guard lock(flight.mutex);
    std::tie(bytes, operations) = unsettled(flight);
    flight.settled_bytes += bytes;
    flight.settled_operations += operations;
  }
  governor_.settle(flight.grant, Bytes{bytes}, operations);
}

/// What has been read and nobody has paid for yet. flight.mutex is held.
std::pair<std::uint64_t, std::uint32_t> Fetcher::unsettled(const Flight& flight) {
  return {flight.bytes - std::min(flight.bytes, flight.settled_bytes),
          flight.operations - std::min(flight.operations, flight.settled_operations)};
}

/// All who wait for it now.
void Fetcher::waiting_for(const Flight& flight, std::vector<std::shared_ptr<Want>>& wants, Flights& followers) {
  const std::lock_guard lock(mutex_);
  if (flight.chunk) {
    wants = flight.wants;
  } else if (const auto claim = flight.claim ? claims_.find(*flight.claim) : claims_.end(); claim != claims_.end()) {
    wants = claim->second.wants;
    followers = claim->second.followers;
  }
}

/// All whom a flight is for but one.
Fetcher::Payers Fetcher::others_than(const Payer& payer, const Flight& flight,
                                     const std::vector<std::shared_ptr<Want>>& wants, const Flights& followers) {
  Payers out;
  out.try_emplace(payer_of(flight.as, flight.payer), flight.urgency);
  for (const auto& want : wants) {
    const auto& request = want->request;
    out.try_emplace(payer_of(request.as, request.payer), request.urgency);
    if (!request.backers) continue;
    for (const auto& backer : request.backers->now())
      out.try_emplace(payer_of(backer.as, backer.payer), request.urgency);
  }
  for (const auto& follower : followers) out.try_emplace(payer_of(follower->as, follower->payer), follower->urgency);
  out.erase(payer);
  return out;
}

/// They pay for what has been read since the last time.
void Fetcher::share_cost(Flight& flight) {
  std::vector<std::shared_ptr<Want>> wants;
  Flights followers;
  waiting_for(flight, wants, followers);
  std::uint64_t bytes = 0;
  std::uint32_t operations = 0;
  {
    const std::lock_guard lock(flight.mutex);
    std::tie(bytes, operations) = unsettled(flight);
  }
  split(flight, wants, followers, bytes, operations);
}

/// What several users and jobs waited for each pays an equal part of: whose grant it is by what is settled of that.
void Fetcher::split(Flight& flight, const std::vector<std::shared_ptr<Want>>& wants, const Flights& followers,
                    std::uint64_t bytes, std::uint32_t operations) {
  Payer payer = payer_of(flight.as, flight.payer);
  {
    const std::lock_guard lock(flight.mutex);
    if (flight.paid_by) payer = *flight.paid_by;
  }
  const auto others = others_than(payer, flight, wants, followers);
  if (others.empty() || bytes + operations == 0) return;
  const auto all = others.size() + 1;
  Charge charge = charge_for(flight, Bytes{bytes / all}, static_cast<std::uint32_t>(operations / all));
  for (const auto& [who, urgency] : others) {
    std::tie(charge.uid, charge.gid, charge.job_id) = who;
    charge.urgency = urgency;
    governor_.charge(charge);
  }
  const std::lock_guard lock(flight.mutex);
  flight.settled_bytes += charge.bytes.count * others.size();
  flight.settled_operations += charge.operations * static_cast<std::uint32_t>(others.size());
}

}  // namespace atlas::agent
