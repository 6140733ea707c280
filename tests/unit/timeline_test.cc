#include "controller/placement/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atlas {
namespace {

using namespace std::chrono_literals;

std::vector<std::pair<std::chrono::milliseconds, std::uint32_t>> steps(const CpuTimeline& timeline,
                                                                       std::uint32_t cpus) {
  std::vector<std::pair<std::chrono::milliseconds, std::uint32_t>> out;
  for (const auto& step : timeline.steps(cpus)) out.emplace_back(step.in, step.cpus);
  return out;
}

using Steps = std::vector<std::pair<std::chrono::milliseconds, std::uint32_t>>;

TEST(CpuTimeline, RunningJobsGiveTheirCpusBackInAnyOrder) {
  CpuTimeline timeline(1);
  timeline.give(60, 2);
  timeline.give(10, 1);
  timeline.give(60, 0);
  EXPECT_EQ(steps(timeline, 4), (Steps{{0ms, 1}, {10s, 2}, {60s, 4}}));
  timeline.give(-5, 1);
  EXPECT_EQ(steps(timeline, 4), (Steps{{0ms, 2}, {10s, 3}, {60s, 4}})) << "never more than the node has";
}

TEST(CpuTimeline, PlannedJobsTakeWhatIsThere) {
  CpuTimeline timeline(4);
  timeline.take(10, 20, 3);
  EXPECT_EQ(steps(timeline, 4), (Steps{{0ms, 4}, {10s, 1}, {20s, 4}}));
  timeline.take(15, std::numeric_limits<double>::infinity(), 2);
  EXPECT_EQ(steps(timeline, 4), (Steps{{0ms, 4}, {10s, 1}, {15s, 0}, {20s, 2}}));
  timeline.take(5, 5, 4);
  EXPECT_EQ(steps(timeline, 4), (Steps{{0ms, 4}, {10s, 1}, {15s, 0}, {20s, 2}}));
}

TEST(CpuTimeline, ManyStepsStaySorted) {
  CpuTimeline timeline(0);
  for (int i = 100; i > 0; --i) timeline.give(i, 1);
  for (int i = 0; i < 100; ++i) timeline.take(i + 0.5, i + 0.75, 100);
  const auto all = timeline.steps(100);
  for (std::size_t i = 1; i < all.size(); ++i) EXPECT_LT(all[i - 1].in, all[i].in);
  EXPECT_EQ(all.back().cpus, 100U);
}

}  // namespace
}  // namespace atlas
