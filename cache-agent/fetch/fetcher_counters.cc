// What has been read, for receipts, monitoring and people.
#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/fetch/flight.h"

namespace atlas::agent {

void Fetcher::count(Flight& flight, std::uint64_t bytes, std::uint32_t operations) {
  flight.bytes += bytes;
  flight.operations += operations;
  if (flight.moved) flight.moved->fetch_add(bytes, std::memory_order_relaxed);
  flight.tally->bytes.fetch_add(bytes, std::memory_order_relaxed);
  flight.tally->operations.fetch_add(operations, std::memory_order_relaxed);
  const std::lock_guard lock(counters_mutex_);
  for (FetchCounters* counters :
       {&by_job_[flight.payer.job_id], &by_user_[flight.as.uid], &by_origin_[flight.origin->name()]}) {
    counters->bytes += bytes;
    counters->operations += operations;
  }
}

void Fetcher::count_from_peer(const Flight& flight, std::uint64_t bytes) {
  if (flight.from_peers) flight.from_peers->fetch_add(bytes, std::memory_order_relaxed);
  flight.tally->peer_bytes.fetch_add(bytes, std::memory_order_relaxed);
  const std::lock_guard lock(counters_mutex_);
  by_job_[flight.payer.job_id].peer_bytes += bytes;
  by_user_[flight.as.uid].peer_bytes += bytes;
}

FetchCounters Fetcher::counters_of_job(std::uint32_t job_id) const {
  const std::lock_guard lock(counters_mutex_);
  const auto it = by_job_.find(job_id);
  return it == by_job_.end() ? FetchCounters{} : it->second;
}

FetchCounters Fetcher::counters_of_user(std::uint32_t uid) const {
  const std::lock_guard lock(counters_mutex_);
  const auto it = by_user_.find(uid);
  return it == by_user_.end() ? FetchCounters{} : it->second;
}

std::map<std::uint32_t, FetchCounters> Fetcher::counters_by_user() const {
  const std::lock_guard lock(counters_mutex_);
  return by_user_;
}

FetchCounters Fetcher::counters_of_origin(const std::string& origin) const {
  const std::lock_guard lock(counters_mutex_);
  const auto it = by_origin_.find(origin);
  return it == by_origin_.end() ? FetchCounters{} : it->second;
}

void Fetcher::forget_job(std::uint32_t job_id) {
  const std::lock_guard lock(counters_mutex_);
  by_job_.erase(job_id);
}

}  // namespace atlas::agent
