#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace atlas::agent {

/// A few threads for what a handler may not do itself, because it blocks. The destructor runs what is queued and joins.
class Workers {
 public:
  explicit Workers(unsigned count);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// Never blocks. Exceptions of a task end with it.
  void post(std::function<void()> task);

 private:
  void run();

  std::mutex mutex_;  ///< guards queue_ and stopping_
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace atlas::agent
