#include "controller/staging/strand.h"

#include <pthread.h>

#include <exception>
#include <utility>

namespace atlas {

Strand::Strand(std::string name, std::function<void(const char*)> on_failure)
    : on_failure_(std::move(on_failure)), thread_([this, name = std::move(name)] { run(name); }) {}

Strand::~Strand() {
  stop();
}

void Strand::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    ready_.push_back(std::move(task));
  }
  changed_.notify_one();
}

void Strand::post_after(std::chrono::milliseconds delay, Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    later_.emplace(std::chrono::steady_clock::now() + delay, std::move(task));
  }
  changed_.notify_one();
}

void Strand::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
  std::deque<Task> ready;
  std::multimap<std::chrono::steady_clock::time_point, Task> later;
  {
    const std::lock_guard lock(mutex_);
    ready.swap(ready_);
    later.swap(later_);
  }
}  // what the dropped tasks own goes here, outside the lock

void Strand::run(std::string name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto now = std::chrono::steady_clock::now();
    while (!later_.empty() && later_.begin()->first <= now) {
      ready_.push_back(std::move(later_.begin()->second));
      later_.erase(later_.begin());
    }
    if (ready_.empty()) {
      if (later_.empty()) {
        changed_.wait(lock);
      } else {
        changed_.wait_until(lock, later_.begin()->first);
      }
      continue;
    }
    Task task = std::move(ready_.front());
    ready_.pop_front();
    lock.unlock();
    try {
      task();
      task = nullptr;
    } catch (const std::exception& error) {
      on_failure_(error.what());
    } catch (...) {
      on_failure_("an exception of unknown type");
    }
    lock.lock();
  }
}

}  // namespace atlas
