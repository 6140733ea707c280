// What a look at the queue and a decision cost, in counts: what grows with jobs times nodes, or decides for everybody
// each time, fails here whatever the machine's speed.
#include "controller/staging/outlook.h"
#include "controller/staging/turns.h"
#include "tests/support/staging_world.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;
using test::StagingWorld;

constexpr char kWarm[] = "v1,w=wait,d=/lustre/speech";

/// All nodes are busy, n1 holds the data, and `jobs` jobs wait for it.
void queue_up(StagingWorld& world, std::uint32_t jobs) {
  for (auto& [name, node] : world.slurm.nodes) node.cpus_busy = 4;
  world.holds("n1", world.speech);
  world.pass(2s);
  for (std::uint32_t id = 10; id < 10 + jobs; ++id) {
    world.submit(id, kWarm);
    world.data_in(id);
  }
  world.pass(6s);
  for (std::uint32_t id = 10; id < 10 + jobs; ++id) ASSERT_EQ(world.job(id).row.phase, JobPhase::waiting) << id;
}

TEST(StagingScale, APollOfAFullSiteDecidesNothingAndLooksAtEachNodeOnce) {
  constexpr int kNodes = 40, kJobs = 60, kPolls = 10;
  StagingWorld world(kNodes);
  queue_up(world, kJobs);
  const auto before = world.staging->work();
  world.pass(kPolls * 1s);
  const auto after = world.staging->work();
  EXPECT_EQ(after.decisions, before.decisions);
  EXPECT_GE(after.node_views - before.node_views, kNodes * (kPolls - 1U));  // it did look
  EXPECT_LE(after.node_views - before.node_views, kNodes * (kPolls + 1U));
}

TEST(StagingScale, ADecisionLooksAnewAtNoMoreThanTheJobsOwnNodes) {
  constexpr int kNodes = 40;
  StagingWorld world(kNodes);
  queue_up(world, 20);
  const auto before = world.staging->work();
  world.submit(100, kWarm);
  world.data_in(100);
  const auto after = world.staging->work();
  EXPECT_GE(after.decisions, before.decisions + 1);
  EXPECT_LE(after.node_views - before.node_views, kNodes + 20U);  // data_in may fall into a poll
}

TEST(StagingScale, WhoWaitsIsDecidedAgainWhenAHolderBecomesFreeAndOnlyThen) {
  constexpr int kJobs = 30;
  StagingWorld world(10);
  queue_up(world, kJobs);
  world.holds("n2", world.speech);
  world.slurm.nodes.at("n2").cpus_busy = 0;
  const auto before = world.staging->work();
  world.pass(2s);
  EXPECT_GT(world.staging->work().decisions, before.decisions);
  int there = 0;
  for (std::uint32_t id = 10; id < 10 + kJobs; ++id) there += world.slurm.jobs.at(id).req_nodes == "n2" ? 1 : 0;
  EXPECT_EQ(there, 4);  // as many as it has CPUs
  world.pass(6s);
  const auto settled = world.staging->work();
  world.pass(5s);
  EXPECT_EQ(world.staging->work().decisions, settled.decisions);
}

TEST(StagingScale, ThousandsOfAgentsThatComeBackAreOneReasonToLookAtTheQueue) {
  constexpr int kNodes = 200;
  StagingWorld world(kNodes);
  world.pass(5s);
  const auto before = world.staging->work();
  for (int i = 1; i <= kNodes; ++i) world.connect("n" + std::to_string(i));
  world.pass(200ms);
  EXPECT_LE(world.staging->work().node_views - before.node_views, kNodes * 3U);
}

