// What the controller does about datasets' settings, and about data that changes under a job.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/staging_world.h"

namespace atlas::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

class StagingPolicy : public ::testing::Test {
 protected:
  void settle(std::string_view text) {
    auto policy = decode_policy(text);
    ASSERT_TRUE(policy) << policy.error().message;
    ASSERT_TRUE(world.datasets->settle(world.speech, {*policy, 1001, 1001, "alice"}));
  }
  /// Another version of the data.
  Generation next() {
    Generation other = world.generation;
    other.id.digest[0] ^= 1U;
    other.observed = world.clock.wall();
    return other;
  }
  StagingWorld world{3};
};

TEST_F(StagingPolicy, NodesAreToldTheSettingsAndSinceWhenADatasetIsAskedFor) {
  settle("r=never,x=checkpoints%2F");
  ASSERT_TRUE(world.datasets->share(world.speech, {{5, 1001, 1001}, "team", "alice", "alice", {}}));
  world.submit(10, "v1,w=wait,d=/lustre/speech");
  const auto before = world.clock.wall();
  world.data_in(10);
  world.pass(1s);
  ASSERT_THAT(world.agents.open(), SizeIs(1));
  const auto& order = world.agents.open()[0]->order;
  EXPECT_EQ(order.policy.revalidate, Revalidate::never);
  EXPECT_THAT(order.policy.exclude, ElementsAre("checkpoints/"));
  EXPECT_THAT(order.policy.grants, SizeIs(1));
  EXPECT_GE(order.asked, before);
  EXPECT_LE(order.asked, world.clock.wall());
}

TEST_F(StagingPolicy, ATaskSeenLateWasAskedForWhenItWasSubmitted) {
  auto& task = world.submit(10, "v1,d=/lustre/speech");
  task.submitted -= 100s;
  task.state = JobState::running;
  std::optional<PlanOrder> order;
  world.staging->job_plan(10, "n1", [&](const Result<std::optional<PlanOrder>>& reply) { order = reply.value(); });
  world.pass(0ms);
  ASSERT_TRUE(order);
  EXPECT_LE(order->datasets.at(0).asked, world.clock.wall() - 99s);
}

TEST_F(StagingPolicy, SettingsAndGrantsSurviveARestartAndGrantsAreLogged) {
  settle("n=2");
  ASSERT_TRUE(world.datasets->share(world.speech, {{5, 1001, 1001}, "team", "alice", "root", {}}));
  ASSERT_TRUE(world.datasets->unshare(world.speech, "team", "alice"));
  EXPECT_FALSE(world.datasets->unshare(world.speech, "team", "alice"));
  world.restart();
  EXPECT_EQ(world.datasets->policy_of(world.speech).replicas, 2U);
  EXPECT_THAT(world.datasets->policy_of(world.speech).grants, IsEmpty());
  EXPECT_THAT(*world.catalog->share_log(world.speech),
              ElementsAre("root shared alice's replicas with team", "alice unshared alice's replicas from team"));
}

TEST_F(StagingPolicy, AJobThatFailsOnAChangeIsHeldToWhatWasThereWhenItWasSubmitted) {
  world.agents.origin[world.speech] = world.generation;
  world.submit(10, "v1,w=wait,o=fail,d=/lustre/speech");
  world.data_in(10);
  world.pass(1s);
  EXPECT_EQ(world.agents.surveys, 1U);
  ASSERT_THAT(world.agents.open(), SizeIs(1));
  auto& warm = *world.agents.open()[0];
  FakeAgents::finish(warm, next());
  world.pass(1s);
  world.start(10, warm.node);
  world.pass(1s);
  const auto& plan = world.agents.plans.at({warm.node, 10});
  EXPECT_EQ(plan.on_change, OnChange::fail);
  EXPECT_EQ(plan.datasets.at(0).generation, world.generation.id) << "not what the warm-up has found";
}

