// What staging expects of nodes and storage, and what it weighs for a job because of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/staging_world.h"

namespace atlas::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kAlone = "v1,d=/lustre/speech";
constexpr const char* kWarm = "v1,w=wait,d=/lustre/speech";
constexpr const char* kOverlap = "v1,w=overlap,d=/lustre/speech";

class PlanTest : public ::testing::Test {
 protected:
  /// A job of nobody's concern that keeps all of a node for so long at most.
  void occupy(const std::string& node, std::chrono::minutes limit, std::uint32_t uid = 2000) {
    JobRecord job;
    job.id = next_++;
    job.uid = job.gid = uid;
    job.state = JobState::running;
    job.submitted = job.start = std::chrono::floor<std::chrono::seconds>(world.clock.wall());
    job.time_limit = limit;
    job.cpus_wanted = 4;
    job.nodes = node;
    world.slurm.jobs[job.id] = job;
    world.slurm.nodes.at(node).cpus_busy = 4;
    look();
  }
  /// What staging knows of the queue is too old to be trusted: the next hook has it read again.
  void look() { world.pass(1100ms); }
  /// A warm-up of another dataset shows that the origin gives a transfer 100 MiB/s: speech takes 102.4 s.
  void measure(std::uint64_t mib_per_second = 100) {
    world.submit(5, "v1,w=wait,d=/lustre/noise");
    world.data_in(5);
    ASSERT_THAT(world.agents.open(), SizeIs(1));
    auto& warm = *world.agents.open()[0];
    for (std::uint64_t second = 0; second <= 4; ++second) {
      WarmProgress progress;
      progress.phase = WarmPhase::fetching;
      progress.origin_bytes = progress.bytes_done = Bytes{second * mib_per_second * kMiB.count};
      warm.progress(progress);
      world.pass(1s);
    }
    world.cancel(5);
    world.pass(1s);
    for (auto* open : world.agents.open()) open->over = true;  // the fake agent does not end what is cancelled
  }
  [[nodiscard]] std::vector<std::string> planned(std::uint32_t id) { return world.job(id).row.nodes; }

  StagingWorld world;
  std::uint32_t next_ = 900;
};

TEST_F(PlanTest, AHolderThatIsFreeSoonIsWaitedFor) {
  measure();
  world.holds("n1", world.speech);
  occupy("n1", 1min);
  world.submit(10, kWarm);
  world.data_in(10);
  EXPECT_THAT(planned(10), ElementsAre("n1"));
  EXPECT_THAT(world.agents.open(), IsEmpty()) << "the data is there";
  const auto plan = world.job(10).plan;
  ASSERT_GE(plan.rows.size(), 2U);
  EXPECT_EQ(plan.rows[0].what, "wait");
  EXPECT_EQ(plan.rows[0].nodes, "n1");
  EXPECT_NEAR(static_cast<double>(plan.rows[0].start.count()), 60000, 3000);
  EXPECT_EQ(plan.rows[0].stall, 0ms);
  EXPECT_EQ(plan.rows[0].resident, world.generation.bytes);
  EXPECT_EQ(plan.rows[1].start, 0ms) << "what it would have been elsewhere";
  EXPECT_EQ(plan.rows[1].stall, 102400ms);
}

TEST_F(PlanTest, AHolderThatIsBusyForHoursIsNot) {
  measure();
  world.holds("n1", world.speech);
  occupy("n1", 600min);
  world.submit(10, kWarm);
  world.data_in(10);
  EXPECT_THAT(planned(10), ElementsAre(::testing::AnyOf("n2", "n3")));
  EXPECT_EQ(world.job(10).plan.rows.at(0).what, "warm");
  EXPECT_EQ(world.job(10).row.phase, JobPhase::warming);
}

TEST_F(PlanTest, ThatUsersJobsEndLongBeforeTheirLimitsIsNoPromise) {
  measure();
  world.holds("n1", world.speech);
  // Each of these jobs may run for ten hours and ends after a minute.
  for (int i = 0; i < 20; ++i) {
    occupy("n3", 600min);
    world.pass(60s);
    world.slurm.jobs.erase(next_ - 1);
    world.slurm.nodes.at("n3").cpus_busy = 0;
    world.pass(15s);
  }
  occupy("n1", 600min);
  world.submit(10, kWarm);
  world.data_in(10);
  EXPECT_THAT(planned(10), ElementsAre(::testing::AnyOf("n2", "n3")));
}

/// Three jobs that read a dataset each; two transfers at a time fill an origin that gives one as much as all.
class TurnsTest : public PlanTest {
 protected:
  void SetUp() override {
    measure();
    for (std::uint32_t id = 10; id < 13; ++id) {
      world.submit(id, "v1,w=wait,d=/lustre/set" + std::to_string(id)).cpus_wanted = 4;
      answers.push_back(world.data_in(id));
    }
  }
  [[nodiscard]] std::vector<std::string> read() const {
    std::vector<std::string> out;
    for (const auto* warm : world.agents.open()) out.push_back(warm->order.dataset.path);
    return out;
  }
  std::vector<std::optional<Staging::HookAnswer>> answers;
};