std::vector<std::vector<std::uint32_t>> shown(Outlook& outlook, const Registry& registry, const WarmUps& warmups,
                                              const std::vector<DatasetId>& datasets, const StagedJob* except) {
  std::vector<std::vector<std::uint32_t>> out;
  outlook.show(registry, warmups, datasets, except, [&](const ClusterSnapshot& view) {
    for (const auto& node : view.nodes) {
      auto& row = out.emplace_back();
      row = {node.cpus_promised, node.cache ? 1U : 0U, static_cast<std::uint32_t>(node.room.count >> 20U),
             static_cast<std::uint32_t>(node.holdings.size())};
      for (const auto& step : node.ahead) {
        row.push_back(static_cast<std::uint32_t>(step.in.count()));
        row.push_back(step.cpus);
      }
      for (const auto& [id, holding] : node.holdings)
        row.push_back(static_cast<std::uint32_t>(holding.resident.count >> 20U) * 2 + (holding.complete ? 1U : 0U));
    }
  });
  return out;
}

/// What is kept up to date between looks is what a new look would find.
TEST(StagingScale, WhatIsKeptUpIsWhatANewLookFinds) {
  StagingWorld world(6);
  WarmUps warmups(world.executor, world.agents, *world.registry, world.clock);
  const auto cluster = Cluster::of(std::make_shared<const QueueSnapshot>(world.slurm.load().value()));
  Outlook::Jobs jobs;
  for (std::uint32_t id = 1; id <= 5; ++id) {
    auto job = std::make_unique<StagedJob>();
    job->row.key.job_id = job->record.id = id;
    job->record.cpus_wanted = id % 3 + 1;
    job->record.time_limit = std::chrono::minutes(10 * id);
    job->planned_start = world.clock.wall() + id * 100s;
    job->row.nodes = {"n" + std::to_string(id), "n" + std::to_string(id % 3 + 1)};
    job->record.nodes_wanted = 2;
    job->datasets = {world.speech};
    jobs[id] = std::move(job);
  }
  Outlook kept;
  const auto now = world.clock.wall();
  world.registry->observe_nodes([&](const Registry::News& news) { kept.agent_changed(news); });
  kept.look(cluster, jobs, *world.registry, warmups, now);
  const auto expect_equal = [&](const char* after) {
    Outlook fresh;
    fresh.look(cluster, jobs, *world.registry, warmups, now);
    for (const StagedJob* except : std::initializer_list<const StagedJob*>{nullptr, jobs.begin()->second.get()})
      EXPECT_EQ(shown(kept, *world.registry, warmups, {world.speech}, except),
                shown(fresh, *world.registry, warmups, {world.speech}, except))
          << after;
    for (const auto& [name, record] : cluster.nodes)
      EXPECT_EQ(kept.promised_on(name, nullptr), fresh.promised_on(name, nullptr)) << after << name;
  };
  expect_equal("the look");
  jobs.at(2)->row.nodes = {"n6"};
  kept.plan(*jobs.at(2));
  expect_equal("a job is planned elsewhere");
  jobs.at(1)->record.held = true;
  kept.plan(*jobs.at(1));
  expect_equal("a job is held");
  jobs.at(3)->planned_start += 1h;
  kept.plan(*jobs.at(3));
  expect_equal("a job is planned for later");
  jobs.erase(4);
  kept.forget(4);
  expect_equal("a job is over");
  world.holds("n3", world.speech);
  expect_equal("a node holds the data");
  auto pinned = world.registry->find("n3")->replicas.begin()->second;
  pinned.pinned = true;
  world.report("n3", pinned);
  expect_equal("it is pinned");
  pinned.state = ReplicaState::partial;
  pinned.bytes_resident = Bytes{3 * kGiB.count};
  world.report("n3", pinned);
  expect_equal("a part of it is gone");
  auto newer = world.generation;
  newer.id.digest[5] = 9;
  newer.observed = world.clock.wall();
  world.holds("n4", world.speech);
  world.registry->note_generation(world.speech, newer);
  expect_equal("there is a newer version");
  pinned.state = ReplicaState::absent;
  world.report("n3", pinned);
  expect_equal("all of it is gone");
  world.disconnect("n5");
  expect_equal("an agent is lost");
  EXPECT_TRUE(world.registry->set_drained("n6", true, "root"));
  expect_equal("a node is drained");
}

DatasetId numbered(int number) {
  return {"lustre", "d" + std::to_string(number)};
}

