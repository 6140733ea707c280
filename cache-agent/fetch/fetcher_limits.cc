// Who pays for what is read from an origin, and when it may begin.
#include <algorithm>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/fetch/flight.h"

namespace atlas::agent {

Charge Fetcher::charge_for(const Flight& flight, Bytes bytes, std::uint32_t operations) {
  return {flight.origin->name(), flight.as.uid, flight.as.gid, flight.payer.job_id, flight.urgency, bytes, operations};
}

void Fetcher::read_origin(const std::shared_ptr<Flight>& flight) {
  const Charge charge = charge_for(*flight, Bytes{std::min(kPiece, flight->end - flight->begin)}, 3);
  if (const auto grant = governor_.try_admit(charge)) {
    {
      const std::lock_guard lock(flight->mutex);
      flight->started = true;
    }
    flight->grant = *grant;
    return read_on(flight);
  }
  offer(flight, charge);
}

/// Somebody would pay for the beginning of it; the first who may does.
void Fetcher::offer(const std::shared_ptr<Flight>& flight, const Charge& charge) {
  auto ticket = governor_.admit(charge, [this, flight](Grant grant) {
    std::vector<Ticket> others;
    bool first = false;
    {
      const std::lock_guard lock(flight->mutex);
      first = !std::exchange(flight->started, true);
      if (first) others.swap(flight->tickets);
    }
    if (!first) return governor_.settle(grant, {}, 0);
    flight->grant = grant;
    if (is_wanted(*flight)) return read_on(flight);
    release(flight, fail(Code::cancelled, "nobody waits for it any more"), On::elsewhere);
  });
  const std::lock_guard lock(flight->mutex);
  if (!flight->started) flight->tickets.push_back(std::move(ticket));
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
  const std::uint64_t next = std::min(kPiece, flight->end - flight->at);
  flight->paid = flight->at + next;
  const Charge charge = charge_for(*flight, Bytes{next}, 1);
  if (const auto grant = governor_.try_admit(charge)) {
    flight->grant = *grant;
    return true;
  }
  auto ticket = governor_.admit(charge, [this, flight](Grant grant) {
    flight->grant = grant;
    if (is_wanted(*flight)) return read_on(flight);
    flight->open.reset();
    release(flight, fail(Code::cancelled, "nobody waits for it any more"), On::elsewhere);
  });
  const std::lock_guard lock(flight->mutex);
  flight->tickets.clear();
  flight->tickets.push_back(std::move(ticket));
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

/// All who wait for it now pay for what has been read since the last time.
void Fetcher::share_cost(Flight& flight) {
  std::vector<std::shared_ptr<Want>> wants;
  Flights followers;
  {
    const std::lock_guard lock(mutex_);
    if (flight.chunk) {
      wants = flight.wants;
    } else if (const auto claim = flight.claim ? claims_.find(*flight.claim) : claims_.end(); claim != claims_.end()) {
      wants = claim->second.wants;
      followers = claim->second.followers;
    }
  }
  std::uint64_t bytes = 0;
  std::uint32_t operations = 0;
  {
    const std::lock_guard lock(flight.mutex);
    std::tie(bytes, operations) = unsettled(flight);
  }
  split(flight, wants, followers, bytes, operations);
}

/// What several users and jobs waited for each pays an equal part of.
void Fetcher::split(Flight& flight, const std::vector<std::shared_ptr<Want>>& wants, const Flights& followers,
                    std::uint64_t bytes, std::uint32_t operations) {
  using Who = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;
  std::map<Who, Urgency> others;
  for (const auto& want : wants)
    others.try_emplace(Who{want->request.as.uid, want->request.as.gid, want->request.payer.job_id},
                       want->request.urgency);
  for (const auto& follower : followers)
    others.try_emplace(Who{follower->as.uid, follower->as.gid, follower->payer.job_id}, follower->urgency);
  others.erase(Who{flight.as.uid, flight.as.gid, flight.payer.job_id});
  if (others.empty()) return;
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