TEST_F(TurnsTest, WhoComesWhileTheOriginIsFullWaitsForItsTurn) {
  EXPECT_THAT(read(), ElementsAre("set10", "set11"));
  EXPECT_EQ(world.job(12).row.phase, JobPhase::queued);
  EXPECT_THAT(world.job(12).row.reason, HasSubstr("waits for its turn to read lustre"));
  EXPECT_THAT(planned(12), IsEmpty()) << "others may have the nodes meanwhile";
  EXPECT_TRUE(world.held_back(12));
  ASSERT_TRUE(answers[2]);
  EXPECT_FALSE(answers[2]->ready);
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(2s);
  EXPECT_THAT(read(), ElementsAre("set11", "set12"));
  EXPECT_EQ(planned(12).size(), 1U);
}

TEST_F(TurnsTest, TheNextIsWhoCameFirst) {
  world.submit(13, "v1,w=wait,d=/lustre/set13").cpus_wanted = 4;
  world.data_in(13);
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.submit(14, "v1,w=wait,d=/lustre/set14").cpus_wanted = 4;
  world.data_in(14);
  world.pass(2s);
  EXPECT_THAT(read(), ElementsAre("set11", "set12"));
}

TEST_F(TurnsTest, WhoGetsNothingHoldsUpNobody) {
  world.pass(15s);
  EXPECT_THAT(read(), ElementsAre("set10", "set11", "set12"));
}

TEST_F(TurnsTest, WhoIsLimitedHoldsUpNobody) {
  LimitRow limit;
  limit.name = "u1001";
  limit.id = 1001;
  limit.read = Bytes{1 * kMiB.count};
  ASSERT_TRUE(world.staging->cache_space().set(limit));
  world.pass(2s);
  EXPECT_THAT(read(), ElementsAre("set10", "set11", "set12"));
}

TEST_F(TurnsTest, NobodyWaitsForHisTurnLongerThanForHisData) {
  for (int i = 0; i < 31 * 12; ++i) {
    for (auto* warm : world.agents.open()) {
      WarmProgress progress;
      progress.phase = WarmPhase::fetching;
      progress.bytes_done = progress.origin_bytes = Bytes{static_cast<std::uint64_t>(i + 1)};
      warm->progress(progress);
    }
    world.pass(5s);
  }
  EXPECT_EQ(world.agents.warms_on("n1") + world.agents.warms_on("n2") + world.agents.warms_on("n3"), 3U)
      << "of measure() and of the first two";
  EXPECT_THAT(world.job(12).row.reason, HasSubstr("started cold"));
  EXPECT_FALSE(world.held_back(12));
}

TEST_F(TurnsTest, WhatIsOnItsWayNeedsNoTurn) {
  world.submit(13, "v1,w=wait,d=/lustre/set10").cpus_wanted = 4;
  world.data_in(13);
  EXPECT_EQ(world.job(13).row.phase, JobPhase::surveying);
}

TEST_F(PlanTest, APlaceInTheQueueOnAHolderIsTakenIntoAccount) {
  measure();
  world.holds("n1", world.speech);
  occupy("n1", 1min);
  for (std::uint32_t id = 10; id < 12; ++id) {
    auto& job = world.submit(id, kWarm);
    job.cpus_wanted = 4;
    job.time_limit = 60min;
    world.data_in(id);
  }
  EXPECT_THAT(planned(10), ElementsAre("n1"));
  EXPECT_THAT(planned(11), ElementsAre(::testing::AnyOf("n2", "n3"))) << "the first one will have n1 for an hour";
}

TEST_F(PlanTest, WhatSlurmPredictsForOthersIsTakenIntoAccount) {
  measure();
  world.holds("n1", world.speech);
  occupy("n1", 1min);
  JobRecord other;
  other.id = 800;
  other.uid = 2001;
  other.cpus_wanted = 4;
  other.start = std::chrono::floor<std::chrono::seconds>(world.clock.wall()) + 60s;
  other.predicted_nodes = "n1";
  other.time_limit = 60min;
  world.slurm.jobs[800] = other;
  look();
  world.submit(10, kWarm);
  world.data_in(10);
  EXPECT_THAT(planned(10), ElementsAre(::testing::AnyOf("n2", "n3")));
}

TEST_F(PlanTest, ALimitOfTheUserMakesReadingDearer) {
  measure();
  world.holds("n1", world.speech);
  occupy("n1", 10min);
  world.submit(10, kWarm);
  world.data_in(10);
  EXPECT_THAT(planned(10), ElementsAre(::testing::AnyOf("n2", "n3"))) << "102 s of reading are less than ten minutes";
  LimitRow limit;
  limit.name = "u1002";
  limit.id = 1002;
  limit.read = Bytes{1 * kMiB.count};
  ASSERT_TRUE(world.staging->cache_space().set(limit));
  world.submit(11, kWarm, 1002);
  world.data_in(11);
  EXPECT_THAT(planned(11), ElementsAre("n1")) << "three hours of reading are more";
}

