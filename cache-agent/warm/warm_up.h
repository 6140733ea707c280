#pragma once
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

#include "cache-agent/warm/warm_engine.h"

namespace atlas::agent {

/// Of so many files on, what a walk or a warm-up has needed meanwhile is worth giving back to the system at once.
inline constexpr std::uint64_t kMany = 10'000;

/// One warm-up under way: what it is about, how far it is, who listens. Private to warm/. Thread-safe.
class WarmUp {
 public:
  WarmUp(WarmRequest what, std::string node) : request(std::move(what)) {
    progress_.phase = WarmPhase::walking;
    progress_.dataset = request.dataset;
    progress_.node = std::move(node);
  }

  const WarmRequest request;
  std::stop_source stop;
  /// Bytes read from the origin for it.
  const std::shared_ptr<std::atomic<std::uint64_t>> moved = std::make_shared<std::atomic<std::uint64_t>>(0);
  /// Bytes read from other nodes for it.
  const std::shared_ptr<std::atomic<std::uint64_t>> from_peers = std::make_shared<std::atomic<std::uint64_t>>(0);
  /// Those who follow it pay, too, for what they want sooner than its own payer may read it.
  const std::shared_ptr<Backers> backers = std::make_shared<Backers>();
  std::atomic<std::uint64_t> failures{0}, skipped{0};
  std::atomic<bool> share{false};  ///< it brings this node's share only
  TimerHandle ticking;             ///< guarded by the engine's mutex

  /// False when it is over already.
  bool listen(WarmEngine::OnProgress progress, WarmEngine::OnDone done, SteadyTime now);
  void enter(WarmPhase phase, SteadyTime now);
  /// Where the walk that it waits for counts what it has seen.
  void count(std::shared_ptr<const std::atomic<std::uint64_t>> entries);
  void fill_into(std::shared_ptr<Replica> replica);
  void describe(const ManifestSummary& summary, WallTime observed);
  /// Only so much of it will be here when it ends.
  void expect(Bytes part);
  /// What the walk has found; none as long as it goes on.
  [[nodiscard]] GenerationId generation();
  /// Shows another's progress as its own until that one ends.
  void follow(const std::shared_ptr<WarmUp>& leader);
  [[nodiscard]] WarmProgress snapshot(SteadyTime now);
  void tell(SteadyTime now);
  /// Tells everyone, once.
  void end(const Status& status, SteadyTime now);
  /// Those to be run again when this one has ended; guarded by the engine's mutex.
  std::vector<std::shared_ptr<WarmUp>> followers;

 private:
  struct Sample {
    SteadyTime when;
    std::uint64_t bytes = 0, files = 0;
  };
  struct Listener {
    WarmEngine::OnProgress progress;
    WarmEngine::OnDone done;
  };
  void measure(WarmProgress& out, SteadyTime now);

  std::mutex mutex_;  ///< guards what follows
  WarmProgress progress_;
  std::shared_ptr<const std::atomic<std::uint64_t>> entries_;
  std::shared_ptr<Replica> replica_;
  std::weak_ptr<WarmUp> leader_;
  std::deque<Sample> samples_;  ///< of the last seconds
  std::vector<Listener> listeners_;
  bool ended_ = false;
};

}  // namespace atlas::agent
