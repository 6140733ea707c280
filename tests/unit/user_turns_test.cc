#include "cache-agent/warm/user_turns.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <stdexcept>

namespace atlas::agent {
namespace {

TEST(UserTurns, OneUsersTasksLeaveThreadsToOthers) {
  std::latch open(1);
  std::atomic<int> first{0};
  {
    std::latch second(1);
    ThreadExecutor threads(4);
    UserTurns turns(threads, 2);
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

TEST(UserTurns, ATaskThatThrowsGivesItsTurnOn) {
  std::latch done(1);
  ThreadExecutor threads(2);
  UserTurns turns(threads, 1);
  turns.post(7, [] { throw std::runtime_error("for this test"); });
  turns.post(7, [&] { done.count_down(); });
  done.wait();
}

}  // namespace
}  // namespace atlas::agent
