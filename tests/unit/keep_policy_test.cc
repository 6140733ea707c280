// Keep until it is full, against least-recently-used, for a training that reads everything once an epoch.
#include <gtest/gtest.h>

#include "tests/support/keep_policy.h"

namespace atlas::testing {
namespace {

class KeepPolicy : public ::testing::TestWithParam<unsigned> {};

TEST_P(KeepPolicy, AnEpochHitsWhatFitsAndLruLess) {
  constexpr std::uint64_t kBlocks = 20'000;
  const double share = GetParam() / 100.0;
  const auto ratios = compare_policies(kBlocks, kBlocks * GetParam() / 100, 3, 7);
  EXPECT_EQ(ratios.kept[0], 0.0) << "everything is new in the first epoch";
  for (const unsigned epoch : {1U, 2U}) {
    EXPECT_DOUBLE_EQ(ratios.kept[epoch], share) << "every block that is kept is hit, once";
    // A block is still there if fewer others than fit came between: for a share c of the data that is c - ln-like loss,
    // at most c^2 / 2 + ... ; it is measured here, and never the better one.
    EXPECT_LT(ratios.lru[epoch], ratios.kept[epoch] - 0.05);
  }
  RecordProperty("kept", std::to_string(ratios.kept[2]));
  RecordProperty("lru", std::to_string(ratios.lru[2]));
  printf("cache %u%% of the data: kept %.1f%% of an epoch's reads, least-recently-used %.1f%%\n", GetParam(),
         100 * ratios.kept[2], 100 * ratios.lru[2]);
}

INSTANTIATE_TEST_SUITE_P(Shares, KeepPolicy, ::testing::Values(25U, 50U, 75U));

TEST(KeepPolicyWhole, ADatasetThatFitsIsHitWhole) {
  const auto ratios = compare_policies(1000, 1000, 2, 7);
  EXPECT_DOUBLE_EQ(ratios.kept[1], 1.0);
  EXPECT_DOUBLE_EQ(ratios.lru[1], 1.0);
}

}  // namespace
}  // namespace atlas::testing