TEST(StagingScale, AReportCostsWhatHasChangedNotAllThatANodeHolds) {
  StagingWorld world(2);
  WarmUps warmups(world.executor, world.agents, *world.registry, world.clock);
  const auto cluster = Cluster::of(std::make_shared<const QueueSnapshot>(world.slurm.load().value()));
  Outlook outlook;
  world.registry->observe_nodes([&](const Registry::News& news) { outlook.agent_changed(news); });
  ReplicaInfo replica;
  replica.generation = world.generation;
  replica.state = ReplicaState::complete;
  const auto report = [&](int number) {
    replica.dataset = numbered(number);
    world.report("n1", replica);
  };
  for (int i = 0; i < 1000; ++i) report(i);
  outlook.look(cluster, {}, *world.registry, warmups, world.clock.wall());
  const auto before = outlook.holdings_made();
  report(1000);
  report(7);
  EXPECT_TRUE(world.registry->set_drained("n2", true, "root"));
  static_cast<void>(shown(outlook, *world.registry, warmups, {numbered(7)}, nullptr));
  EXPECT_EQ(outlook.holdings_made() - before, 2U);
}

TEST(StagingScale, WhatIsAskedForAndHeldByNobodyTakesNoMemoryForEver) {
  StagingWorld world(2);
  WarmUps warmups(world.executor, world.agents, *world.registry, world.clock);
  const auto cluster = Cluster::of(std::make_shared<const QueueSnapshot>(world.slurm.load().value()));
  Outlook outlook;
  world.registry->observe_nodes([&](const Registry::News& news) { outlook.agent_changed(news); });
  world.holds("n1", numbered(-1));
  const auto look = [&] { outlook.look(cluster, {}, *world.registry, warmups, world.clock.wall()); };
  look();
  for (int i = 0; i < 3000; ++i) {
    static_cast<void>(shown(outlook, *world.registry, warmups, {numbered(i)}, nullptr));
    EXPECT_FALSE(outlook.holder_free({numbered(i)}, 1));
    EXPECT_EQ(cluster.places_in("nowhere" + std::to_string(i)), nullptr);
    EXPECT_NE(cluster.places_in("main,nowhere" + std::to_string(i)), nullptr);
  }
  EXPECT_EQ(outlook.datasets_known(), 1U) << "what was only asked for";
  EXPECT_LE(cluster.lists_remembered(), Cluster::kMostLists);
  for (int i = 0; i < 3000; ++i) {  // users' jobs name ever new ones
    Outlook::Jobs jobs;
    auto job = std::make_unique<StagedJob>();
    job->row.key.job_id = job->record.id = 1;
    job->datasets = {numbered(i)};
    jobs[1] = std::move(job);
    outlook.look(cluster, jobs, *world.registry, warmups, world.clock.wall());
  }
  EXPECT_LE(outlook.datasets_known(), 1100U);
  EXPECT_TRUE(outlook.holder_free({numbered(-1)}, 1)) << "what is held is known";
}

TEST(StagingScale, EverybodysTurnComes) {
  Turns turns;
  EXPECT_TRUE(turns.take(1));  // outside of a look
  std::map<std::uint32_t, int> had;
  for (int look = 0; look < 10; ++look) {
    turns.begin(3);
    std::vector<std::uint32_t> ids = {2, 3, 5, 7, 11, 13, 17};
    std::rotate(ids.begin(), std::lower_bound(ids.begin(), ids.end(), turns.from()), ids.end());
    int now = 0;
    for (const auto id : ids)
      if (turns.take(id)) ++had[id], ++now;
    EXPECT_EQ(now, 3);
    turns.end();
  }
  ASSERT_EQ(had.size(), 7U);
  for (const auto& [id, count] : had) EXPECT_NEAR(count, 30 / 7.0, 1) << id;
}

TEST(StagingScale, TheLargerTheSiteTheFewerDecisionsALook) {
  EXPECT_GE(Turns::affordable(100), 1000U);
  EXPECT_LE(Turns::affordable(10000), 20U);
  EXPECT_GE(Turns::affordable(1000000), 1U);
  EXPECT_GE(Turns::affordable(0), 1U);
}

}  // namespace
}  // namespace atlas
