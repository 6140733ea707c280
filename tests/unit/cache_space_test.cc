// Who may take how much of the cache, and what makes way for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/staging_world.h"

namespace atlas::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr std::uint64_t kGi = 1ULL << 30U;
constexpr Bytes operator""_G(unsigned long long count) {
  return Bytes{count * kGi};
}
const Payer kAlice{1000, 100, "speech"}, kBob{1001, 100, "vision"};

class CacheSpaceTest : public ::testing::Test {
 protected:
  static GenerationId generation(char c) { return GenerationId::of(std::string(16, c)); }
  /// A replica of a dataset named by one letter.
  ReplicaInfo on(const std::string& node, char name, Bytes charged, const Payer& payer, int last_used,
                 std::vector<std::uint32_t> leases = {}) {
    ReplicaInfo replica;
    replica.dataset = {"lustre", std::string(1, name)};
    replica.generation.id = generation(name);
    replica.state = ReplicaState::complete;
    replica.charged = charged;
    replica.payer = payer;
    replica.last_used = WallTime(std::chrono::seconds(last_used));
    replica.leases = std::move(leases);
    world.report(node, replica);
    return replica;
  }
  void limit(LimitKind kind, const std::string& name, std::uint32_t id, Bytes cache) {
    ASSERT_TRUE(space().set({kind, name, id, cache, "root", world.clock.wall()}));
  }
  CacheSpace& space() { return world.staging->cache_space(); }
  /// Asks for more of a dataset; what was answered so far.
  std::shared_ptr<std::optional<CacheSpace::Answer>> ask(const std::string& node, char name, Bytes most, Bytes least,
                                                         const Payer& payer = kAlice, Bytes have = {},
                                                         std::chrono::milliseconds wait = 1s) {
    const auto out = std::make_shared<std::optional<CacheSpace::Answer>>();
    space().reserve({node, {"lustre", std::string(1, name)}, generation(name), payer, have, most, least, wait},
                    [out](const CacheSpace::Answer& answer) {
                      ASSERT_FALSE(*out) << "once";
                      *out = answer;
                    });
    return out;
  }
  [[nodiscard]] Bytes used(LimitKind kind) {
    for (const auto& use : space().all())
      if (use.limit.kind == kind) return use.cache_used;
    return {};
  }

  StagingWorld world;
};

TEST_F(CacheSpaceTest, WithoutALimitAllIsGrantedAndNothingMakesWay) {
  on("n1", 'a', 90_G, kAlice, 1);
  const auto answer = ask("n1", 'b', 5000_G, 5000_G);
  ASSERT_TRUE(*answer);
  EXPECT_EQ((*answer)->granted, 5000_G);
  EXPECT_THAT(world.agents.evicted, IsEmpty());
}

TEST_F(CacheSpaceTest, AThousandLimitsOneAfterTheOtherAreToldToNodesTogether) {
  struct Told {
    int times = 0;
    std::size_t budgets = 0;
    std::uint32_t nodes = 0;
  };
  std::map<std::string, Told> told;
  auto& limits = world.staging->io_limits();
  const auto comes = [&](const std::string& node, std::uint64_t stream) {
    limits.came(node, stream,
                {[&told, node](const std::vector<IoBudget>& budgets, std::uint32_t nodes) {
                   told[node] = {told[node].times + 1, budgets.size(), nodes};
                 },
                 [](const Sharing::Message&) {}});
  };
  comes("n1", 1);
  EXPECT_EQ(told["n1"].times, 1) << "who comes does not wait";
  for (int i = 0; i < 1000; ++i) {
    LimitRow row{LimitKind::account, "team" + std::to_string(i), 0, {}, "root", world.clock.wall()};
    row.read = Bytes{1'000'000};
    ASSERT_TRUE(space().set(row));
    limits.changed();
  }
  EXPECT_EQ(space().all().size(), 1000U);
  world.executor.pass(1s);
  EXPECT_LE(told["n1"].times, 3);
  EXPECT_EQ(told["n1"].budgets, 1000U);
  for (std::uint64_t node = 2; node <= 100; ++node) comes("n" + std::to_string(node), node);
  EXPECT_EQ(told["n100"].budgets, 1000U);
  EXPECT_EQ(told["n100"].nodes, 100U);
  world.executor.pass(1s);
  EXPECT_EQ(told["n1"].nodes, 100U) << "an equal part is another one now";
  EXPECT_LE(told["n1"].times, 5);
}

