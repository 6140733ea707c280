// What staging does when all goes well: who waits for what, what Slurm's record says in the end, what the node is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/staging_world.h"

namespace atlas::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

constexpr const char* kAlone = "v1,d=/lustre/speech";
constexpr const char* kWarm = "v1,w=wait,d=/lustre/speech";
constexpr const char* kOverlap = "v1,w=overlap,d=/lustre/speech";

class StagingTest : public ::testing::Test {
 protected:
  StagingWorld world;
};

TEST_F(StagingTest, AFreeHolderIsPinnedInDataInAndTheJobNeedNotWait) {
  world.holds("n2", world.speech);
  world.submit(10, kWarm);
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->ready);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "n2");
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.slurm.patches_of(10).size(), 1U) << "one update says it all";
  EXPECT_THAT(world.job(10).row.reason, HasSubstr("n2 holds the data (10G)"));
}

TEST_F(StagingTest, AJobWaitsForItsWarmUpAndIsReleasedInOneUpdate) {
  world.submit(10, kWarm);
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer);
  EXPECT_FALSE(answer->ready);
  EXPECT_TRUE(world.held_back(10));
  ASSERT_EQ(world.agents.open().size(), 1U);
  auto& warm = *world.agents.open()[0];
  EXPECT_EQ(warm.order.as.uid, 1001U) << "the origin is read as the job's user";
  EXPECT_EQ(warm.order.dataset, world.speech);
  FakeAgents::show(warm, WarmPhase::fetching, 20s);
  world.pass(10s);
  EXPECT_TRUE(world.slurm.patches.empty());
  EXPECT_EQ(world.job(10).row.phase, JobPhase::warming);

  FakeAgents::finish(warm, world.generation);
  world.pass(0ms);
  ASSERT_EQ(world.slurm.patches_of(10).size(), 1U);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, warm.node);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.job(10).row.phase, JobPhase::ready);
  EXPECT_GE(world.job(10).row.waited, 10s);
  EXPECT_THAT(world.agents.plans, Contains(Pair(Pair(warm.node, 10U), ::testing::_))) << "a lease before it starts";
}

TEST_F(StagingTest, DatasetAloneNeverDelaysAndFillsTheCacheWhileItRuns) {
  world.submit(10, kAlone);
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer && answer->ready);
  EXPECT_TRUE(world.slurm.patches.empty()) << "nothing to pin, nothing to wait for";
  EXPECT_THAT(world.agents.warms, IsEmpty());
  world.start(10, "n3");
  ASSERT_EQ(world.agents.warms_on("n3"), 1U);
  EXPECT_EQ(world.agents.warms[0]->order.payer.job_id, 10U);
  world.pass(20s);
  EXPECT_EQ(world.agents.warms.size(), 1U);
}

TEST_F(StagingTest, DatasetAloneDoesNotWaitForABusyHolder) {
  world.holds("n2", world.speech);
  world.slurm.nodes["n2"].cpus_busy = 4;
  world.pass(5s);
  world.submit(10, kAlone);
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer && answer->ready);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
  EXPECT_THAT(answer->message, HasSubstr("n2 holds the data but is busy"));
}

TEST_F(StagingTest, ABusyHolderIsWaitedForInSlurmsQueueUntilTheDeadline) {
  world.holds("n2", world.speech);
  world.slurm.nodes["n2"].cpus_busy = 4;
  world.pass(5s);
  world.submit(10, kWarm);
  world.data_in(10);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "n2") << "Slurm starts it the moment the node is free";
  EXPECT_FALSE(world.held_back(10));
  EXPECT_EQ(world.job(10).row.phase, JobPhase::waiting);
  world.pass(29min);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "n2");
  world.pass(2min);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
  EXPECT_THAT(world.job(10).row.reason, HasSubstr("started cold: n2 stayed busy"));
}

