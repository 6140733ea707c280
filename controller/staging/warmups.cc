#include "controller/staging/warmups.h"

#include <algorithm>
#include <utility>

namespace atlas {
namespace {

// An agent that restarts is back within a few seconds.
constexpr int kRetries = 5;
constexpr std::chrono::milliseconds kRetryAfter{1000};
// Who has got nothing for so long holds nobody up: it walks, or its node or origin hangs.
constexpr std::chrono::seconds kStuck{10};

}  // namespace

WarmUps::WarmUps(Executor& strand, AgentPort& agents, Registry& registry, const Clock& clock)
    : strand_(strand), agents_(agents), registry_(registry), clock_(clock) {}

std::pair<std::map<WarmUps::Key, WarmUps::Running>::iterator, bool> WarmUps::enter(const Key& key) {
  const auto out = running_.try_emplace(key);
  if (out.second) of_dataset_[std::get<1>(key)].insert(key);
  return out;
}

void WarmUps::leave(const Key& key) {
  const auto at = of_dataset_.find(std::get<1>(key));
  if (at == of_dataset_.end()) return;
  at->second.erase(key);
  if (at->second.empty()) of_dataset_.erase(at);
}

WarmUps::Ticket WarmUps::want(const std::string& node, const WarmOrder& order, Waiter waiter) {
  const Key key{node, order.dataset, order.as.uid, order.cache_limit.count, order.divided};
  const Ticket ticket = next_ticket_++;
  const auto [at, added] = enter(key);
  at->second.waiters.emplace(ticket, Waiting{std::move(waiter), order});
  tickets_.emplace(ticket, key);
  if (added) {
    at->second.order = order;
    at->second.since = at->second.moved = clock_.now();
    at->second.last.dataset = order.dataset;
    at->second.last.node = node;
    strand_.post([this, key] { start(key); });
  }
  return ticket;
}

void WarmUps::drop(Ticket ticket, bool cancel) {
  const auto found = tickets_.find(ticket);
  if (found == tickets_.end()) return;
  const Key key = found->second;
  tickets_.erase(found);
  const auto at = running_.find(key);
  if (at == running_.end()) return;
  at->second.waiters.erase(ticket);
  if (!cancel || !at->second.waiters.empty()) return;
  if (const auto* agent = registry_.find(std::get<0>(key)); agent != nullptr && agent->connected)
    agents_.cancel_warm(agent->address, at->second.order.dataset, at->second.order.as);
  observer_(std::get<0>(key), at->second.order, nullptr);
  running_.erase(at);
  leave(key);
}

void WarmUps::start(const Key& key) {
  const auto at = running_.find(key);
  if (at == running_.end()) return;
  const auto* agent = registry_.find(std::get<0>(key));
  const std::uint64_t call = next_call_++;
  at->second.call = call;
  if (agent == nullptr || !agent->connected) {
    on_done(key, call, fail(Code::unavailable, "the cache agent of " + std::get<0>(key) + " is not connected"));
    return;
  }
  agents_.warm(
      agent->address, at->second.order,
      [this, key, call](const WarmProgress& progress) {
        strand_.post([this, key, call, progress] { on_progress(key, call, progress); });
      },
      [this, key, call](const Status& status) {
        strand_.post([this, key, call, status] { on_done(key, call, status); });
      });
}

void WarmUps::on_progress(const Key& key, std::uint64_t call, const WarmProgress& progress) {
  const auto at = running_.find(key);
  if (at == running_.end() || at->second.call != call) return;
  at->second.last = progress;
  at->second.last.dataset = std::get<1>(key);
  at->second.last.node = std::get<0>(key);
  if (progress.bytes_done > at->second.bytes_most) {
    at->second.bytes_most = progress.bytes_done;
    at->second.moved = clock_.now();
    at->second.retries = 0;
  }
  observer_(std::get<0>(key), at->second.order, &at->second.last);
  registry_.note_generation(std::get<1>(key), progress.generation);
  const auto waiters = at->second.waiters;  // a waiter may come or go while it is told
  const auto last = at->second.last;
  for (const auto& [ticket, waiting] : waiters)
    if (waiting.waiter.progress && tickets_.contains(ticket)) waiting.waiter.progress(last);
}

void WarmUps::on_done(const Key& key, std::uint64_t call, const Status& status) {
  const auto at = running_.find(key);
  if (at == running_.end() || at->second.call != call) return;
  auto& running = at->second;
  // Cancelled: by another job of the same user, with another --cache, that shared the copy on the node.
  const bool again = !status && (status.error().code == Code::unavailable || status.error().code == Code::cancelled);
  if (again && running.retries < kRetries) {
    ++running.retries;
    running.call = 0;
    strand_.post_after(kRetryAfter, [this, key] { start(key); });
    return;
  }
  if (!status) return finish(key, fail(status.error()));
  if (running.last.phase != WarmPhase::complete)
    return finish(key, fail(Code::aborted, running.last.message.empty() ? "the warm-up ended before it was complete"
                                                                        : running.last.message));
  if (running.last.skipped == 0) registry_.note_complete(std::get<0>(key), std::get<1>(key), running.last.generation);
  registry_.note_reader(std::get<1>(key), std::get<2>(key));
  finish(key, running.last.generation);
}

/// Who joined after its walk had begun may want something newer, or all of it: the agent is asked once more for him.
void WarmUps::finish(const Key& key, const Result<Generation>& result) {
  auto node = running_.extract(key);
  leave(key);
  const auto served = node.mapped().order;
  observer_(std::get<0>(key), served, nullptr);
  for (auto& [ticket, waiting] : node.mapped().waiters) {
    if (!tickets_.contains(ticket)) continue;
    const auto& order = waiting.order;
    const bool again = result && (order.asked > served.asked || (order.revalidate && !served.revalidate) ||
                                  (!order.settled_only && served.settled_only) || (!order.keep && served.keep));
    if (!again) {
      tickets_.erase(ticket);
      waiting.waiter.done(result);
      continue;
    }
    const auto [at, added] = enter(key);
    at->second.waiters.emplace(ticket, waiting);
    auto& next = at->second.order;
    const WallTime newest = added ? order.asked : std::max(next.asked, order.asked);
    const bool settled = order.settled_only && (added || next.settled_only);
    const bool keep = order.keep && (added || next.keep);
    const bool revalidate = order.revalidate || (!added && next.revalidate);
    next = order;
    next.asked = newest;
    next.settled_only = settled;
    next.keep = keep;
    next.revalidate = revalidate;
    if (!added) continue;
    at->second.since = at->second.moved = clock_.now();
    at->second.last.dataset = order.dataset;
    at->second.last.node = std::get<0>(key);
    strand_.post([this, key] { start(key); });
  }
}

bool WarmUps::warming(const std::string& node, const DatasetId& dataset) const {
  const auto at = running_.lower_bound({node, dataset, 0, 0, {}});
  return at != running_.end() && std::get<0>(at->first) == node && std::get<1>(at->first) == dataset;
}

const WarmProgress* WarmUps::progress(const std::string& node, const DatasetId& dataset) const {
  const auto at = running_.lower_bound({node, dataset, 0, 0, {}});
  if (at == running_.end() || std::get<0>(at->first) != node || std::get<1>(at->first) != dataset) return nullptr;
  return &at->second.last;
}

std::chrono::milliseconds WarmUps::running_for(const std::string& node, const DatasetId& dataset) const {
  const auto at = running_.lower_bound({node, dataset, 0, 0, {}});
  if (at == running_.end() || std::get<0>(at->first) != node || std::get<1>(at->first) != dataset) return {};
  return std::chrono::duration_cast<std::chrono::milliseconds>(clock_.now() - at->second.since);
}

std::vector<WarmUps::Filling> WarmUps::filling(const DatasetId& dataset) const {
  std::vector<Filling> out;
  const auto at = of_dataset_.find(dataset);
  if (at == of_dataset_.end()) return out;
  for (const auto& key : at->second) {
    const auto& running = running_.at(key);
    out.push_back({std::get<0>(key), running.since, running.last.generation.id});
  }
  return out;
}

void WarmUps::each_moving(
    const std::function<void(const std::string& node, const WarmOrder&, const WarmProgress&)>& visit) const {
  const auto now = clock_.now();
  for (const auto& [key, running] : running_)
    if (now - running.moved < kStuck) visit(std::get<0>(key), running.order, running.last);
}

std::vector<WarmUps::View> WarmUps::all() const {
  std::vector<View> out;
  for (const auto& [key, running] : running_) out.push_back({std::get<0>(key), std::get<2>(key), running.last});
  return out;
}

}  // namespace atlas
