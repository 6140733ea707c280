// Jobs that are only looked at (site.observe): what would have been done with them, and that nothing is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/staging/would_hold.h"
#include "tests/support/staging_world.h"

namespace atlas::test {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kWarm = "v1,w=wait,d=/lustre/speech";

class ObserveTest : public ::testing::Test {
 protected:
  ObserveTest() {
    world.config.site.observe = true;
    world.agents.origin[world.speech] = world.generation;
    world.restart();
    // As measured before: the origin gives a transfer 100 MiB/s, so that speech takes 102.4 s.
    EXPECT_TRUE(world.catalog->put_rate("lustre", Bytes{100 * kMiB.count}, Bytes{100 * kMiB.count}));
    world.restart();
    world.pass(2s);
  }
  /// As job_submit.lua leaves it where jobs are only looked at.
  JobRecord& submit(std::uint32_t id, const std::string& account = "ml", const std::string& request = kWarm) {
    auto& job = world.submit(id, request);
    job.burst_buffer.clear();
    job.admin_comment = "atlas:" + request;
    job.state_reason = "Resources";
    job.account = account;
    job.time_limit = 60min;
    return job;
  }
  /// Slurm starts it, and no hook of ours runs.
  void begin(std::uint32_t id, const std::string& nodes) {
    auto& record = world.slurm.jobs.at(id);
    record.state = JobState::running;
    record.nodes = nodes;
    record.start = std::chrono::floor<std::chrono::seconds>(world.clock.wall());
    for (const auto& name : hosts_of(nodes)) ++world.slurm.nodes.at(name).cpus_busy;
  }
  void over(std::uint32_t id) {
    auto& record = world.slurm.jobs.at(id);
    for (const auto& name : hosts_of(record.nodes)) --world.slurm.nodes.at(name).cpus_busy;
    record.state = JobState::ended;
    record.end = std::chrono::floor<std::chrono::seconds>(world.clock.wall());
  }
  void look() { world.pass(3s); }
  [[nodiscard]] ObservedRow sums(const std::string& account = "ml") {
    const auto rows = world.catalog->observed().value();
    for (const auto& row : rows)
      if (row.account == account) return row;
    return {};
  }
  /// Neither in Slurm nor on a node.
  void expect_nothing_done() {
    EXPECT_THAT(world.slurm.patches, IsEmpty());
    EXPECT_THAT(world.agents.warms, IsEmpty());
    EXPECT_THAT(world.agents.plans, IsEmpty());
    EXPECT_THAT(world.agents.evicted, IsEmpty());
    EXPECT_THAT(world.staging->jobs(), IsEmpty());
    EXPECT_THAT(world.catalog->open_jobs().value(), IsEmpty());
    EXPECT_THAT(world.catalog->leases().value(), IsEmpty());
  }