TEST_F(CacheSpaceTest, NodesThatComeBackOneByOneAreToldOfAllThatWereThere) {
  std::map<std::string, std::uint32_t> told;
  auto& limits = world.staging->io_limits();
  const auto comes = [&](const std::string& node, std::uint64_t stream) {
    limits.came(node, stream,
                {[&told, node](const std::vector<IoBudget>&, std::uint32_t nodes) { told[node] = nodes; },
                 [](const Sharing::Message&) {}});
  };
  limits.expect(100);  // an earlier controller knew so many
  comes("a1", 1);
  EXPECT_EQ(told["a1"], 100U);
  for (std::uint64_t node = 2; node <= 50; ++node) comes("a" + std::to_string(node), node);
  world.executor.pass(70s);
  EXPECT_EQ(told["a1"], 50U) << "the others have had the time";
  for (std::uint64_t node = 2; node <= 50; ++node) limits.lost("a" + std::to_string(node), node);
  world.executor.pass(1s);
  EXPECT_EQ(told["a1"], 50U) << "they read on";
  comes("a2", 60);
  EXPECT_EQ(told["a2"], 50U);
  world.executor.pass(70s);
  EXPECT_EQ(told["a1"], 2U);
}

TEST_F(CacheSpaceTest, WhatAUserWarmsByHandIsChargedToTheAccountOfHisWithTheLowestLimit) {
  auto& limits = world.staging->io_limits();
  const auto set = [&](const std::string& account, std::uint64_t rate) {
    LimitRow row{LimitKind::account, account, 0, {}, "root", world.clock.wall()};
    row.read = Bytes{rate};
    ASSERT_TRUE(space().set(row));
    limits.changed();
  };
  EXPECT_EQ(limits.account_of(1000), "") << "nothing is known";
  limits.note_account(1000, "");
  limits.note_account(1000, "ml");
  EXPECT_EQ(limits.account_of(1000), "ml");
  EXPECT_TRUE(limits.knows_account("ml"));
  EXPECT_FALSE(limits.knows_account("speech"));
  on("n1", 'a', 1_G, kAlice, 1);  // speech
  EXPECT_EQ(limits.account_of(1000), "") << "which of them nobody knows, and it makes no difference";
  set("speech", 5'000'000);
  set("vision", 1);
  EXPECT_EQ(limits.account_of(1000), "speech");
  set("ml", 4'000'000);
  EXPECT_EQ(limits.account_of(1000), "ml");
  EXPECT_EQ(limits.account_of(1001), "");
}

TEST_F(CacheSpaceTest, TheAccountsOfJobsThatHaveBeenSeenAreKnownAfterARestart) {
  world.staging->io_limits().note_account(1000, "ml");
  world.restart();
  EXPECT_EQ(world.staging->io_limits().account_of(1000), "ml");
  EXPECT_TRUE(world.staging->io_limits().knows_account("ml"));
  world.clock.move(80 * 24h);
  world.staging->io_limits().note_account(1000, "ml");
  world.restart();
  world.clock.move(20 * 24h);
  world.restart();
  EXPECT_EQ(world.staging->io_limits().account_of(1000), "ml") << "it was seen again";
  world.clock.move(100 * 24h);
  world.restart();
  EXPECT_EQ(world.staging->io_limits().account_of(1000), "") << "and then not for months";
}

TEST_F(CacheSpaceTest, AReplicaCountsForItsUserItsGroupAndItsAccount) {
  limit(LimitKind::user, "alice", kAlice.uid, 100_G);
  limit(LimitKind::group, "staff", 100, 100_G);
  limit(LimitKind::account, "vision", 0, 100_G);
  on("n1", 'a', 20_G, kAlice, 1);
  on("n2", 'a', 20_G, kAlice, 1);
  on("n2", 'b', 7_G, kBob, 1);
  on("n3", 'c', 50_G, {1002, 200, "speech"}, 1);
  EXPECT_EQ(used(LimitKind::user), 40_G) << "on all nodes together";
  EXPECT_EQ(used(LimitKind::group), 47_G);
  EXPECT_EQ(used(LimitKind::account), 7_G);
}