TEST_F(StagingTest, AHolderThatBecomesFreeElsewhereIsTaken) {
  world.holds("n2", world.speech);
  world.slurm.nodes["n2"].cpus_busy = 4;
  world.pass(5s);
  world.submit(10, kWarm);
  world.data_in(10);
  world.holds("n3", world.speech);
  world.pass(10s);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "n3");
}

TEST_F(StagingTest, OverlapStartsAtOnceWhereTheDataComes) {
  world.submit(10, kOverlap);
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer && answer->ready);
  ASSERT_EQ(world.agents.open().size(), 1U);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, world.agents.open()[0]->node);
}

TEST_F(StagingTest, AWarmUpThatWouldLeaveNodesIdleForTooLongOverlaps) {
  world.submit(10, kWarm);
  world.data_in(10);
  auto& warm = *world.agents.open().at(0);
  world.pass(6s);
  FakeAgents::show(warm, WarmPhase::fetching, 90s);
  world.pass(1s);
  EXPECT_TRUE(world.held_back(10)) << "within warm.max_idle it waits";
  FakeAgents::show(warm, WarmPhase::fetching, 10min);
  world.pass(1s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_THAT(world.job(10).row.reason, HasSubstr("would stay idle for 10m"));
  EXPECT_FALSE(warm.over) << "the warm-up goes on";
}

TEST_F(StagingTest, TwoHundredJobsShareOneTransferPerNode) {
  for (std::uint32_t id = 1; id <= 200; ++id) {
    world.submit(id, kWarm);
    std::optional<Staging::HookAnswer> answer;
    auto& record = world.slurm.jobs[id];
    record.own_begin = record.begin;
    record.begin = record.submitted + 30min;
    world.call(Staging::Hook::data_in, id, answer);
  }
  world.pass(3s);
  for (const auto* node : {"n1", "n2", "n3"}) EXPECT_LE(world.agents.warms_on(node), 1U) << node;
  for (auto* warm : world.agents.open()) FakeAgents::finish(*warm, world.generation);
  world.pass(5s);
  for (std::uint32_t id = 1; id <= 200; ++id) EXPECT_FALSE(world.held_back(id)) << id;
  EXPECT_LE(world.agents.warms.size(), 3U);
}

TEST_F(StagingTest, AnotherUsersJobIsCheckedOnTheHolderAsThatUser) {
  world.holds("n2", world.speech);
  world.submit(10, kWarm, 1001);
  world.submit(11, kWarm, 1002);
  world.data_in(10);
  world.data_in(11);
  std::set<std::uint32_t> uids;
  for (const auto& warm : world.agents.warms) uids.insert(warm->order.as.uid);
  EXPECT_THAT(uids, ElementsAre(1001U, 1002U));
}

TEST_F(StagingTest, TwoNodesAreWarmedAndPinnedTogether) {
  auto& record = world.submit(10, kWarm);
  record.nodes_wanted = record.cpus_wanted = 2;
  world.data_in(10);
  ASSERT_EQ(world.agents.open().size(), 2U);
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(1s);
  EXPECT_TRUE(world.held_back(10)) << "half of it is not enough";
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(1s);
  EXPECT_EQ(hosts_of(world.slurm.jobs[10].req_nodes).size(), 2U);
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingTest, WhenEveryNodeHoldsTheDataNothingIsPinned) {
  for (const auto* node : {"n1", "n2", "n3"}) world.holds(node, world.speech);
  world.submit(10, kWarm);
  ASSERT_TRUE(world.data_in(10)->ready);
  EXPECT_EQ(world.slurm.jobs[10].req_nodes, "");
}

TEST_F(StagingTest, TheUsersOwnNodeListIsLeftAlone) {
  auto& record = world.submit(10, kWarm);
  record.req_nodes = "n3";
  world.data_in(10);
  ASSERT_EQ(world.agents.open().size(), 1U);
  EXPECT_EQ(world.agents.open()[0]->node, "n3");
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(1s);
  EXPECT_FALSE(world.held_back(10));
  for (const auto& patch : world.slurm.patches) EXPECT_FALSE(patch.req_nodes);
}

TEST_F(StagingTest, AJobIsNotReleasedBeforeTheUsersOwnBeginTime) {
  auto& record = world.submit(10, kWarm);
  const auto own = record.begin = record.submitted + 20min;
  record.own_begin = own;
  record.begin = own + 30min;
  std::optional<Staging::HookAnswer> answer;
  world.call(Staging::Hook::data_in, 10, answer);
  FakeAgents::finish(*world.agents.open().at(0), world.generation);
  world.pass(1s);
  EXPECT_EQ(world.slurm.jobs[10].begin, own);
}

TEST_F(StagingTest, AHookIsAnsweredAtOnceWhenAPollWasEarlier) {
  for (const auto age : {0ms, 1500ms}) {  // of what is known of the queue
    world.submit(10, kWarm);
    world.pass(6s);
    ASSERT_EQ(world.agents.open().size(), 1U);
    FakeAgents::show(*world.agents.open()[0], WarmPhase::fetching, 20s);
    world.pass(age);
    auto before = world.clock.now();
    const auto warming = world.data_in(10);
    ASSERT_TRUE(warming);
    EXPECT_FALSE(warming->ready);
    EXPECT_EQ(world.clock.now(), before) << "while it warms";
    FakeAgents::finish(*world.agents.open()[0], world.generation);
    world.pass(age);
    before = world.clock.now();
    const auto ready = world.data_in(10);
    ASSERT_TRUE(ready);
    EXPECT_TRUE(ready->ready);
    EXPECT_EQ(world.clock.now(), before) << "when it is ready";
    world.slurm.jobs.clear();
    world.pass(10s);
  }
}

TEST_F(StagingTest, AHookThatIsAskedAgainLeavesNoQuestionOpen) {
  world.submit(10, kWarm);
  int answers = 0;
  for (int i = 0; i < 2; ++i)  // Slurm is slow to say what job that is
    world.staging->hook(Staging::Hook::data_in, 10, [&](const Result<Staging::HookAnswer>&) { ++answers; });
  world.pass(2s);
  EXPECT_EQ(answers, 2);
}

TEST_F(StagingTest, ARequeuedJobDoesNotWaitAgain) {
  auto& record = world.submit(10, kWarm);
  record.restarts = 1;
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer && answer->ready);
  EXPECT_FALSE(world.held_back(10));
}