  StagingWorld world;
};

TEST_F(ObserveTest, AJobIsSummedUpAndNothingIsDone) {
  submit(10);
  look();
  begin(10, "n2");
  look();
  const auto sum = sums();
  EXPECT_EQ(sum.jobs, 1U);
  EXPECT_EQ(sum.total, world.generation.bytes) << "a survey says how much there is";
  EXPECT_EQ(sum.held, Bytes{});
  over(10);
  look();
  EXPECT_EQ(sums().jobs, 1U) << "once";
  expect_nothing_done();
}

TEST_F(ObserveTest, WhatWouldHaveBeenBroughtIsThereForTheNext) {
  submit(10);
  look();
  begin(10, "n3");
  look();
  over(10);
  submit(11);
  look();
  begin(11, "n3");
  look();
  const auto sum = sums();
  EXPECT_EQ(sum.jobs, 2U);
  EXPECT_EQ(sum.held, world.generation.bytes) << "of the second";
  EXPECT_EQ(sum.estimated, 1U) << "how much there is was not known for the first";
  EXPECT_EQ(sum.stall, 0ms);
  expect_nothing_done();
}

TEST_F(ObserveTest, AHolderThatIsBusyWouldBeWaitedForAndSlurmDidNot) {
  world.holds("n1", world.speech);
  submit(5, "other", "v1,d=/lustre/noise").cpus_wanted = 4;
  begin(5, "n1");
  world.slurm.jobs.at(5).time_limit = 1min;
  world.slurm.nodes.at("n1").cpus_busy = 4;
  look();
  submit(10);
  look();
  begin(10, "n2");
  look();
  const auto sum = sums();
  EXPECT_EQ(sum.jobs, 1U);
  EXPECT_EQ(sum.same_nodes, 0U);
  EXPECT_EQ(sum.estimated, 1U);
  EXPECT_NEAR(static_cast<double>(sum.start.count()), 60000, 10000);
  EXPECT_EQ(sum.stall, 0ms);
  EXPECT_EQ(sum.held, world.generation.bytes);
  EXPECT_EQ(sums("other").jobs, 1U);
  expect_nothing_done();
}

TEST_F(ObserveTest, AJobThatNobodySawWaitIsWeighedAsTheClusterWasBeforeIt) {
  world.holds("n1", world.speech);
  submit(10).cpus_wanted = 4;
  begin(10, "n1");
  world.slurm.nodes.at("n1").cpus_busy = 4;
  look();
  look();
  const auto sum = sums();
  EXPECT_EQ(sum.jobs, 1U);
  EXPECT_EQ(sum.same_nodes, 1U) << "its own CPUs are not in its way";
  EXPECT_EQ(sum.start, 0ms);
  EXPECT_EQ(sum.waited, 0ms);
}

TEST_F(ObserveTest, AJobThatBeganAndEndedBetweenTwoLooksCounts) {
  submit(10);
  begin(10, "n1");
  over(10);
  look();
  look();
  EXPECT_EQ(sums().jobs, 1U);
}

TEST_F(ObserveTest, WhatNeverRanOrWantsNothingOrRanBeforeDoesNotCount) {
  submit(10);
  look();
  world.slurm.jobs.at(10).state = JobState::ended;
  submit(11).admin_comment = "no request";
  look();
  begin(11, "n1");
  look();
  world.restart();
  look();
  EXPECT_THAT(world.catalog->observed().value(), IsEmpty());
  submit(12);
  begin(12, "n1");
  world.slurm.jobs.at(12).start -= 1h;
  look();
  EXPECT_THAT(world.catalog->observed().value(), IsEmpty());
}

TEST_F(ObserveTest, AnArrayIsOneJob) {
  auto& whole = submit(10);
  whole.array_job_id = 10;
  whole.array_waiting = true;
  whole.array_tasks = 3;
  look();
  for (std::uint32_t id : {11U, 12U}) {
    auto task = world.slurm.jobs.at(10);
    task.id = id;
    task.array_waiting = false;
    task.array_task_id = id;
    world.slurm.jobs[id] = task;
    begin(id, "n1");
  }
  look();
  look();
  EXPECT_EQ(sums().jobs, 1U);
}

TEST_F(ObserveTest, HooksOfJobsFromBeforeFindNothingToDo) {
  world.submit(10, kWarm);
  std::optional<Staging::HookAnswer> answer;
  world.call(Staging::Hook::data_in, 10, answer);
  world.pass(2s);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->ready);
  std::optional<PlanOrder> order;
  world.staging->job_plan(10, "n1", [&](const Result<std::optional<PlanOrder>>& reply) { order = reply.value(); });
  world.pass(2s);
  EXPECT_FALSE(order) << "the node shows it nothing";
  expect_nothing_done();
}

TEST_F(ObserveTest, WhatWasStagedBeforeGoesOn) {
  world.config.site.observe = false;
  world.restart();
  world.submit(10, kWarm);
  world.data_in(10);
  ASSERT_THAT(world.agents.open(), SizeIs(1));
  world.config.site.observe = true;
  world.restart();
  look();
  EXPECT_THAT(world.agents.open(), SizeIs(1)) << "it is held back for its data";
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  look();
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(ObserveTest, SumsOutliveTheController) {
  submit(10);
  look();
  begin(10, "n2");
  look();
  world.restart();
  look();
  EXPECT_EQ(sums().jobs, 1U);
}

TEST(WouldHold, WhatWasReadLastStays) {
  WouldHold caches;
  const DatasetId a{"lustre", "a"}, b{"lustre", "b"}, c{"lustre", "c"};
  caches.read("n1", a, Bytes{40}, Bytes{100});
  caches.read("n1", b, Bytes{40}, Bytes{100});
  caches.read("n1", a, Bytes{40}, Bytes{100});
  caches.read("n1", c, Bytes{40}, Bytes{100});
  EXPECT_EQ(caches.on("n1", a), Bytes{40});
  EXPECT_EQ(caches.on("n1", b), Bytes{0});
  EXPECT_EQ(caches.on("n1", c), Bytes{40});
  caches.read("n1", b, Bytes{101}, Bytes{100});
  EXPECT_EQ(caches.on("n1", b), Bytes{0}) << "it would not fit";
  EXPECT_EQ(caches.on("n1", c), Bytes{40});
  EXPECT_EQ(caches.on("n2", a), Bytes{0});
}

}  // namespace
}  // namespace atlas::test