TEST_F(CacheSpaceTest, WhatIsGrantedCountsUntilTheNodeReportsIt) {
  limit(LimitKind::user, "alice", kAlice.uid, 100_G);
  EXPECT_EQ((*ask("n1", 'a', 60_G, 60_G))->granted, 60_G);
  const auto second = ask("n2", 'b', 60_G, 60_G);
  ASSERT_TRUE(*second) << "what is being brought cannot make way";
  EXPECT_EQ((*second)->granted, Bytes{});
  EXPECT_THAT((*second)->reason, HasSubstr("the cache quota of user alice, 100G on all nodes together, leaves 40G of "
                                           "the 60G that it needs"));
  on("n1", 'a', 60_G, kAlice, 1, {7});
  EXPECT_EQ(used(LimitKind::user), 60_G) << "once, not twice";
  world.pass(31s);
  EXPECT_EQ((*ask("n3", 'c', 10_G, 10_G))->granted, 10_G);
  world.pass(31s);
  EXPECT_EQ(used(LimitKind::user), 60_G) << "what was granted and never taken is forgotten";
}

TEST_F(CacheSpaceTest, TheUsersOwnLeastRecentlyUsedMakesWayWhereverItIs) {
  limit(LimitKind::user, "alice", kAlice.uid, 100_G);
  on("n1", 'a', 40_G, kAlice, 300);
  on("n2", 'b', 30_G, kAlice, 100);
  on("n3", 'c', 30_G, kAlice, 50, {7});
  on("n3", 'd', 90_G, kBob, 1);
  const auto answer = ask("n1", 'e', 25_G, 25_G);
  EXPECT_FALSE(*answer) << "not before it has made way";
  world.pass(0ms);
  ASSERT_TRUE(*answer);
  EXPECT_EQ((*answer)->granted, 25_G);
  EXPECT_EQ((*answer)->reason, "");
  EXPECT_THAT(world.agents.evicted, UnorderedElementsAre(Pair("n2", generation('b'))))
      << "a job holds the older one; what is another's stays";
}

TEST_F(CacheSpaceTest, NothingMakesWayInVain) {
  limit(LimitKind::user, "alice", kAlice.uid, 100_G);
  on("n1", 'a', 40_G, kAlice, 1);
  on("n2", 'b', 60_G, kAlice, 1, {7});
  const auto answer = ask("n1", 'c', 50_G, 50_G);
  world.pass(0ms);
  ASSERT_TRUE(*answer);
  EXPECT_EQ((*answer)->granted, Bytes{});
  EXPECT_THAT(world.agents.evicted, IsEmpty());
}

TEST_F(CacheSpaceTest, AReaderMakesDoWithAPart) {
  limit(LimitKind::user, "alice", kAlice.uid, 100_G);
  on("n2", 'b', 90_G, kAlice, 1, {7});
  const auto answer = ask("n1", 'c', 50_G, 3_G);
  ASSERT_TRUE(*answer);
  EXPECT_EQ((*answer)->granted, 10_G);
  EXPECT_THAT((*answer)->reason, HasSubstr("leaves 10G of the 50G"));
}

TEST_F(CacheSpaceTest, TheTightestLimitCountsAndOnlyWhatItCoversMakesWay) {
  limit(LimitKind::user, "alice", kAlice.uid, 500_G);
  limit(LimitKind::account, "speech", 0, 50_G);
  on("n1", 'a', 60_G, {kAlice.uid, 100, "other"}, 1);
  on("n1", 'b', 30_G, kAlice, 2);
  const auto answer = ask("n2", 'c', 40_G, 40_G);
  world.pass(0ms);
  ASSERT_TRUE(*answer);
  EXPECT_EQ((*answer)->granted, 40_G);
  EXPECT_THAT(world.agents.evicted, ElementsAre(Pair("n1", generation('b'))));
}

