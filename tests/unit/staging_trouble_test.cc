// What staging does when things break, when jobs are cancelled, and when users change their jobs.
#include "tests/support/staging_trouble.h"

namespace atlas::test {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST_F(StagingTrouble, ALateBeginTimeOfDataInIsOverwrittenAtTheNextPoll) {
  released(10);
  world.slurm.jobs[10].begin = std::chrono::floor<std::chrono::seconds>(world.clock.wall()) + 30min;
  world.pass(2s);
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingTrouble, AWarmUpThatFailsAgainAndAgainWithoutABytesProgressIsGivenUp) {
  world.submit(10, kWarm);
  world.data_in(10);
  for (int second = 0; second < 60 && world.held_back(10); ++second) {
    for (auto* warm : world.agents.open()) {
      FakeAgents::show(*warm, WarmPhase::walking);
      FakeAgents::fail_warm(*warm, Code::unavailable, "60 files could not be cached: Input/output error");
    }
    world.pass(1s);
  }
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingTrouble, ARestartedSlurmctldsDelayIsCured) {
  released(10);
  world.slurm.down = true;
  world.pass(5s);
  world.slurm.down = false;
  world.slurm.jobs[10].begin = std::chrono::floor<std::chrono::seconds>(world.clock.wall()) + 60s;
  world.pass(3s);
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingTrouble, WhatSlurmctldForgotInACrashIsWrittenAgain) {
  const auto node = released(10);
  world.slurm.down = true;
  world.pass(5s);
  world.slurm.down = false;
  world.slurm.jobs[10].req_nodes = "";
  world.pass(3s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, node);
}

TEST_F(StagingTrouble, ATeardownOfAJobThatIsStillQueuedDoesNotEndIt) {
  auto& warm = warming(10);
  std::optional<Staging::HookAnswer> answer;
  world.call(Staging::Hook::teardown, 10, answer);
  EXPECT_THAT(world.agents.cancelled, IsEmpty());
  world.data_in(10);
  FakeAgents::finish(warm, world.generation);
  world.pass(1s);
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingTrouble, AtTheDeadlineTheJobStartsColdWithTheReason) {
  warming(10);
  world.pass(30min + 5s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
  EXPECT_THAT(world.job(10).row.reason, HasSubstr("started cold: its data was not there after 30m"));
}

TEST_F(StagingTrouble, PermissionDeniedStartsTheJobColdAndTriesNoOtherNode) {
  auto& warm = warming(10);
  FakeAgents::fail_warm(warm, Code::permission_denied, "/lustre/speech: Permission denied");
  world.pass(1s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_THAT(world.job(10).row.reason, HasSubstr("Permission denied"));
  EXPECT_EQ(world.agents.warms.size(), 1U);
  world.start(10, "n1");
  EXPECT_EQ(world.agents.warms.size(), 1U) << "it would fail again while the job runs";
}

TEST_F(StagingTrouble, AFullTierSendsTheWarmUpToAnotherNode) {
  auto& warm = warming(10);
  const auto first = warm.node;
  FakeAgents::fail_warm(warm, Code::resource_exhausted, "tier full");
  world.pass(1s);
  ASSERT_EQ(world.agents.open().size(), 1U);
  EXPECT_NE(world.agents.open()[0]->node, first);
  EXPECT_TRUE(world.held_back(10));
}

TEST_F(StagingTrouble, WhenEveryNodeFailsTheJobStartsCold) {
  warming(10);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(world.agents.open().size(), 1U) << i;
    FakeAgents::fail_warm(*world.agents.open()[0], Code::resource_exhausted, "tier full");
    world.pass(1s);
  }
  EXPECT_FALSE(world.held_back(10));
  EXPECT_THAT(world.job(10).row.reason, HasSubstr("tier full"));
}

TEST_F(StagingTrouble, AnAgentThatRestartsGoesOnWithTheWarmUp) {
  const auto node = warming(10).node;
  world.disconnect(node);
  world.pass(2s);
  EXPECT_TRUE(world.held_back(10));
  world.connect(node);
  world.pass(2s);
  ASSERT_EQ(world.agents.open(node).size(), 1U);
  FakeAgents::finish(*world.agents.open(node)[0], world.generation);
  world.pass(1s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, node);
}

TEST_F(StagingTrouble, AnAgentThatStaysAwayIsReplacedByAnotherNode) {
  const auto node = warming(10).node;
  world.disconnect(node);
  world.pass(10s);
  ASSERT_EQ(world.agents.open().size(), 1U);
  EXPECT_NE(world.agents.open()[0]->node, node);
}

TEST_F(StagingTrouble, ANodeThatIsDrainedWhileItWarmsIsReplaced) {
  const auto node = warming(10).node;
  world.slurm.nodes[node].usable = false;
  world.pass(3s);
  EXPECT_THAT(world.agents.cancelled, Contains(Pair(node, world.speech)));
  ASSERT_FALSE(world.agents.open().empty());
  EXPECT_NE(world.agents.open().back()->node, node);
}

TEST_F(StagingTrouble, APinnedNodeThatIsDrainedGivesWayToAnotherHolder) {
  const auto node = released(10);
  const std::string other = node == "n1" ? "n2" : "n1";
  world.holds(other, world.speech);
  world.slurm.nodes[node].usable = false;
  world.pass(3s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, other);
}

TEST_F(StagingTrouble, APinThatSlurmCannotHonourIsTakenBack) {
  released(10);
  world.slurm.jobs[10].state_reason = "BadConstraints";
  world.pass(10s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
}

TEST_F(StagingTrouble, APinThatSlurmRefusesDoesNotHoldTheJob) {
  auto& warm = warming(10);
  world.slurm.refuse_nodes = true;
  FakeAgents::finish(warm, world.generation);
  world.pass(1s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
}

TEST_F(StagingTrouble, ANodeTakenByAnotherJobIsGivenUpByWhoDoesNotWait) {
  world.holds("n2", world.speech);
  world.submit(10, kAlone);
  world.data_in(10);
  ASSERT_EQ(world.slurm.jobs[10].req_nodes, "n2");
  world.slurm.nodes["n2"].cpus_busy = 4;
  world.pass(10s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
}

TEST_F(StagingTrouble, TheUsersNodeListAfterTheReleaseStays) {
  released(10);
  world.pass(2s);
  world.slurm.jobs[10].req_nodes = "n3";
  world.pass(5s);
  world.slurm.nodes["n3"].usable = false;
  world.pass(5s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "n3");
}

TEST_F(StagingTrouble, TheUserMayTakeAPinAway) {
  released(10);
  world.pass(2s);
  world.slurm.jobs[10].req_nodes = "";
  world.pass(10s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
}

TEST_F(StagingTrouble, TheUsersStartTimeStays) {
  warming(10);
  const auto his = std::chrono::floor<std::chrono::seconds>(world.clock.wall()) + 5h;
  world.slurm.jobs[10].begin = his;
  world.pass(3s);
  FakeAgents::finish(*world.agents.open().at(0), world.generation);
  world.pass(5s);
  EXPECT_EQ(world.slurm.jobs[10].begin, his);
}

TEST_F(StagingTrouble, CancelledWhileItWarmsTheWarmUpEndsToo) {
  const auto node = warming(10).node;
  world.cancel(10);
  EXPECT_THAT(world.agents.cancelled, Contains(Pair(node, world.speech)));
  expect_nothing_left();
  EXPECT_THAT(world.receipt(10)->reason, HasSubstr("never started"));
}

TEST_F(StagingTrouble, CancelledWhileOthersWaitForTheSameWarmUpItGoesOn) {
  auto& warm = warming(10);
  world.submit(11, kWarm);
  world.data_in(11);
  world.cancel(10);
  EXPECT_THAT(world.agents.cancelled, IsEmpty());
  FakeAgents::finish(warm, world.generation);
  world.pass(1s);
  EXPECT_FALSE(world.held_back(11));
}

TEST_F(StagingTrouble, CancelledWhileItWaitsForAHolderNothingIsLeft) {
  world.holds("n2", world.speech);
  world.slurm.nodes["n2"].cpus_busy = 4;
  world.pass(5s);
  world.submit(10, kWarm);
  world.data_in(10);
  world.cancel(10);
  expect_nothing_left();
}

TEST_F(StagingTrouble, CancelledAfterItsReleaseNothingIsLeft) {
  released(10);
  world.cancel(10);
  expect_nothing_left();
}

TEST_F(StagingTrouble, CancelledWhileItRunsNothingIsLeft) {
  const auto node = released(10);
  world.start(10, node);
  world.cancel(10);
  expect_nothing_left();
  EXPECT_EQ(world.receipt(10)->nodes.size(), 1U);
}

TEST_F(StagingTrouble, AJobThatVanishedFromSlurmIsReleased) {
  const auto node = released(10);
  world.start(10, node);
  world.slurm.jobs.erase(10);
  expect_nothing_left();
}

TEST_F(StagingTrouble, TheLeaseOfASilentAgentIsReleasedWhenItIsBack) {
  const auto node = released(10);
  world.start(10, node);
  world.agents.silent.insert(node);
  world.disconnect(node);
  world.end(10);
  world.pass(20s);
  EXPECT_TRUE(world.receipt(10)) << "the receipt does not wait for good";
  EXPECT_FALSE(world.staging->leases().idle());
  world.agents.silent.clear();
  world.connect(node, {world.job(10).row.key});
  expect_nothing_left();
}

TEST_F(StagingTrouble, ARequeuedJobIsANewAttemptWithAReceiptForTheOld) {
  const auto node = released(10);
  world.start(10, node);
  auto& record = world.slurm.jobs[10];
  record.state = JobState::pending;
  record.restarts = 1;
  record.submitted += 120s;
  record.nodes.clear();
  record.req_nodes.clear();
  world.pass(130s);
  world.data_in(10);
  EXPECT_EQ(world.job(10).row.key.restarts, 1U);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.catalog->ended_jobs(10).value().size(), 1U);
}

TEST_F(StagingTrouble, ARestartedControllerTakesUpAWarmUp) {
  const auto node = warming(10).node;
  world.pass(60s);
  world.restart();
  world.pass(6s);
  ASSERT_EQ(world.agents.open().size(), 1U);
  EXPECT_EQ(world.agents.open()[0]->node, node) << "the agent goes on where it was";
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(1s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_GE(world.job(10).row.waited, 60s) << "counted from the first controller's sight of it";
}

TEST_F(StagingTrouble, ARestartedControllerKeepsTheFirstDeadline) {
  warming(10);
  world.pass(29min);
  world.restart();
  world.pass(2min);
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingTrouble, ARestartedControllerFinishesAReleaseItHadDecided) {
  auto& warm = warming(10);
  world.slurm.down = true;  // the update does not get through
  FakeAgents::finish(warm, world.generation);
  world.pass(1s);
  EXPECT_TRUE(world.held_back(10));
  world.restart();
  world.slurm.down = false;
  world.pass(8s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, warm.node);
}

TEST_F(StagingTrouble, ARestartedControllerDoesNotDecideBeforeTheAgentsCouldConnect) {
  world.submit(10, kWarm);
  world.restart(false);
  std::optional<Staging::HookAnswer> answer;
  auto& record = world.slurm.jobs[10];
  record.own_begin = record.begin;
  record.begin = record.submitted + 30min;
  world.call(Staging::Hook::data_in, 10, answer);
  world.pass(2s);
  EXPECT_TRUE(world.held_back(10)) << "not cold for want of agents that are about to come";
  for (const auto* node : {"n1", "n2", "n3"}) world.connect(node);
  world.pass(1s);
  EXPECT_EQ(world.agents.open().size(), 1U);
}

TEST_F(StagingTrouble, AJobThatRanThroughARestartGetsItsReceipt) {
  const auto node = released(10);
  world.start(10, node);
  world.restart();
  world.pass(6s);
  EXPECT_THAT(world.agents.plans, Contains(Pair(Pair(node, 10U), ::testing::_)));
  world.end(10, false);
  world.pass(6s);
  ASSERT_TRUE(world.receipt(10));
  expect_nothing_left();
}

TEST_F(StagingTrouble, AJobThatEndedWhileTheControllerWasDownIsReleased) {
  const auto node = released(10);
  world.start(10, node);
  world.slurm.jobs.erase(10);
  world.restart();
  expect_nothing_left();
}

TEST_F(StagingTrouble, WhatAnAgentHoldsForAnUnknownJobIsReleased) {
  world.agents.plans[{"n1", 77}] = {};
  world.connect("n1", {{"test", 77, 0, {}}});
  world.pass(2s);
  EXPECT_THAT(world.agents.released, Contains(Pair("n1", 77U)));
  EXPECT_TRUE(world.staging->leases().idle());
}

TEST_F(StagingTrouble, AnAgentThatForgotARunningJobIsToldAgain) {
  const auto node = released(10);
  world.start(10, node);
  world.agents.plans.clear();
  world.connect(node);
  world.pass(2s);
  EXPECT_THAT(world.agents.plans, Contains(Pair(Pair(node, 10U), ::testing::_)));
}

TEST_F(StagingTrouble, ADatasetNobodyKnowsStartsColdWithWhatIsWrong) {
  world.submit(10, "v1,w=wait,d=nosuch");
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer && answer->ready);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_THAT(world.job(10).row.reason, HasSubstr("no dataset named 'nosuch'"));
  world.start(10, "n1");
  EXPECT_THAT(world.agents.warms, IsEmpty());
  world.end(10);
  world.pass(10s);
  ASSERT_TRUE(world.receipt(10));
  EXPECT_EQ(world.receipt(10)->outcome, "cold");
}

TEST_F(StagingTrouble, AMalformedRequestIsLeftToSlurm) {
  auto& record = world.submit(10, "v1,w=wait,w=wait,x=1");
  record.begin = record.submitted;
  std::optional<Staging::HookAnswer> answer;
  world.call(Staging::Hook::data_in, 10, answer);
  ASSERT_TRUE(answer && answer->ready);
  world.pass(5s);
  EXPECT_TRUE(world.slurm.patches.empty());
}

TEST_F(StagingTrouble, ADatasetTooLargeForAnyCacheStartsColdAtOnce) {
  world.generation.bytes = Bytes{500 * kGiB.count};
  world.registry->note_generation(world.speech, world.generation);
  world.submit(10, kWarm);
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer && answer->ready);
  EXPECT_THAT(answer->message, HasSubstr("started cold: no node has room for 500G: the most is 100G"));
}

TEST_F(StagingTrouble, WhileNoNodeIsInServiceAJobThatMayWaitIsNotGivenUp) {
  for (auto& [name, node] : world.slurm.nodes) node.usable = false;
  world.pass(5s);
  world.submit(10, kWarm);
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer);
  EXPECT_FALSE(answer->ready);
  world.pass(30s);
  for (auto& [name, node] : world.slurm.nodes) node.usable = true;
  world.pass(3s);
  EXPECT_EQ(world.agents.open().size(), 1U);
  EXPECT_TRUE(world.held_back(10));
}

TEST_F(StagingTrouble, ALeaseThatANodeKeepsForAJobThatIsOverIsReleasedAgain) {
  world.holds("n1", world.speech);
  ReplicaInfo replica;
  replica.dataset = world.speech;
  replica.generation = world.generation;
  replica.state = ReplicaState::complete;
  replica.leases = {77};
  world.report("n1", replica);
  world.submit(10, kWarm);
  world.start(10, "n1");
  world.pass(10s);
  EXPECT_THAT(world.agents.released, ::testing::Contains(::testing::Pair("n1", 77U)));
  EXPECT_THAT(world.agents.released, ::testing::Not(::testing::Contains(::testing::Pair("n1", 10U)))) << "it runs";
}

TEST_F(StagingTrouble, AnArrayIsHeldBackForTheGraceOnlyUntilTheControllerHasSeenIt) {
  const auto& base = world.submit_array(10, kWarm, 60s);
  world.pass(6s);
  ASSERT_EQ(world.agents.open().size(), 1U);
  EXPECT_GE(world.slurm.jobs[10].begin, base.submitted + 29min);
  world.pass(5min);
  EXPECT_TRUE(world.held_back(10)) << "it waits for its data";
  FakeAgents::finish(*world.agents.open().at(0), world.generation);
  world.pass(3s);
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingTrouble, NothingIsDecidedForAJobThatCannotStartYet) {
  world.holds("n1", world.speech);
  auto& record = world.submit(10, kWarm);
  record.dependent = true;
  world.data_in(10);
  world.pass(40min);
  EXPECT_THAT(world.agents.plans, IsEmpty()) << "no lease";
  EXPECT_TRUE(world.agents.warms.empty());
  EXPECT_TRUE(world.held_back(10)) << "it must not slip away when the other job ends";
  world.slurm.jobs[10].dependent = false;
  world.pass(3s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "n1");
  EXPECT_FALSE(world.job(10).row.cold);
}

TEST_F(StagingTrouble, AHeldJobTakesNoLease) {
  world.holds("n1", world.speech);
  auto& record = world.submit(10, kWarm);
  record.held = true;
  world.data_in(10);
  world.pass(10min);
  EXPECT_THAT(world.agents.plans, IsEmpty());
  world.slurm.jobs[10].held = false;
  world.pass(3s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "n1");
}

TEST_F(StagingTrouble, ComponentsOfAHeterogeneousJobAreNotPinned) {
  world.holds("n1", world.speech);
  auto& record = world.submit(10, "v1,d=/lustre/speech");
  record.het_job_id = 10;
  world.data_in(10);
  world.pass(10s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
}

TEST_F(StagingTrouble, AHolderThatIsFullInWhatIsNotCountedIsGivenUpByWhoDoesNotWait) {
  world.holds("n1", world.speech);
  world.submit(10, "v1,d=/lustre/speech");
  world.data_in(10);
  world.pass(2s);
  ASSERT_EQ(world.slurm.jobs[10].req_nodes, "n1");
  world.slurm.jobs[10].state_reason = "Resources";  // its memory is taken, its CPUs are not
  world.pass(20s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
}

TEST_F(StagingTrouble, JobsOfDifferentCacheSizesDoNotFailEachOther) {
  world.submit(10, std::string(kWarm) + ",c=1048576");
  world.submit(11, kWarm);
  world.data_in(10);
  world.data_in(11);
  world.pass(2s);
  ASSERT_EQ(world.agents.open().size(), 2U);
  FakeAgents::fail_warm(*world.agents.open().at(0), Code::resource_exhausted, "--cache allows 1M");
  FakeAgents::finish(*world.agents.open().back(), world.generation);
  world.pass(3s);
  EXPECT_FALSE(world.held_back(11));
  EXPECT_FALSE(world.job(11).row.cold);
}

TEST_F(StagingTrouble, WithSlurmctldAwayTheHookSaysSo) {
  world.submit(10, kWarm);
  world.slurm.down = true;
  std::optional<Error> error;
  world.staging->hook(Staging::Hook::data_in, 10, [&](const Result<Staging::HookAnswer>& reply) {
    if (!reply) error = reply.error();
  });
  world.pass(3s);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, Code::unavailable);
}

}  // namespace
}  // namespace atlas::test
