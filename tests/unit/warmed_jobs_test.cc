#include "cache-agent/jobs/warmed_jobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/event_clock.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(WarmedJobs, AJobThatEndsWhileItIsWarmedForIsForgottenAfterwards) {
  EventClock time;
  WarmedJobs jobs(time);
  jobs.begins(1);
  jobs.begins(1);
  EXPECT_FALSE(jobs.is_over(1));
  EXPECT_FALSE(jobs.ends(1));
  EXPECT_TRUE(jobs.ends(1));
  EXPECT_EQ(jobs.known(), 0U);
  EXPECT_TRUE(jobs.is_over(1)) << "told twice, it is over";
}

TEST(WarmedJobs, AJobThatNeverCameIsForgottenAfterADay) {
  EventClock time;
  WarmedJobs jobs(time);
  for (std::uint32_t job = 1; job <= 1000; ++job) {
    jobs.begins(job);
    EXPECT_FALSE(jobs.ends(job));
  }
  jobs.begins(2000);
  time.run_until(time.now() + 23h);
  jobs.begins(3);
  EXPECT_FALSE(jobs.ends(3));
  EXPECT_THAT(jobs.take_forgotten(), IsEmpty());
  time.run_until(time.now() + 1h);
  EXPECT_EQ(jobs.take_forgotten().size(), 999U);
  EXPECT_EQ(jobs.known(), 2U) << "one is being warmed for, one was until an hour ago";
  EXPECT_FALSE(jobs.ends(2000));
  time.run_until(time.now() + 25h);
  EXPECT_THAT(jobs.take_forgotten(), ElementsAre(3, 2000));
}

}  // namespace
}  // namespace atlas::agent
