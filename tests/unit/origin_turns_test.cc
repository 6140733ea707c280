#include "controller/placement/origin_turns.h"

#include <gtest/gtest.h>

namespace atlas {
namespace {

constexpr Bytes kOne{2}, kAll{8}, kData{100};

OriginTurns with(std::uint32_t active, Bytes left = {}) {
  OriginTurns turns;
  turns.begin({{"lustre", {kOne, kAll, active, left}}});
  return turns;
}

TEST(OriginTurns, OneMoreAtATimeThanFillTheOrigin) {
  EXPECT_EQ(OriginTurns::at_a_time(Bytes{2}, Bytes{8}), 5U);
  EXPECT_EQ(OriginTurns::at_a_time(Bytes{3}, Bytes{8}), 4U);
  EXPECT_EQ(OriginTurns::at_a_time(Bytes{8}, Bytes{8}), 2U);
  EXPECT_EQ(OriginTurns::at_a_time(Bytes{8}, Bytes{0}), 2U);
}

TEST(OriginTurns, ThoseWhoAskFirstBeginFirst) {
  auto turns = with(4);
  EXPECT_TRUE(turns.take("lustre", 1, kData));
  EXPECT_FALSE(turns.take("lustre", 1, kData));
  EXPECT_FALSE(turns.take("lustre", 1, kData));
  EXPECT_EQ(turns.ahead("lustre"), Bytes{300});
}

TEST(OriginTurns, AJobOfManyNodesBeginsOnAllOfThem) {
  auto turns = with(4);
  EXPECT_TRUE(turns.take("lustre", 8, kData));
  EXPECT_FALSE(turns.take("lustre", 1, kData));
}

TEST(OriginTurns, WhoComesBetweenLooksIsBehindThoseInLine) {
  auto turns = with(5);
  EXPECT_FALSE(turns.take("lustre", 1, kData));
  turns.end();
  EXPECT_FALSE(turns.take("lustre", 1, kData));
  auto free = with(4);
  free.end();
  EXPECT_TRUE(free.take("lustre", 1, kData)) << "nobody is";
}

TEST(OriginTurns, WhatIsEarlyBeginsOnlyWhereNobodyReadsAndHoldsUpNobody) {
  auto busy = with(1, Bytes{50});
  EXPECT_FALSE(busy.take("lustre", 1, kData, true));
  EXPECT_EQ(busy.ahead("lustre"), Bytes{50});
  EXPECT_TRUE(busy.take("lustre", 1, kData));
  auto idle = with(0);
  EXPECT_TRUE(idle.take("lustre", 1, kData, true));
  EXPECT_FALSE(idle.take("lustre", 1, kData, true));
}

TEST(OriginTurns, WhatLiesAboutForLongerThanItTakesIsEarly) {
  EXPECT_FALSE(OriginTurns::early(0, 100));
  EXPECT_FALSE(OriginTurns::early(260, 100));
  EXPECT_TRUE(OriginTurns::early(261, 100));
}

TEST(OriginTurns, ThereAreNoneAtAnOriginOfWhichNothingIsKnown) {
  OriginTurns turns;
  turns.begin({{"lustre", {{}, {}, 100, {}}}});
  EXPECT_TRUE(turns.take("lustre", 1, kData));
  EXPECT_TRUE(turns.take("lustre", 1, kData, true));
  EXPECT_TRUE(turns.take("home", 1, kData));
  EXPECT_EQ(turns.ahead("home"), Bytes{});
}

}  // namespace
}  // namespace atlas
