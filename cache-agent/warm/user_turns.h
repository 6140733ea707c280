#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "cache-agent/fetch/executor.h"

namespace atlas::agent {

/// Tasks of users on an executor whose threads they hold for long: at most `each` of one user at a time, so that one
/// whose warm-ups all wait for his limit does not take the threads of everybody else's. Half of the `threads` are only
/// for users who have no other: so the next user's begins, too, while several wait for their limits with all that they
/// may have. Thread-safe; never blocks. It must outlive the executor's tasks.
class UserTurns {
 public:
  UserTurns(Executor& executor, unsigned threads, unsigned each)
      : executor_(executor), shared_(threads - threads / 2), each_(each) {}

  void post(std::uint32_t uid, Task task) {
    {
      const std::lock_guard lock(mutex_);
      auto& user = users_[uid];
      if (!may_begin(user)) return user.waiting.push_back(std::move(task));
      begin(user);
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
  /// A user's first is always begun: mutex_ is held, here and below.
  [[nodiscard]] bool may_begin(const User& user) const {
    return user.running == 0 || (user.running < each_ && further_ < shared_);
  }
  void begin(User& user) {
    if (user.running++ != 0) ++further_;
  }
  /// A turn is over: whoever has the fewest of those who wait goes on.
  void next(std::uint32_t uid) {
    std::uint32_t who = uid;
    Task task;
    {
      const std::lock_guard lock(mutex_);
      auto& user = users_.at(uid);
      if (--user.running != 0) --further_;
      User* chosen = nullptr;
      for (auto& [other, one] : users_) {
        if (one.waiting.empty() || !may_begin(one) || (chosen != nullptr && one.running >= chosen->running)) continue;
        who = other;
        chosen = &one;
      }
      if (chosen != nullptr) {
        task = std::move(chosen->waiting.front());
        chosen->waiting.pop_front();
        begin(*chosen);
      }
      if (user.running == 0 && user.waiting.empty()) users_.erase(uid);
    }
    if (task) start(who, std::move(task));
  }

  Executor& executor_;
  const unsigned shared_, each_;
  std::mutex mutex_;  ///< guards what follows
  std::map<std::uint32_t, User> users_;
  unsigned further_ = 0;  ///< that run, beyond the first of each user
};

}  // namespace atlas::agent