TEST_F(CacheSpaceTest, OthersOfTheGroupDoNotMakeWay) {
  limit(LimitKind::group, "staff", 100, 100_G);
  on("n1", 'a', 90_G, kBob, 1);
  const auto answer = ask("n2", 'c', 40_G, 40_G);
  world.pass(0ms);
  ASSERT_TRUE(*answer);
  EXPECT_EQ((*answer)->granted, Bytes{});
  EXPECT_THAT((*answer)->reason, HasSubstr("group staff"));
  EXPECT_THAT(world.agents.evicted, IsEmpty());
}

TEST_F(CacheSpaceTest, WhoTakesOverAReplicaPaysForAllOfIt) {
  limit(LimitKind::user, "alice", kAlice.uid, 100_G);
  on("n1", 'a', 70_G, kBob, 1);
  EXPECT_EQ((*ask("n1", 'a', 40_G, 40_G, kAlice, 70_G))->granted, Bytes{});
  on("n2", 'b', 70_G, kAlice, 1);
  EXPECT_EQ((*ask("n2", 'b', 30_G, 30_G, kAlice, 70_G))->granted, 30_G) << "what is hers is not counted twice";
  EXPECT_EQ(used(LimitKind::user), 100_G);
}

TEST_F(CacheSpaceTest, WhoeverWaitsIsAnsweredInTimeAlthoughANodeDoesNotAnswer) {
  limit(LimitKind::user, "alice", kAlice.uid, 100_G);
  on("n1", 'a', 100_G, kAlice, 1);
  world.agents.hold_evictions = true;
  const auto first = ask("n2", 'b', 50_G, 5_G, kAlice, {}, 500ms);
  const auto second = ask("n2", 'c', 40_G, 40_G, kAlice, {}, 60s);
  world.pass(499ms);
  EXPECT_FALSE(*first);
  world.pass(2ms);
  ASSERT_TRUE(*first);
  EXPECT_EQ((*first)->granted, Bytes{});
  EXPECT_FALSE(*second);
  world.agents.let_evictions_go();
  world.pass(0ms);
  ASSERT_TRUE(*second) << "it goes on with what has made way";
  EXPECT_EQ((*second)->granted, 40_G);
}

TEST_F(CacheSpaceTest, LimitsOutliveTheControllerAndAreTakenBack) {
  limit(LimitKind::user, "alice", kAlice.uid, 100_G);
  on("n1", 'a', 80_G, kAlice, 1, {7});
  world.restart(false);
  EXPECT_EQ(used(LimitKind::user), 80_G) << "also of nodes that are not back yet";
  EXPECT_EQ((*ask("n1", 'b', 30_G, 30_G))->granted, Bytes{});
  ASSERT_TRUE(space().remove(LimitKind::user, "alice"));
  EXPECT_EQ((*ask("n1", 'b', 30_G, 30_G))->granted, 30_G);
  EXPECT_EQ(space().remove(LimitKind::user, "alice").error().code, Code::not_found);
}

TEST_F(CacheSpaceTest, MoreCacheThanTheQuotaIsOnRecordAndHoldsNobodyUp) {
  limit(LimitKind::user, "alice", 1001, 500_G);
  world.holds("n2", world.speech);
  world.submit(10, "v1,c=644245094400,d=/lustre/speech");
  const auto answer = world.data_in(10);
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->ready);
  EXPECT_THAT(world.job(10).row.reason,
              HasSubstr("; --cache 600G is more than the cache quota of user alice, 500G on all nodes together"));
}

TEST_F(CacheSpaceTest, AgentsAreToldTheJobsAccount) {
  auto& record = world.submit(10, "v1,w=wait,d=/lustre/speech");
  record.account = "speech";
  static_cast<void>(world.data_in(10));
  ASSERT_EQ(world.agents.open().size(), 1U);
  EXPECT_EQ(world.agents.open()[0]->order.account, "speech");
  FakeAgents::finish(*world.agents.open()[0], world.generation);
  world.pass(0ms);
  ASSERT_EQ(world.agents.plans.size(), 1U);
  EXPECT_EQ(world.agents.plans.begin()->second.account, "speech");
}

}  // namespace
}  // namespace atlas::test
