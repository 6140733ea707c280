#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/units.h"

namespace atlas::agent {

using Task = std::function<void()>;

/// A task that waits for its time; dropping the handle calls it off (if it has not begun).
class TimerHandle {
 public:
  TimerHandle() = default;
  explicit TimerHandle(std::shared_ptr<bool> wanted) : wanted_(std::move(wanted)) {}
  void cancel() { wanted_.reset(); }

 private:
  std::shared_ptr<bool> wanted_;
};

/// Runs tasks on threads of its own: the only way to wait below main(). Thread-safe, never blocks the caller.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void post(Task task) = 0;
  [[nodiscard]] virtual TimerHandle post_at(SteadyTime when, Task task) = 0;
};

/// A fixed number of threads that serve one queue. An exception ends its task alone, and is logged.
class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(unsigned threads);
  /// Runs what is queued, drops timers, joins.
  ~ThreadExecutor() override;
  void post(Task task) override;
  [[nodiscard]] TimerHandle post_at(SteadyTime when, Task task) override;

 private:
  struct Timer {
    std::weak_ptr<bool> wanted;
    Task task;
  };
  void serve();

  std::mutex mutex_;  ///< guards what follows
  std::condition_variable wake_;
  std::deque<Task> queue_;
  std::multimap<SteadyTime, Timer> timers_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace atlas::agent
