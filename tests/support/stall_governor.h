#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

#include "cache-agent/fetch/governor.h"

namespace atlas::agent {

/// Lets a number of fetches begin and holds the others: a warm-up that stands still at a known place. Not a mock: it is
/// a governor, as limits will be.
class StallGovernor final : public Governor {
 public:
  explicit StallGovernor(unsigned free) : free_(free) {}
  /// Called before each admission, in the thread of the warm-up.
  std::function<void(unsigned number)> before = [](unsigned) {};

  std::optional<Grant> try_admit(const Charge&) override { return std::nullopt; }
  Ticket admit(const Charge& charge, std::function<void(Grant)> go) override {
    const Grant grant{nullptr, charge.urgency, charge.bytes, charge.operations};
    unsigned number = 0;
    {
      const std::lock_guard lock(mutex_);
      number = seen_++;
    }
    before(number);
    {
      const std::lock_guard lock(mutex_);
      if (number >= free_) {
        held_.push_back([grant, go = std::move(go)] { go(grant); });
        changed_.notify_all();
        return {};
      }
    }
    go(grant);
    return {};
  }
  void charge(const Charge&) override {}
  [[nodiscard]] Bytes at_a_time(const Charge&, Bytes, Bytes most) override { return most; }
  [[nodiscard]] bool parks(std::uint32_t, std::uint32_t) const override { return false; }
  void settle(const Grant& /*grant*/, Bytes /*moved*/, std::uint32_t /*operations*/) override {
    const std::lock_guard lock(mutex_);
    ++settled_;
    changed_.notify_all();
  }
  /// Waits until all free ones are through and at least one more is held.
  void wait_until_stalled() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return settled_ >= free_ && !held_.empty(); });
  }
  void release_all() {
    std::vector<std::function<void()>> held;
    {
      const std::lock_guard lock(mutex_);
      free_ = ~0U;
      held.swap(held_);
    }
    for (const auto& go : held) go();
  }

 private:
  std::mutex mutex_;  ///< guards what follows
  std::condition_variable changed_;
  unsigned free_, seen_ = 0, settled_ = 0;
  std::vector<std::function<void()>> held_;
};

}  // namespace atlas::agent
