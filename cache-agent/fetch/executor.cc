#include "cache-agent/fetch/executor.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <exception>

namespace atlas::agent {

ThreadExecutor::ThreadExecutor(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { serve(); });
}

ThreadExecutor::~ThreadExecutor() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadExecutor::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
}

TimerHandle ThreadExecutor::post_at(SteadyTime when, Task task) {
  auto wanted = std::make_shared<bool>(true);
  {
    const std::lock_guard lock(mutex_);
    timers_.emplace(when, Timer{wanted, std::move(task)});
  }
  wake_.notify_one();
  return TimerHandle(std::move(wanted));
}

void ThreadExecutor::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    Task task;
    if (!queue_.empty()) {
      task = std::move(queue_.front());
      queue_.pop_front();
    } else if (stop_) {
      return;
    } else if (timers_.empty()) {
      wake_.wait(lock);
    } else if (const auto first = timers_.begin(); first->first <= std::chrono::steady_clock::now()) {
      if (!first->second.wanted.expired()) task = std::move(first->second.task);
      timers_.erase(first);
    } else {
      wake_.wait_until(lock, SteadyTime(first->first));
    }
    if (!task) continue;
    lock.unlock();
    try {
      task();
    } catch (const std::exception& error) {
      spdlog::error("a task failed: {}", error.what());
    }
    task = {};  // what it holds goes outside the lock
    lock.lock();
  }
}

}  // namespace atlas::agent