TEST_F(StagingPolicy, TheTasksOfAnArrayAreHeldToWhatThereWasAtItsSubmission) {
  world.agents.origin[world.speech] = world.generation;
  world.submit_array(10, "v1,w=wait,o=fail,d=/lustre/speech", 30min);
  world.pass(6s);
  ASSERT_FALSE(world.agents.open().empty());
  const auto node = world.agents.open()[0]->node;
  FakeAgents::finish(*world.agents.open()[0], next());
  world.pass(1s);
  auto& task = world.slurm.jobs[11] = world.slurm.jobs[10];
  task.id = 11;
  task.array_task_id = 0;
  task.array_waiting = false;
  task.state = JobState::running;
  task.nodes = node;
  world.pass(10s);
  EXPECT_EQ(world.agents.plans.at({node, 11}).datasets.at(0).generation, world.generation.id);
}

TEST_F(StagingPolicy, AJobThatKeepsAsksForNoNewerVersion) {
  world.submit(10, "v1,w=wait,o=keep,d=/lustre/speech");
  world.data_in(10);
  world.pass(1s);
  EXPECT_EQ(world.agents.surveys, 0U);
  ASSERT_THAT(world.agents.open(), SizeIs(1));
  EXPECT_TRUE(world.agents.open()[0]->order.keep);
}

TEST_F(StagingPolicy, WhoJoinsAWarmUpThatBeganBeforeHeAskedGetsAnotherLook) {
  const WarmOrder early{world.speech, {1001, 1001, {}}, {}, {}};
  WarmOrder late = early;
  late.asked = world.clock.wall() + 1s;
  std::vector<std::string> done;
  const auto waiter = [&](const std::string& who) {
    return WarmUps::Waiter{{}, [&, who](const Result<Generation>&) { done.push_back(who); }};
  };
  static_cast<void>(world.staging->warmups().want("n1", early, waiter("early")));
  world.pass(0ms);
  static_cast<void>(world.staging->warmups().want("n1", late, waiter("late")));
  FakeAgents::finish(*world.agents.open().at(0), world.generation);
  world.pass(0ms);
  EXPECT_THAT(done, ElementsAre("early"));
  ASSERT_THAT(world.agents.open(), SizeIs(1));
  EXPECT_EQ(world.agents.open()[0]->order.asked, late.asked);
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(0ms);
  EXPECT_THAT(done, ElementsAre("early", "late"));
}

TEST_F(StagingPolicy, AWarmUpThatLeftSomethingOutMakesNoHolder) {
  static_cast<void>(
      world.staging->warmups().want("n1", {world.speech, {1001, 1001, {}}, {}, {}}, {{}, [](const auto&) {}}));
  world.pass(0ms);
  auto& warm = *world.agents.open().at(0);
  WarmProgress progress;
  progress.phase = WarmPhase::complete;
  progress.generation = world.generation;
  progress.skipped = 1;
  warm.progress(progress);
  warm.done({});
  world.pass(0ms);
  EXPECT_FALSE(world.registry->complete_on("n1", world.speech));
}

TEST_F(StagingPolicy, AWarmedDatasetIsBroughtToSoManyNodes) {
  settle("n=2");
  world.pass(20s);
  EXPECT_THAT(world.agents.warms, IsEmpty()) << "nobody has warmed it yet";
  world.holds("n1", world.speech);
  world.pass(20s);
  ASSERT_THAT(world.agents.open(), SizeIs(1));
  EXPECT_EQ(world.agents.open()[0]->order.as.uid, 1001U);
  FakeAgents::fail_warm(*world.agents.open()[0], Code::resource_exhausted, "full");
  world.pass(20s);
  ASSERT_THAT(world.agents.open(), SizeIs(1)) << "another node is tried";
  EXPECT_NE(world.agents.warms[0]->node, world.agents.warms[1]->node);
}

TEST_F(StagingPolicy, AReplicaThatNobodyHasUsedGoes) {
  ReplicaInfo replica;
  replica.dataset = world.speech;
  replica.generation = world.generation;
  replica.state = ReplicaState::complete;
  replica.last_used = world.clock.wall();
  world.report("n1", replica);
  settle("t=60000");
  world.pass(30s);
  EXPECT_THAT(world.agents.evicted, IsEmpty());
  world.pass(60s);
  ASSERT_FALSE(world.agents.evicted.empty());
  EXPECT_THAT(world.agents.evicted[0], Pair("n1", world.generation.id));
}

}  // namespace
}  // namespace atlas::test
