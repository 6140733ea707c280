#include "cache-agent/limit/token_bucket.h"

#include <gtest/gtest.h>

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

SteadyTime at(std::chrono::milliseconds since) {
  return SteadyTime(1h) + since;
}

TEST(TokenBucket, DebtOfAnOversizedReadIsRepaidByTheNextRequest) {
  TokenBucket bucket(100, 1s, at(0ms));
  ASSERT_TRUE(bucket.ready(at(0ms)));
  bucket.take(250);
  EXPECT_FALSE(bucket.ready(at(2499ms)));
  EXPECT_GT(bucket.ready_at(), at(2499ms));
  EXPECT_LE(bucket.ready_at(), at(2501ms));
  EXPECT_TRUE(bucket.ready(bucket.ready_at()));
}

TEST(TokenBucket, NoMoreComesAtOnceThanTheBurst) {
  TokenBucket bucket(100, 500ms, at(0ms));
  ASSERT_TRUE(bucket.ready(at(60s)));
  EXPECT_DOUBLE_EQ(bucket.level(), 50);
}

TEST(TokenBucket, StartsEmptySoThatARestartGivesNothingAway) {
  TokenBucket bucket(100, 10s, at(0ms));
  ASSERT_TRUE(bucket.ready(at(0ms)));  // one request
  bucket.take(100);
  EXPECT_FALSE(bucket.ready(at(900ms)));
}

TEST(TokenBucket, HoldsItsRateOverTimeWhateverTheSizes) {
  TokenBucket bucket(1e6, 100ms, at(0ms));
  double taken = 0;
  unsigned size = 1;
  for (auto now = at(0ms); now < at(100s); now += 1ms) {
    while (bucket.ready(now)) {
      size = size * 1103515245U + 12345U;
      const double want = 1 + size % 300'000;
      bucket.take(want);
      taken += want;
    }
  }
  EXPECT_NEAR(taken, 100e6, 0.5e6);
}

TEST(TokenBucket, ARateThatIsLoweredKeepsTheDebtButNotTheTimeBeyondTheLongest) {
  TokenBucket bucket(1000, 1s, at(0ms));
  bucket.take(5000);
  bucket.set(1, 1s, at(0ms));
  EXPECT_FALSE(bucket.ready(at(29s)));
  EXPECT_TRUE(bucket.ready(at(30s) + 1ms));
}

TEST(TokenBucket, ARateThatIsRaisedLetsTheDebtBeRepaidSooner) {
  TokenBucket bucket(10, 1s, at(0ms));
  bucket.take(50);
  bucket.set(100, 1s, at(0ms));
  EXPECT_TRUE(bucket.ready(at(501ms)));
}

TEST(TokenBucket, WhatWasSavedUpStaysWhenTheRateGoesDownButNoMoreComesUntilItIsSpent) {
  TokenBucket bucket(100, 2s, at(0ms));
  bucket.set(10, 2s, at(5s), 1000);
  EXPECT_DOUBLE_EQ(bucket.level(), 200);
  ASSERT_TRUE(bucket.ready(at(60s)));
  EXPECT_DOUBLE_EQ(bucket.level(), 200);
  bucket.take(190);
  ASSERT_TRUE(bucket.ready(at(120s)));
  EXPECT_DOUBLE_EQ(bucket.level(), 20);
  bucket.set(1, 2s, at(120s));
  EXPECT_DOUBLE_EQ(bucket.level(), 2) << "a limit that was lowered itself leaves nothing";
}

TEST(TokenBucket, ATimeThatGoesBackIsOneThatStandsStill) {
  TokenBucket bucket(100, 1s, at(10s));
  bucket.take(100);
  EXPECT_FALSE(bucket.ready(at(5s)));
  EXPECT_FALSE(bucket.ready(at(10500ms)));
  EXPECT_TRUE(bucket.ready(at(11s)));
}

TEST(TokenBucket, WhatIsGivenBackIsThereButNotMoreThanTheBurst) {
  TokenBucket bucket(100, 100ms, at(0ms));
  bucket.take(500);
  bucket.give_back(500);
  EXPECT_TRUE(bucket.ready(at(0ms)));
  bucket.give_back(500);
  EXPECT_LE(bucket.level(), 10);
}

TEST(TokenBucket, AByteASecondLetsARequestPassInHalfAMinute) {
  TokenBucket bucket(1, 100ms, at(0ms));
  bucket.take(1 << 20);
  EXPECT_LE(bucket.ready_at(), at(30s) + 1ms);
}

TEST(TokenBucket, WhatIsGivenBackOfMoreThanTheLongestDebtIsNotGivenTwice) {
  TokenBucket bucket(1, 100ms, at(0ms));
  bucket.take(1000);  // of which 970 are forgiven
  bucket.give_back(500);
  EXPECT_FALSE(bucket.ready(at(29s))) << "he has had 500";
  EXPECT_TRUE(bucket.ready(at(30s)));
  bucket.take(10);
  bucket.give_back(10);
  EXPECT_TRUE(bucket.ready(at(30s))) << "what was forgiven before is over";
}

TEST(TokenBucket, WhatWasReadWithoutALimitHasSavedUpNothingForOne) {
  TokenBucket bucket(kNoRate, 0s, at(0ms));
  ASSERT_TRUE(bucket.ready(at(60s)));
  bucket.set(100, 60s, at(61s), 100 * 60);
  EXPECT_LE(bucket.level(), 0);
  EXPECT_TRUE(bucket.ready(at(61s)));
  bucket.take(100);
  EXPECT_FALSE(bucket.ready(at(61s + 900ms)));
}

TEST(TokenBucket, WithoutALimitNothingIsCounted) {
  TokenBucket bucket(kNoRate, 0s, at(0ms));
  bucket.take(1e15);
  EXPECT_TRUE(bucket.ready(at(0ms)));
}

}  // namespace
}  // namespace atlas::agent