TEST_F(StagingTest, AnArrayIsReleasedByOneUpdateWithoutAPinAndWarmsOtherNodesOnceEach) {
  world.submit_array(10, kWarm, 30min).admin_comment += " atlas-begin:1";
  world.pass(6s);
  ASSERT_EQ(world.agents.open().size(), 1U) << "the best node";
  const auto first = world.agents.open()[0]->node;
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(1s);
  ASSERT_EQ(world.slurm.patches.size(), 1U);
  EXPECT_EQ(world.slurm.patches[0].job_id, 10U);
  EXPECT_FALSE(world.slurm.patches[0].req_nodes);
  EXPECT_FALSE(world.held_back(10));

  const std::string other = first == "n1" ? "n2" : "n1";
  for (std::uint32_t task = 0; task < 8; ++task) {
    auto& record = world.slurm.jobs[20 + task] = world.slurm.jobs[10];
    record.id = 20 + task;
    record.array_task_id = task;
    record.array_waiting = false;
    record.state = JobState::running;
    record.nodes = task % 2 == 0 ? first : other;
  }
  world.pass(10s);
  EXPECT_EQ(world.agents.warms_on(first), 1U);
  EXPECT_EQ(world.agents.warms_on(other), 1U) << "once per node, not once per task";
  for (std::uint32_t task = 0; task < 8; ++task) {
    EXPECT_THAT(world.agents.plans, Contains(Pair(Pair(::testing::_, 20 + task), ::testing::_)));
    world.end(20 + task, false);
  }
  world.slurm.jobs[10].array_waiting = false;
  world.end(10, false);
  world.pass(10s);
  EXPECT_THAT(world.agents.plans, IsEmpty());
  EXPECT_TRUE(world.staging->leases().idle());
  EXPECT_EQ(world.receipt(20)->outcome, "warm");
}

