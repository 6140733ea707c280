// Who pays for what is read from an origin, and when it may begin.
#include <algorithm>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/fetch/flight.h"

namespace atlas::agent {

Fetcher::Payers::value_type Fetcher::leader_of(const Flight& flight) {
  return {payer_of(flight.as, flight.payer), flight.urgency};
}

Charge Fetcher::charge_for(const Flight& flight, const Payers::value_type& payer, Bytes bytes,
                           std::uint32_t operations) {
  const auto& [uid, gid, job] = payer.first;
  return {flight.origin->name(), uid, gid, job, payer.second, bytes, operations};
}

std::uint64_t Fetcher::piece_of(const Charge& payer) {
  return governor_.at_a_time(payer, kLeastPiece, kMostPiece).count / kMiB.count * kMiB.count;
}

/// All who wait for it now: for the flight, and for what it has claimed. Who has gone away is none of them.
Fetcher::Payers Fetcher::payers_of(const Flight& flight, const std::optional<Key>& claim) const {
  Payers out;
  const auto add = [&](const Principal& as, const JobKey& job, Urgency urgency) {
    const auto [at, added] = out.try_emplace(payer_of(as, job), urgency);
    if (!added) at->second = std::min(at->second, urgency);
  };
  const auto add_all = [&](const std::vector<std::shared_ptr<Want>>& wants) {
    for (const auto& want : wants) {
      if (want->settled) continue;
      const auto& request = want->request;
      add(request.as, request.payer, request.urgency);
      if (!request.backers) continue;
      for (const auto& backer : request.backers->now()) add(backer.as, backer.payer, request.urgency);
    }
  };
  const std::lock_guard lock(mutex_);
  add_all(flight.wants);
  const auto claimed = claim ? claims_.find(*claim) : claims_.end();
  if (claimed == claims_.end()) return out;
  add_all(claimed->second.wants);
  for (const auto& follower : claimed->second.followers) add_all(follower->wants);
  return out;
}

bool Fetcher::is_wanted(const Flight& flight) const {
  return !payers_of(flight, flight.claim).empty();
}

void Fetcher::read_origin(const std::shared_ptr<Flight>& flight) {
  if (!is_wanted(*flight)) return release(flight, nobody_waits(), On::elsewhere);
  if (pay(flight, 3)) read_on(flight);
}

/// Settles what has been read and asks for leave to read the next piece. False: it goes on later, and the caller must
/// not touch it.
bool Fetcher::pay(const std::shared_ptr<Flight>& flight, std::uint32_t operations) {
  settle(*flight);
  const auto payers = payers_of(*flight, flight->claim);
  const auto leader = leader_of(*flight);
  const auto first = payers.empty() || payers.contains(leader.first) ? leader : *payers.begin();
  const Bytes next{std::min(piece_of(charge_for(*flight, first, {}, 0)), flight->end - flight->at)};
  flight->paid = flight->at + next.count;
  const Charge charge = charge_for(*flight, first, next, operations);
  if (const auto grant = governor_.try_admit(charge)) {
    flight->grant = *grant;
    flight->paid_by = first.first;
    return true;
  }
  seek_payer(flight, charge);
  return false;
}

/// Who was asked first may have to wait for his limit: whoever waits for the flight, too, and can pay before, has it go
/// on. The caller must not touch it any more.
void Fetcher::seek_payer(const std::shared_ptr<Flight>& flight, const Charge& first) {
  unsigned turn = 0;
  flight->tally->waiting.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(flight->mutex);
    turn = ++flight->turn;
    flight->unpaid = true;
    flight->stretch = first;
    flight->bidders.clear();
  }
  const auto payers = payers_of(*flight, flight->claim);  // who comes later sees that it is unpaid, and joins
  offer(flight, turn, {Payer{first.uid, first.gid, first.job_id}, first.urgency});
  for (const auto& payer : payers) offer(flight, turn, payer);
}

void Fetcher::paid_after_waiting(const Flight& flight, Bytes bytes) {
  flight.tally->waiting.fetch_sub(1, std::memory_order_relaxed);
  flight.tally->throttled.fetch_add(bytes.count, std::memory_order_relaxed);
}

/// Somebody begins to wait for a flight that others have begun.
void Fetcher::join_payers(const std::shared_ptr<Flight>& flight, const Payers::value_type& payer) {
  unsigned turn = 0;
  {
    const std::lock_guard lock(flight->mutex);
    turn = flight->turn;
  }
  offer(flight, turn, payer);
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
  for (const auto& flight : flights) join_payers(flight, {payer_of(backer.as, backer.payer), Urgency::warm_queued});
}

/// Somebody would pay for a turn, if it is not paid for; the first who may does.
void Fetcher::offer(const std::shared_ptr<Flight>& flight, unsigned turn, const Payers::value_type& payer) {
  Charge charge;
  {
    const std::lock_guard lock(flight->mutex);
    if (flight->turn != turn || !flight->unpaid) return;
    const auto [at, added] = flight->bidders.insert(payer);
    if (!added && at->second <= payer.second) return;
    at->second = payer.second;
    charge = charge_for(*flight, payer, flight->stretch.bytes, flight->stretch.operations);
  }
  auto ticket = governor_.admit(charge, [this, flight, turn, who = payer.first](Grant grant) {
    std::vector<Ticket> others;
    Bytes bytes;
    bool first = false;
    {
      const std::lock_guard lock(flight->mutex);
      first = flight->turn == turn && std::exchange(flight->unpaid, false);
      if (first) others.swap(flight->tickets);
      bytes = flight->stretch.bytes;
    }
    if (!first) return governor_.settle(grant, {}, 0);
    paid_after_waiting(*flight, bytes);
    flight->grant = grant;
    flight->paid_by = who;
    if (is_wanted(*flight)) return read_on(flight);
    flight->open.reset();
    release(flight, nobody_waits(), On::elsewhere);
  });
  const std::lock_guard lock(flight->mutex);
  if (flight->turn == turn && flight->unpaid) flight->tickets.push_back(std::move(ticket));
}

/// Each of those who wait now pays an equal part of what has been read since the last time: whose grant it is by what
/// is settled of that. If nobody waits for it any more it is his alone.
void Fetcher::share_cost(Flight& flight, const std::optional<Key>& claim) {
  const std::uint64_t bytes = std::exchange(flight.bytes, 0);
  const std::uint32_t operations = std::exchange(flight.operations, 0);
  if (bytes + operations == 0) return;
  auto payers = payers_of(flight, claim);
  if (payers.empty()) payers.emplace(flight.paid_by, flight.urgency);
  const auto all = static_cast<std::uint32_t>(payers.size());
  const std::uint32_t odd = operations % all;
  std::uint32_t place = odd == 0 ? 0 : odd_operations_.fetch_add(odd, std::memory_order_relaxed) % all;
  std::uint64_t more = bytes % all;
  for (const auto& payer : payers) {
    const Bytes part{bytes / all + (more > 0 ? 1 : 0)};
    const std::uint32_t its = operations / all + (place < odd ? 1 : 0);
    more -= more > 0 ? 1 : 0;
    place = (place + 1) % all;
    if (payer.first == flight.paid_by) {
      flight.own_bytes += part.count;
      flight.own_operations += its;
    } else {
      governor_.charge(charge_for(flight, payer, part, its));
    }
  }
}

void Fetcher::settle(Flight& flight) {
  if (flight.grant.operations == 0) return;  // what comes from peers needs none
  governor_.settle(std::exchange(flight.grant, {}), Bytes{std::exchange(flight.own_bytes, 0)},
                   std::exchange(flight.own_operations, 0));
}

}  // namespace atlas::agent
