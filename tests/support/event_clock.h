#pragma once
#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <utility>

#include "cache-agent/fetch/executor.h"
#include "common/units.h"

namespace atlas {

/// A clock that goes when it is told to, and an executor by it: what is posted runs in order of time, in run_until().
/// The time of day jumps a day ahead or back whenever somebody looks: what is measured by it goes wrong in every test.
class EventClock final : public agent::Executor, public Clock {
 public:
  [[nodiscard]] SteadyTime now() const override { return now_; }
  [[nodiscard]] WallTime wall() const override {
    ahead_ = !ahead_;
    return WallTime(now_.time_since_epoch()) + std::chrono::hours(ahead_ ? 24 : 0);
  }
  void post(agent::Task task) override { queue_.emplace(now_, Event{{}, false, std::move(task)}); }
  agent::TimerHandle post_at(SteadyTime when, agent::Task task) override {
    auto wanted = std::make_shared<bool>(true);
    queue_.emplace(std::max(when, now_), Event{wanted, true, std::move(task)});
    return agent::TimerHandle(std::move(wanted));
  }
  void at(SteadyTime when, agent::Task task) {
    queue_.emplace(std::max(when, now_), Event{{}, false, std::move(task)});
  }
  void run_until(SteadyTime end) {
    while (!queue_.empty() && queue_.begin()->first < end) {
      auto event = std::move(queue_.extract(queue_.begin()));
      now_ = event.key();
      if (!event.mapped().timer || !event.mapped().wanted.expired()) event.mapped().task();
    }
    now_ = end;
  }

 private:
  struct Event {
    std::weak_ptr<bool> wanted;
    bool timer;
    agent::Task task;
  };
  SteadyTime now_{std::chrono::hours(1)};
  mutable bool ahead_ = false;
  std::multimap<SteadyTime, Event> queue_;
};

}  // namespace atlas