TEST_F(StagingTest, ATaskSplitOutOfAReleasedArrayIsLetGo) {
  auto& base = world.submit_array(10, kWarm, 30min);
  auto& task = world.slurm.jobs[11] = base;
  task.id = 11;
  task.array_task_id = 0;
  task.array_waiting = false;
  world.pass(6s);
  FakeAgents::finish(*world.agents.open().at(0), world.generation);
  world.pass(3s);
  EXPECT_FALSE(world.held_back(10));
  EXPECT_FALSE(world.held_back(11));
}

TEST_F(StagingTest, TheReceiptSaysWhatTheJobGot) {
  world.holds("n2", world.speech);
  world.submit(10, kWarm);
  world.data_in(10);
  world.start(10, "n2");
  ASSERT_THAT(world.agents.plans, Contains(Pair(Pair("n2", 10U), ::testing::_)));
  EXPECT_EQ(world.job(10).row.phase, JobPhase::running);
  world.agents.outcomes = {{world.speech, ReplicaState::complete, Bytes{100}, Bytes{7}, ""}};
  world.pass(60s);
  world.end(10);
  const auto receipt = world.receipt(10);
  ASSERT_TRUE(receipt);
  EXPECT_EQ(receipt->outcome, "warm");
  EXPECT_THAT(receipt->nodes, ElementsAre("n2"));
  EXPECT_EQ(receipt->resident, Bytes{100});
  EXPECT_EQ(receipt->origin, Bytes{7});
  EXPECT_THAT(world.agents.released, ElementsAre(Pair("n2", 10U)));
  EXPECT_TRUE(world.staging->leases().idle());
}

TEST_F(StagingTest, HitsThatAreCountedInPartAreNotGivenForAll) {
  const auto hits_of = [](std::uint32_t job, std::optional<Bytes> one, std::optional<Bytes> other) {
    StagingWorld own;
    for (const auto* node : {"n1", "n2"}) own.holds(node, own.speech);
    own.submit(job, kWarm).nodes_wanted = 2;
    own.start(job, "n[1-2]");
    for (const auto& [node, hit] : {std::pair{"n1", one}, {"n2", other}}) {
      ReleasedDataset outcome{own.speech, ReplicaState::partial, Bytes{100}, Bytes{}, ""};
      outcome.hit = hit;
      own.agents.outcomes_on[node] = {outcome};
    }
    own.pass(5s);
    own.end(job);
    const auto receipt = own.receipt(job);
    EXPECT_TRUE(receipt);
    return receipt ? receipt->hit : std::nullopt;
  };
  EXPECT_EQ(hits_of(10, Bytes{5}, Bytes{7}), Bytes{12});
  EXPECT_EQ(hits_of(11, Bytes{5}, std::nullopt), std::nullopt);
  EXPECT_EQ(hits_of(12, std::nullopt, Bytes{7}), std::nullopt);
}

TEST_F(StagingTest, NodesWhereNoTaskRanSayNothingAboutWhatAJobGot) {
  world.holds("n1", world.speech);
  world.holds("n2", world.speech);
  world.submit(10, kWarm).nodes_wanted = 2;
  world.start(10, "n[1-2]");
  world.agents.outcomes_on["n1"] = {{world.speech, ReplicaState::complete, Bytes{100}, Bytes{}, ""}};
  world.agents.outcomes_on["n2"] = {{world.speech, ReplicaState::absent, Bytes{}, Bytes{}, ""}};
  world.pass(5s);
  world.end(10);
  ASSERT_TRUE(world.receipt(10));
  EXPECT_EQ(world.receipt(10)->outcome, "warm");
}

