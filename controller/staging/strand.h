#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "controller/staging/executor.h"

namespace atlas {

/// An Executor with a thread of its own.
class Strand final : public Executor {
 public:
  /// `name` shows in ps and debuggers (15 bytes). `on_failure` hears of a task that threw: a bug, but not the end.
  Strand(std::string name, std::function<void(const char* what)> on_failure);
  /// Stops: the task that runs is waited for, what is still queued is dropped.
  ~Strand() override;
  Strand(const Strand&) = delete;
  Strand& operator=(const Strand&) = delete;

  void post(Task task) override;
  void post_after(std::chrono::milliseconds delay, Task task) override;
  /// As the destructor; idempotent. Not from a task.
  void stop();

 private:
  void run(std::string name);

  std::mutex mutex_;  ///< guards what follows; never held while a task runs
  std::condition_variable changed_;
  std::deque<Task> ready_;
  std::multimap<std::chrono::steady_clock::time_point, Task> later_;
  bool stopping_ = false;
  std::function<void(const char*)> on_failure_;
  std::thread thread_;
};

}  // namespace atlas
