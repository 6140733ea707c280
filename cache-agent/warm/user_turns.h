#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "cache-agent/fetch/executor.h"

namespace atlas::agent {

/// Tasks of users on an executor whose threads they hold for long: at most `each` of one user at a time, so that one
/// whose warm-ups all wait for his limit does not take the threads of everybody else's. Thread-safe; never blocks. It
/// must outlive the executor's tasks.
class UserTurns {
 public:
  UserTurns(Executor& executor, unsigned each) : executor_(executor), each_(each) {}

  void post(std::uint32_t uid, Task task) {
    {
      const std::lock_guard lock(mutex_);
      auto& user = users_[uid];
      if (user.running >= each_) return user.waiting.push_back(std::move(task));
      ++user.running;
    }
    start(uid, std::move(task));
  }

 private:
  struct User {
    unsigned running = 0;
    std::deque<Task> waiting;
  };
  /// Gives the turn on, however the task ends.
  class Turn {
   public:
    Turn(UserTurns& turns, std::uint32_t uid) : turns_(turns), uid_(uid) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() { turns_.next(uid_); }

   private:
    UserTurns& turns_;
    std::uint32_t uid_;
  };
  void start(std::uint32_t uid, Task task) {
    executor_.post([this, uid, task = std::move(task)] {
      const Turn turn(*this, uid);
      task();
    });
  }
  void next(std::uint32_t uid) {
    Task task;
    {
      const std::lock_guard lock(mutex_);
      const auto at = users_.find(uid);
      if (at->second.waiting.empty()) {
        if (--at->second.running == 0) users_.erase(at);
        return;
      }
      task = std::move(at->second.waiting.front());
      at->second.waiting.pop_front();
    }
    start(uid, std::move(task));
  }

  Executor& executor_;
  const unsigned each_;
  std::mutex mutex_;  ///< guards what follows
  std::map<std::uint32_t, User> users_;
};

}  // namespace atlas::agent