TEST_F(PlanTest, WhatALimitSlowsDownSaysNothingOfTheOrigin) {
  LimitRow limit;
  limit.name = "u1001";
  limit.id = 1001;
  limit.read = Bytes{1 * kMiB.count};
  ASSERT_TRUE(world.staging->cache_space().set(limit));
  measure(1);
  world.submit(10, kWarm, 1002);
  world.holds("n1", world.speech);
  world.data_in(10);
  EXPECT_THAT(world.job(10).plan.rows, IsEmpty()) << "nothing is known of the origin's rate yet";
}

TEST_F(PlanTest, RatesAndPlansAreKnownAfterARestart) {
  measure();
  world.holds("n1", world.speech);
  occupy("n1", 10min);
  world.submit(10, kWarm);
  world.data_in(10);
  const auto before = world.job(10).plan;
  ASSERT_THAT(before.rows, Not(IsEmpty()));
  world.restart();
  world.pass(2s);
  EXPECT_EQ(world.job(10).plan.rows.at(0).what, "warm");
  world.submit(11, kWarm);
  world.data_in(11);
  EXPECT_THAT(world.job(11).plan.rows, Not(IsEmpty()));
}

TEST_F(PlanTest, AJobThatDoesNotWaitIsNotPinnedToNodesThatAreBusy) {
  measure();
  for (const auto* node : {"n1", "n2", "n3"}) occupy(node, 5min);
  world.holds("n1", world.speech);
  for (const auto* request : {kOverlap, kAlone}) {
    const auto id = next_++;
    world.submit(id, request);
    const auto answer = world.data_in(id);
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->ready) << request;
    EXPECT_EQ(world.slurm.jobs[id].req_nodes, "") << request;
  }
}

TEST_F(PlanTest, ASleepingNodeIsChosenWhenItsBootIsWorthIt) {
  measure(10);  // 17 minutes of reading
  world.slurm.nodes.at("n2").asleep = true;
  world.slurm.boot = 5min;
  world.holds("n1", world.speech);
  for (const auto* node : {"n1", "n3"}) occupy(node, 600min);
  world.submit(10, kWarm);
  world.data_in(10);
  EXPECT_EQ(world.job(10).plan.rows.at(0).nodes, "n2");
  EXPECT_EQ(world.job(10).plan.rows.at(0).start, 5min);
}

TEST_F(PlanTest, AJobThatWaitsSaysSoInItsComment) {
  auto& record = world.submit(10, kWarm);
  world.data_in(10);
  ASSERT_THAT(world.agents.open(), SizeIs(1));
  WarmProgress progress;
  progress.phase = WarmPhase::fetching;
  progress.bytes_done = Bytes{43};
  progress.bytes_total = Bytes{100};
  progress.eta = 59500ms;
  world.agents.open()[0]->progress(progress);
  world.pass(5s);
  EXPECT_EQ(record.comment, "") << "most jobs need none";
  world.pass(10s);
  const auto node = world.agents.open()[0]->node;
  EXPECT_EQ(record.comment, "atlas: /lustre/speech 43% warm on " + node + ", ready in 1m00s");
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(12s);
  EXPECT_EQ(record.comment, "atlas: /lustre/speech is on " + node);
}

TEST_F(PlanTest, AUsersOwnCommentIsLeftAlone) {
  auto& record = world.submit(10, kWarm);
  record.comment = "sweep 7";
  world.data_in(10);
  world.pass(30s);
  EXPECT_EQ(record.comment, "sweep 7");
}

TEST_F(PlanTest, NodesOfAJobHangOnOneSwitchAsSlurmSaysNow) {
  const auto two_nodes = [&](std::uint32_t id) {
    world.submit(id, kWarm).nodes_wanted = 2;
    world.slurm.jobs.at(id).cpus_wanted = 8;
    world.data_in(id);
    auto nodes = planned(id);
    std::sort(nodes.begin(), nodes.end());
    world.cancel(id);
    return nodes;
  };
  world.slurm.switches = std::make_shared<std::vector<SwitchRecord>>(
      std::vector<SwitchRecord>{{"s1", 0, "n2"}, {"s2", 0, "n[1,3]"}, {"top", 1, "n[1-3]"}});
  look();
  EXPECT_THAT(two_nodes(10), ElementsAre("n1", "n3"));
  world.slurm.switches = std::make_shared<std::vector<SwitchRecord>>(
      std::vector<SwitchRecord>{{"s1", 0, "n1"}, {"s2", 0, "n[2-3]"}, {"top", 1, "n[1-3]"}});
  look();
  EXPECT_THAT(two_nodes(11), ElementsAre("n2", "n3"));
  world.slurm.switches.reset();
  look();
  EXPECT_THAT(two_nodes(12), ElementsAre("n1", "n2"));
}

}  // namespace
}  // namespace atlas::test
