#include "cache-agent/warm/warm_up.h"

#include <algorithm>

namespace atlas::agent {
namespace {

constexpr std::chrono::seconds kRateWindow{5};

std::chrono::milliseconds time_for(std::uint64_t left, double per_second) {
  if (left == 0) return std::chrono::milliseconds(0);
  if (per_second <= 0) return std::chrono::milliseconds(-1);
  return std::chrono::milliseconds(static_cast<std::int64_t>(static_cast<double>(left) / per_second * 1000));
}

}  // namespace

bool WarmUp::listen(WarmEngine::OnProgress progress, WarmEngine::OnDone done, SteadyTime now) {
  const auto first = snapshot(now);
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return false;
    listeners_.push_back({progress, std::move(done)});
  }
  if (progress) progress(first);
  return true;
}

void WarmUp::enter(WarmPhase phase, SteadyTime now) {
  {
    const std::lock_guard lock(mutex_);
    progress_.phase = phase;
  }
  tell(now);
}

void WarmUp::count(std::shared_ptr<const std::atomic<std::uint64_t>> entries) {
  const std::lock_guard lock(mutex_);
  entries_ = std::move(entries);
}

void WarmUp::fill_into(std::shared_ptr<Replica> replica) {
  const std::lock_guard lock(mutex_);
  replica_ = std::move(replica);
  samples_.clear();
}

void WarmUp::describe(const ManifestSummary& s, WallTime observed) {
  const std::lock_guard lock(mutex_);
  progress_.generation = {s.generation, Bytes{s.bytes},  s.files,  s.entries,
                          s.opaque,     s.outward_links, observed, s.owner};
  progress_.bytes_total = Bytes{s.bytes};
  progress_.files_total = s.files;
  share = false;
}

void WarmUp::expect(Bytes part) {
  const std::lock_guard lock(mutex_);
  progress_.bytes_total = part;
  share = true;
}

GenerationId WarmUp::generation() {
  const std::lock_guard lock(mutex_);
  return progress_.generation.id;
}

void WarmUp::follow(const std::shared_ptr<WarmUp>& leader) {
  const std::lock_guard lock(mutex_);
  leader_ = leader;
}

void WarmUp::measure(WarmProgress& out, SteadyTime now) {
  if (samples_.empty() || now - samples_.back().when >= std::chrono::milliseconds(100))
    samples_.push_back({now, out.bytes_done.count, out.files_done});
  while (samples_.size() > 2 && now - samples_.front().when > kRateWindow) samples_.pop_front();
  const auto& first = samples_.front();
  const double seconds = std::chrono::duration<double>(now - first.when).count();
  if (seconds < 0.1) return;
  const double bytes =
      static_cast<double>(out.bytes_done.count - std::min(out.bytes_done.count, first.bytes)) / seconds;
  const double files = static_cast<double>(out.files_done - std::min(out.files_done, first.files)) / seconds;
  out.per_second = Bytes{static_cast<std::uint64_t>(bytes)};
  const auto by_bytes = time_for(out.bytes_total.count - std::min(out.bytes_total.count, out.bytes_done.count), bytes);
  const auto by_files = time_for(out.files_total - std::min(out.files_total, out.files_done), files);
  // Large files finish rarely: while bytes flow, they tell.
  out.eta = by_bytes.count() < 0 ? by_files : by_files.count() < 0 ? by_bytes : std::max(by_bytes, by_files);
}

WarmProgress WarmUp::snapshot(SteadyTime now) {
  std::shared_ptr<WarmUp> leader;
  {
    const std::lock_guard lock(mutex_);
    leader = leader_.lock();
    if (!leader) {
      WarmProgress out = progress_;
      out.origin_bytes = Bytes{moved->load(std::memory_order_relaxed)};
      out.peer_bytes = Bytes{from_peers->load(std::memory_order_relaxed)};
      out.failures = failures.load(std::memory_order_relaxed);
      out.skipped = skipped.load(std::memory_order_relaxed);
      if (replica_) {
        out.bytes_done = replica_->bytes_resident();
        out.files_done = replica_->files_resident();
      }
      if (share) out.files_total = out.files_done;
      if (out.phase == WarmPhase::walking && entries_) out.files_done = entries_->load(std::memory_order_relaxed);
      if (out.phase == WarmPhase::fetching) measure(out, now);
      if (out.phase == WarmPhase::complete && out.skipped == 0) {
        out.bytes_done = out.bytes_total;
        out.files_done = out.files_total;
        out.eta = std::chrono::milliseconds(0);
      }
      return out;
    }
  }
  return leader->snapshot(now);  // a leader never follows
}

void WarmUp::tell(SteadyTime now) {
  const WarmProgress now_at = snapshot(now);
  std::vector<WarmEngine::OnProgress> listeners;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    for (const auto& listener : listeners_) listeners.push_back(listener.progress);
  }
  for (const auto& listener : listeners)
    if (listener) listener(now_at);
}

void WarmUp::end(const Status& status, SteadyTime now) {
  std::vector<Listener> listeners;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(ended_, true)) return;
    leader_.reset();
    progress_.phase = status ? WarmPhase::complete : WarmPhase::failed;
    if (!status) progress_.message = status.error().message;
    listeners = std::move(listeners_);
  }
  const WarmProgress last = snapshot(now);
  fill_into(nullptr);
  for (const auto& listener : listeners) {
    if (!status && listener.progress) listener.progress(last);
    if (listener.done) listener.done(status ? Result<WarmProgress>(last) : fail(status.error()));
  }
}

}  // namespace atlas::agent
