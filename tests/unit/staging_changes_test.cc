// What staging does when nodes leave, when users change their jobs, and for jobs that follow on others.
#include "tests/support/staging_trouble.h"

namespace atlas::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

class StagingChanges : public StagingTrouble {};

TEST_F(StagingChanges, APinnedNodeThatIsDrainedIsUnpinnedForAJobThatDoesNotWait) {
  world.holds("n2", world.speech);
  world.submit(10, kAlone);
  world.data_in(10);
  ASSERT_EQ(world.slurm.jobs[10].req_nodes, "n2");
  world.slurm.nodes["n2"].usable = false;
  world.pass(3s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
  EXPECT_FALSE(world.held_back(10));
  EXPECT_THAT(world.job(10).row.reason, HasSubstr("went out of service"));
}

TEST_F(StagingChanges, AJobThatWaitsAndLosesItsNodeWaitsForItsDataOnAnother) {
  const auto node = released(10);
  drain(node);
  world.pass(2s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
  EXPECT_TRUE(world.held_back(10));
  ASSERT_EQ(world.agents.open().size(), 1U) << "it is not brought there twice, for the job and because the node leaves";
  EXPECT_NE(world.agents.open()[0]->node, node);
  const auto other = world.agents.open()[0]->node;
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(1s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, other);
}

TEST_F(StagingChanges, AJobThatLosesItsNodeWhileUpdatesGetLostIsNotTakenForItsUsersDoing) {
  const auto node = released(10);
  drain(node);
  world.slurm.deaf = true;
  world.pass(3s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, node);
  world.slurm.deaf = false;
  world.pass(3s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
  EXPECT_TRUE(world.held_back(10));
  FakeAgents::finish(*world.agents.open().at(0), world.generation);
  world.pass(1s);
  EXPECT_NE(world.slurm.jobs[10].req_nodes, "");
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingChanges, WhileAllNodesAreDrainedAJobThatWaitsGoesOnWaiting) {
  released(10);
  for (const auto* name : {"n1", "n2", "n3"}) drain(name);
  world.pass(5s);
  EXPECT_TRUE(world.held_back(10));
  const std::string back = "n1";
  world.slurm.nodes[back].usable = true;
  world.slurm.nodes[back].state = "idle";
  world.pass(3s);
  for (auto* warm : world.agents.open(back)) FakeAgents::finish(*warm, world.generation);
  world.pass(2s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "") << "it is the only one";
}

TEST_F(StagingChanges, WhatARunningJobHoldsOnANodeThatIsDrainedIsCopiedToOneThatStays) {
  const auto node = released(10);
  world.start(10, node);
  world.pass(2s);
  const auto before = world.agents.warms.size();
  drain(node);
  world.pass(5s);
  ASSERT_EQ(world.agents.warms.size(), before + 1);
  auto& copy = *world.agents.warms.back();
  EXPECT_NE(copy.node, node);
  EXPECT_EQ(copy.order.as.uid, 1001U) << "as the one who holds it, and no more is seen than he may see";
  FakeAgents::finish(copy, world.generation);
  world.pass(5min);
  EXPECT_EQ(world.agents.warms.size(), before + 1) << "once";
}

TEST_F(StagingChanges, WhatAnotherNodeHoldsTooIsNotCopiedFromOneThatIsDrained) {
  const auto node = released(10);
  world.holds(node == "n3" ? "n2" : "n3", world.speech);
  world.start(10, node);
  world.pass(2s);
  const auto before = world.agents.warms.size();
  drain(node);
  world.pass(10s);
  EXPECT_EQ(world.agents.warms.size(), before);
}

TEST_F(StagingChanges, NodesThatASlurmctldHasNotHeardOfYetAreNotLost) {
  const auto node = warming(10).node;
  world.submit(11, kWarm);
  world.data_in(11);
  world.slurm.started += 60s;  // so quick that nobody has noticed
  for (auto& [name, record] : world.slurm.nodes) {
    record.usable = false;
    record.state = "idle*";
  }
  world.pass(5s);
  EXPECT_THAT(world.agents.cancelled, IsEmpty());
  EXPECT_EQ(world.agents.warms.size(), 1U);
  for (auto& [name, record] : world.slurm.nodes) {
    record.usable = name != node;
    record.state = name == node ? "down*" : "idle";
  }
  world.pass(60s);
  EXPECT_THAT(world.agents.cancelled, Contains(Pair(node, world.speech))) << "it stays away";
}

TEST_F(StagingChanges, AJobThatBeginsAndEndsBetweenTwoLooksAtTheQueueHasRun) {
  const auto node = released(10);
  auto& record = world.slurm.jobs[10];
  record.nodes = node;
  record.start = record.end = std::chrono::floor<std::chrono::seconds>(world.clock.wall());
  world.end(10, false);
  world.pass(10s);
  ASSERT_TRUE(world.receipt(10));
  EXPECT_EQ(world.receipt(10)->outcome, "warm");
  EXPECT_THAT(world.receipt(10)->nodes, ElementsAre(node));
}

TEST_F(StagingChanges, AJobThatSlurmLostInACrashIsNamedWithWhatToDo) {
  warming(10);
  auto& record = world.slurm.jobs[10];
  record.staging_in = true;
  world.pass(2s);
  world.slurm.down = true;
  world.pass(5s);
  world.slurm.down = false;
  world.pass(30s);
  EXPECT_THAT(world.staging->wedged_jobs(), IsEmpty()) << "its hook may be under way again";
  world.pass(30s);
  EXPECT_THAT(world.staging->wedged_jobs(), ElementsAre(10U));
  EXPECT_THAT(world.job(10).row.reason, HasSubstr("scancel 10, and submit it again"));
  EXPECT_THAT(record.comment, HasSubstr("scancel it and submit it again"));
  record.staging_in = false;
  world.pass(2s);
  EXPECT_THAT(world.staging->wedged_jobs(), IsEmpty());
  record.staging_in = true;
  record.burst_buffer += "\n#BB_LUA pool=scratch capacity=5";
  world.pass(1h);
  EXPECT_THAT(world.staging->wedged_jobs(), IsEmpty()) << "the site's own hook may take as long as it likes";
}

TEST_F(StagingChanges, WhatAJobHeldStaysForTheOneThatFollowsUntilThatHasBegun) {
  const auto node = released(10);
  std::size_t held = 99;
  world.staging->wanted_notes().came(node, 1000, [&held](const std::vector<DatasetId>& datasets, std::size_t count) {
    EXPECT_LE(count, datasets.size());
    held = count;
  });
  world.start(10, node);
  for (const std::uint32_t id : {11U, 12U, 13U}) {
    auto& next = world.submit(id, kAlone, id == 13 ? 2002 : 1001);
    next.dependent = true;
    next.follows = {id == 12 ? 999U : 10U};
    next.state_reason = "Dependency";
  }
  world.pass(6s);  // nothing was staged: the queue is looked at now and then
  EXPECT_EQ(held, 1U);
  world.end(10);
  world.pass(5s);
  EXPECT_EQ(held, 1U) << "nobody holds it now but the job that follows";
  world.slurm.jobs[11].dependent = false;
  world.slurm.jobs[11].follows.clear();
  world.pass(2s);
  EXPECT_EQ(held, 1U) << "it could start, and has not yet";
  world.start(11, node);
  world.pass(2s);
  EXPECT_EQ(held, 0U) << "it has a lease of its own now";
}

/// Job 11 comes after the last look at the queue in which job 10 ran.
class ShortJobBefore : public StagingChanges {
 protected:
  void SetUp() override {
    const auto node = released(10);
    world.staging->wanted_notes().came(node, 1000, [this, node](const std::vector<DatasetId>&, std::size_t count) {
      told.push_back(count == 0 ? "nothing stays" : world.agents.plans.contains({node, 10}) ? "stays" : "too late");
    });
    world.start(10, node);
    world.pass(6s);
    auto& next = world.submit(11, kAlone);
    next.dependent = true;
    next.follows = {10};
    next.state_reason = "Dependency";
    told.clear();
  }
  std::vector<std::string> told;
};

TEST_F(ShortJobBefore, ItsDataStaysWhenSlurmSaysThatItIsOver) {
  world.data_in(11);
  world.end(10);
  EXPECT_THAT(told, ElementsAre("stays"));
}

TEST_F(ShortJobBefore, ItsDataStaysWhenTheQueueShowsThatItIsOver) {
  world.end(10, false);
  world.pass(6s);
  EXPECT_THAT(told, ElementsAre("stays"));
}

TEST_F(StagingChanges, NodesAreRemindedOfWhatStays) {
  const auto node = released(10);
  int told = 0;
  world.staging->wanted_notes().came(
      node, 1000, [&](const std::vector<DatasetId>&, std::size_t count) { told += count == 1 ? 1 : 0; });
  world.start(10, node);
  auto& next = world.submit(11, kAlone);
  next.dependent = true;
  next.follows = {10};
  world.pass(3h);
  EXPECT_GE(told, 6) << "they keep it for an hour only, should the controller be gone";
  EXPECT_LE(told, 10);
}

TEST_F(StagingChanges, NothingIsKeptForAJobThatCanNeverStart) {
  const auto node = released(10);
  std::size_t held = 99;
  world.staging->wanted_notes().came(node, 1000,
                                     [&held](const std::vector<DatasetId>&, std::size_t count) { held = count; });
  world.start(10, node);
  auto& next = world.submit(11, kAlone);
  next.dependent = true;
  next.follows = {10};
  world.pass(6s);
  EXPECT_EQ(held, 1U);
  world.end(10);
  world.slurm.jobs[11].state_reason = "DependencyNeverSatisfied";
  world.pass(2s);
  EXPECT_EQ(held, 0U);
}

TEST_F(StagingChanges, TheUsersOtherPartitionSendsTheWarmUpThere) {
  world.slurm.partitions.push_back({"other", false, "n3"});
  world.slurm.nodes["n3"].partitions = {"main", "other"};
  const auto node = warming(10).node;
  ASSERT_NE(node, "n3");
  world.slurm.jobs[10].partition = "other";
  world.pass(2s);
  EXPECT_THAT(world.agents.cancelled, Contains(Pair(node, world.speech)));
  ASSERT_EQ(world.agents.open("n3").size(), 1U);
  FakeAgents::finish(*world.agents.open("n3")[0], world.generation);
  world.pass(1s);
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingChanges, TheUsersNodeListDuringTheWarmUpSendsItThere) {
  const auto node = warming(10).node;
  const std::string his = node == "n3" ? "n2" : "n3";
  world.slurm.jobs[10].req_nodes = his;
  world.pass(2s);
  EXPECT_THAT(world.agents.cancelled, Contains(Pair(node, world.speech)));
  ASSERT_EQ(world.agents.open(his).size(), 1U);
  FakeAgents::finish(*world.agents.open(his)[0], world.generation);
  world.pass(1s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, his);
}

/// A slurmctld with much to do answers after the job that a hook asked about has come and gone.
class LateHookTest : public ::testing::Test {
 protected:
  LateHookTest() {
    world.holds("n1", world.speech);
    world.submit(10, "v1,d=/lustre/speech");
    world.data_in(10);
    world.start(10, "n1");
  }
  void end() {
    world.end(10, false);
    world.pass(2s);  // a look at the queue
  }
  void late(Staging::Hook hook) {
    std::optional<Staging::HookAnswer> answer;
    world.call(hook, 10, answer);
    EXPECT_TRUE(answer && answer->ready);
  }
  void expect_nothing_left() {
    EXPECT_TRUE(world.staging->jobs().empty());
    EXPECT_TRUE(world.agents.plans.empty()) << "a node holds data for a job that is over";
    EXPECT_TRUE(world.catalog->leases().value().empty());
    const auto receipt = world.receipt(10);
    ASSERT_TRUE(receipt);
    EXPECT_EQ(receipt->nodes, std::vector<std::string>{"n1"});
  }
  StagingWorld world;
};

TEST_F(LateHookTest, WhatIsBeingReleasedIsNotPlannedAgain) {
  world.agents.silent.insert("n1");
  end();
  late(Staging::Hook::pre_run);
  world.pass(1s);
  world.agents.silent.clear();
  world.pass(8s);
  expect_nothing_left();
}

TEST_F(LateHookTest, AJobThatHasEndedIsNotStagedAgain) {
  end();
  for (const auto hook : {Staging::Hook::pre_run, Staging::Hook::data_in}) {
    late(hook);
    expect_nothing_left();
  }
}

}  // namespace
}  // namespace atlas::test