TEST_F(StagingTest, AJobThatNoAgentSawAttachReadTheOrigin) {
  world.submit(10, kWarm);
  world.start(10, "n1");
  world.agents.outcomes = {{world.speech, ReplicaState::absent, Bytes{}, Bytes{}, ""}};
  world.pass(5s);
  world.end(10);
  ASSERT_TRUE(world.receipt(10));
  EXPECT_EQ(world.receipt(10)->outcome, "cold");
}

TEST_F(StagingTest, AWatcherSeesThePhasesAndTheReceipt) {
  world.submit(10, kWarm);
  world.data_in(10);
  std::vector<JobPhase> phases;
  bool over = false;
  world.staging->watch(10, {[&](const JobView& view) {
                              if (phases.empty() || phases.back() != view.row.phase) phases.push_back(view.row.phase);
                              if (view.row.phase == JobPhase::ended) {
                                EXPECT_TRUE(view.receipt);
                              }
                              return true;
                            },
                            [&](const Status&) { over = true; }});
  auto& warm = *world.agents.open().at(0);
  FakeAgents::show(warm, WarmPhase::fetching, 5s);
  world.pass(1s);
  FakeAgents::finish(warm, world.generation);
  world.pass(1s);
  world.start(10, warm.node);
  world.end(10);
  EXPECT_TRUE(over);
  EXPECT_THAT(phases,
              ElementsAre(JobPhase::surveying, JobPhase::warming, JobPhase::ready, JobPhase::running, JobPhase::ended));
}

TEST_F(StagingTest, AnAgentIsToldWhatAStartingJobAskedForEvenWithoutHooks) {
  world.submit(10, kAlone).state = JobState::running;
  std::optional<PlanOrder> order;
  world.staging->job_plan(10, "n1", [&](const Result<std::optional<PlanOrder>>& reply) { order = reply.value(); });
  world.pass(0ms);
  ASSERT_TRUE(order);
  EXPECT_EQ(order->job.job_id, 10U);
  EXPECT_EQ(order->as.uid, 1001U);
  ASSERT_EQ(order->datasets.size(), 1U);
  EXPECT_EQ(order->datasets[0].dataset, world.speech);

  world.slurm.jobs[11].id = 11;
  bool answered = false;
  world.staging->job_plan(11, "n1", [&](const Result<std::optional<PlanOrder>>& reply) {
    answered = true;
    EXPECT_FALSE(reply.value());
  });
  world.pass(0ms);
  EXPECT_TRUE(answered);
}

TEST_F(StagingTest, RootsJobsAreNotStaged) {
  world.submit(10, kWarm, 0);
  world.pass(10s);
  EXPECT_THAT(world.agents.warms, IsEmpty());
  EXPECT_TRUE(world.slurm.patches.empty());
}

TEST_F(StagingTest, AnExplanationChangesNothing) {
  world.holds("n2", world.speech);
  Staging::Question question;
  question.request.datasets = {"/lustre/speech"};
  question.request.warm = WarmMode::wait;
  const auto decision = world.staging->explain(question);
  ASSERT_TRUE(decision);
  EXPECT_EQ(decision->action, Action::go);
  EXPECT_THAT(decision->nodes, ElementsAre("n2"));
  question.partition = "nowhere";
  EXPECT_EQ(world.staging->explain(question).error().code, Code::not_found);
  question.partition.clear();
  question.request.datasets = {"/tmp/elsewhere"};
  EXPECT_THAT(world.staging->explain(question).error().message, HasSubstr("lustre (/lustre)"));
  EXPECT_THAT(world.agents.warms, IsEmpty());
}

}  // namespace
}  // namespace atlas::test
