#include "cache-agent/warm/user_turns.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <stdexcept>
#include <thread>

namespace atlas::agent {
namespace {

/// The threads end first: a task gives its turn on after its own end.
struct Pool {
  Pool(unsigned count, unsigned each) : turns(threads, count, each), threads(count) {}
  UserTurns turns;
  ThreadExecutor threads;
};

TEST(UserTurns, OneUsersTasksLeaveThreadsToOthers) {
  std::latch open(1);
  std::atomic<int> first{0};
  {
    std::latch second(1);
    Pool pool(4, 2);
    auto& turns = pool.turns;
    for (int i = 0; i < 10; ++i)
      turns.post(1001, [&] {
        ++first;
        open.wait();
      });
    turns.post(1002, [&] { second.count_down(); });
    second.wait();  // for ever, if the first user had all threads
    EXPECT_LE(first, 2);
    open.count_down();
    while (first < 10) std::this_thread::yield();
  }
  EXPECT_EQ(first, 10);
}

TEST(UserTurns, TheNinthUsersBeginsWhileEightWaitWithAllTheyMayHave) {
  std::latch open(1);
  std::atomic<int> running{0}, through{0};
  std::latch ninth(1), first(8);
  {
    Pool pool(64, 8);
    auto& turns = pool.turns;
    for (std::uint32_t user = 1; user <= 8; ++user)
      for (int i = 0; i < 20; ++i)
        turns.post(user, [&, i] {
          ++running;
          if (i == 0) first.count_down();
          open.wait();
          ++through;
        });
    first.wait();
    for (std::uint32_t user = 9; user <= 31; ++user) turns.post(user, [&] { open.wait(); });
    turns.post(32, [&] { ninth.count_down(); });  // and some more
    ninth.wait();
    while (running < 8 + 32) std::this_thread::yield();
    EXPECT_EQ(running, 8 + 32);
    open.count_down();
    while (through < 8 * 20) std::this_thread::yield();  // nobody is forgotten
  }
  EXPECT_EQ(through, 8 * 20);
}

TEST(UserTurns, ATaskThatThrowsGivesItsTurnOn) {
  std::latch done(1);
  Pool pool(2, 1);
  auto& turns = pool.turns;
  turns.post(7, [] { throw std::runtime_error("for this test"); });
  turns.post(7, [&] { done.count_down(); });
  done.wait();
}

}  // namespace
}  // namespace atlas::agent
