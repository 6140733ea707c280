#include "controller/limits/shares.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <random>

namespace atlas {
namespace {

using Problem = ShareProblem;
constexpr double kM = 1e6;

IoRate bytes(double rate) {
  return {rate, 0};
}
Problem::Budget limit(double rate, double weight = 0) {
  return {{rate, kNoRate}, weight};
}

/// One origin of 100 MB/s, one node; each payer is a user of his own unless it is said otherwise.
struct Case {
  Problem problem;
  Case() {
    problem.origins = {limit(100 * kM)};
    problem.nodes = {{}};
  }
  std::uint32_t user(double weight = 0, double rate = kNoRate) {
    problem.users.push_back(limit(rate, weight));
    return static_cast<std::uint32_t>(problem.users.size() - 1);
  }
  std::uint32_t payer(std::uint32_t user, std::uint32_t account = Problem::kNone, std::uint32_t group = Problem::kNone,
                      std::int64_t order = 0) {
    problem.jobs.emplace_back();
    problem.payers.push_back({account, group, user, static_cast<std::uint32_t>(problem.jobs.size() - 1), order});
    return static_cast<std::uint32_t>(problem.payers.size() - 1);
  }
  std::size_t wants(std::uint32_t payer, double foreground, double warm = 0, std::uint32_t node = 0,
                    std::uint32_t origin = 0) {
    problem.flows.push_back({origin, node, payer, bytes(foreground), bytes(warm)});
    return problem.flows.size() - 1;
  }
  std::vector<double> megabytes() {
    std::vector<double> out;
    for (const auto& share : divide(problem)) out.push_back(share.bytes / kM);
    return out;
  }
};

void expect_near(const std::vector<double>& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 0.01) << "flow " << i;
}

TEST(Shares, UsersWithoutALimitShareTheOriginFairlyHoweverManyNodesAndJobsTheyHave) {
  Case c;
  c.problem.nodes.resize(4);
  const auto alice = c.user(), bob = c.user();
  const auto first = c.payer(alice), second = c.payer(alice), his = c.payer(bob);
  for (std::uint32_t node = 0; node < 4; ++node) c.wants(first, 1e9, 0, node);
  c.wants(second, 1e9);
  c.wants(his, 1e9);
  expect_near(c.megabytes(), {6.25, 6.25, 6.25, 6.25, 25, 50});
}

TEST(Shares, WeightsCount) {
  Case c;
  c.wants(c.payer(c.user(2)), 1e9);
  c.wants(c.payer(c.user(1)), 1e9);
  c.wants(c.payer(c.user()), 1e9);
  expect_near(c.megabytes(), {50, 25, 25});
}

TEST(Shares, WhatOneDoesNotWantIsTheOthers) {
  Case c;
  c.wants(c.payer(c.user()), 10 * kM);
  c.wants(c.payer(c.user()), 1e9);
  c.wants(c.payer(c.user()), 1e9);
  expect_near(c.megabytes(), {10, 45, 45});
}

TEST(Shares, WhatNobodyWantsIsLentToAllThatWantAnything) {
  Case c;
  c.wants(c.payer(c.user()), 10 * kM);
  c.wants(c.payer(c.user()), 20 * kM);
  expect_near(c.megabytes(), {45, 55});
}

TEST(Shares, TheSmallestLimitApplies) {
  Case c;
  c.problem.accounts = {limit(30 * kM)};
  c.problem.nodes = {limit(kNoRate), limit(4 * kM)};
  const auto alice = c.user(0, 20 * kM), bob = c.user();
  const auto hers = c.payer(alice, 0), his = c.payer(bob, 0), other = c.payer(alice);
  c.problem.jobs[2].rate.bytes = 3 * kM;
  c.wants(hers, 1e9);
  c.wants(hers, 1e9, 0, 1);  // the node's
  c.wants(his, 1e9);         // the account's rest
  c.wants(other, 1e9);       // the job's
  const auto got = c.megabytes();
  EXPECT_NEAR(got[1], 4, 0.01);
  EXPECT_NEAR(got[3], 3, 0.01);
  EXPECT_LE(got[0] + got[1] + got[3], 20.01);
  EXPECT_NEAR(got[0] + got[1] + got[2], 30, 0.01);
}

TEST(Shares, AnAccountWithoutAWeightIsOnlyABoundOnItsUsers) {
  Case c;
  c.problem.accounts = {limit(90 * kM)};
  for (int i = 0; i < 3; ++i) c.wants(c.payer(c.user(), 0), 1e9);
  c.wants(c.payer(c.user()), 1e9);
  expect_near(c.megabytes(), {25, 25, 25, 25});
}

TEST(Shares, AnAccountWithAWeightSharesAsOne) {
  Case c;
  c.problem.accounts = {limit(kNoRate, 1)};
  for (int i = 0; i < 3; ++i) c.wants(c.payer(c.user(), 0), 1e9);
  c.wants(c.payer(c.user()), 1e9);
  expect_near(c.megabytes(), {16.667, 16.667, 16.667, 50});
}

TEST(Shares, WhatJobsWaitForGoesBeforeWarmUpsWhichKeepATwentieth) {
  Case c;
  c.wants(c.payer(c.user()), 1e9);
  c.wants(c.payer(c.user()), 0, 1e9);
  expect_near(c.megabytes(), {95, 5});
  c.problem.flows[0].foreground.bytes = 60 * kM;
  expect_near(c.megabytes(), {60, 40});
}

TEST(Shares, AUsersWarmUpsGoOneAfterTheOther) {
  Case c;
  const auto alice = c.user();
  const auto late = c.payer(alice, Problem::kNone, Problem::kNone, 2);
  const auto early = c.payer(alice, Problem::kNone, Problem::kNone, 1);
  c.wants(late, 0, 80 * kM);
  c.wants(early, 0, 70 * kM);
  expect_near(c.megabytes(), {30, 70});
}

TEST(Shares, ALimitHoldsOverOriginsAndAccountsTogether) {
  Case c;
  c.problem.origins.push_back(limit(100 * kM));
  c.problem.accounts = {limit(kNoRate, 1), limit(kNoRate, 1)};
  const auto alice = c.user(0, 30 * kM);
  c.wants(c.payer(alice, 0), 1e9, 0, 0, 0);
  c.wants(c.payer(alice, 1), 1e9, 0, 0, 1);
  c.wants(c.payer(alice), 5 * kM, 0, 0, 1);
  const auto got = c.megabytes();
  EXPECT_NEAR(std::accumulate(got.begin(), got.end(), 0.0), 30, 0.01);
  EXPECT_NEAR(got[2], 5, 0.01);
  EXPECT_NEAR(got[0], got[1], 0.01);
}

TEST(Shares, WhatOperationsHoldUpIsAnothersBytes) {
  Case c;
  c.problem.users = {{{kNoRate, 100}, 0}, {}};
  c.problem.flows = {{0, 0, c.payer(0), {90 * kM, 900}, {}}, {0, 0, c.payer(1), {1e9, 1000}, {}}};
  const auto got = divide(c.problem);
  EXPECT_NEAR(got[0].operations, 100, 0.01);
  EXPECT_NEAR(got[0].bytes / kM, 10, 0.01);
  EXPECT_NEAR(got[1].bytes / kM, 90, 0.01);
  EXPECT_TRUE(is_unlimited(got[1].operations));
}

TEST(Shares, WithoutALimitThereIsNone) {
  Case c;
  c.problem.origins = {{}};
  c.wants(c.payer(c.user()), 10);
  const auto got = divide(c.problem);
  EXPECT_TRUE(is_unlimited(got[0].bytes));
  EXPECT_TRUE(is_unlimited(got[0].operations));
  EXPECT_TRUE(divide(Problem()).empty());
}

/// Whatever is asked, no budget is exceeded.
TEST(Shares, HoldForAnyCluster) {
  std::mt19937 random(20261122);
  const auto upto = [&](std::uint32_t most) { return static_cast<std::uint32_t>(random() % most); };
  for (int round = 0; round < 300; ++round) {
    Problem p;
    const auto budget = [&] {
      Problem::Budget out;
      if (upto(2) == 0) out.rate.bytes = 1 + upto(100'000);
      if (upto(2) == 0) out.rate.operations = 1 + upto(1000);
      out.weight = upto(3);
      return out;
    };
    const auto fill_list = [&](auto& list, std::uint32_t most) {
      for (auto n = 1 + upto(most); n > 0; --n) list.push_back(budget());
    };
    fill_list(p.origins, 2);
    fill_list(p.nodes, 6);
    fill_list(p.accounts, 2);
    fill_list(p.groups, 2);
    fill_list(p.users, 5);
    fill_list(p.jobs, 8);
    const auto some = [&](std::size_t of) { return upto(static_cast<std::uint32_t>(of)); };
    for (std::uint32_t job = 0; job < p.jobs.size(); ++job)
      p.payers.push_back({upto(2) != 0U ? Problem::kNone : some(p.accounts.size()),
                          upto(2) != 0U ? Problem::kNone : some(p.groups.size()), some(p.users.size()), job, upto(9)});
    for (auto n = 1 + upto(30); n > 0; --n) {
      const double size = 1 + upto(200'000);
      const IoRate want{size, size / (1 + upto(1000))};
      p.flows.push_back({some(p.origins.size()), some(p.nodes.size()), some(p.payers.size()),
                         upto(3) != 0U ? want : IoRate{}, upto(3) == 0U ? want : IoRate{}});
    }
    const auto shares = divide(p);
    for (const auto which : {&IoRate::bytes, &IoRate::operations}) {
      std::vector<std::vector<double>> used(6);
      const std::array lists{&p.origins, &p.nodes, &p.accounts, &p.groups, &p.users, &p.jobs};
      const auto places = [&](std::size_t i) {
        const auto& who = p.payers[p.flows[i].payer];
        return std::array{p.flows[i].origin, p.flows[i].node, who.account, who.group, who.user, who.job};
      };
      for (std::size_t kind = 0; kind < 6; ++kind) used[kind].resize(lists[kind]->size());
      for (std::size_t i = 0; i < shares.size(); ++i)
        for (std::size_t kind = 0; kind < 6; ++kind)
          if (places(i)[kind] != Problem::kNone) used[kind][places(i)[kind]] += shares[i].*which;
      for (std::size_t kind = 0; kind < 6; ++kind)
        for (std::size_t k = 0; k < used[kind].size(); ++k) {
          const double most = (*lists[kind])[k].rate.*which;
          if (is_unlimited(most)) continue;
          EXPECT_LE(used[kind][k], most * (1 + 1e-9)) << "kind " << kind << " round " << round;
        }
      for (std::size_t i = 0; i < shares.size(); ++i) EXPECT_GE(shares[i].*which, 0) << "round " << round;
    }
  }
}

TEST(WithinWhatIsBack, LessIsToldAtOnceMoreOnlyWhenThereIsRoom) {
  Case c;
  c.wants(c.payer(c.user()), 1e9);
  c.wants(c.payer(c.user()), 1e9);
  const std::vector<IoRate> before{{100 * kM, kNoRate}, {}};
  const auto target = divide(c.problem);
  auto told = within_what_is_back(c.problem, before, target);
  EXPECT_NEAR(told[0].bytes / kM, 50, 0.01);
  EXPECT_NEAR(told[1].bytes / kM, 2.5, 0.01);  // not nothing: he would not know
  told = within_what_is_back(c.problem, {{50 * kM, kNoRate}, {2.5 * kM, kNoRate}}, target);
  EXPECT_NEAR(told[1].bytes / kM, 50, 0.01);
}

}  // namespace
}  // namespace atlas
