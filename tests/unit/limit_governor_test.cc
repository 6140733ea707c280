#include "cache-agent/limit/limit_governor.h"

#include <gtest/gtest.h>

#include "tests/support/count_allocations.h"
#include "tests/support/event_clock.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

constexpr double kM = 1e6;

IoBudget origin_limit(double bytes, double operations = kNoRate) {
  return {LimitKind::origin, "lustre", 0, {bytes, operations}, kDefaultBurst, 0};
}
IoBudget user_limit(std::uint32_t uid, double bytes, double operations = kNoRate) {
  return {LimitKind::user, "someone", uid, {bytes, operations}, kDefaultBurst, 0};
}
Charge charge(std::uint32_t uid, std::uint64_t bytes = 1'000'000, Urgency urgency = Urgency::fault,
              std::uint32_t job_id = 7) {
  return {"lustre", uid, uid, job_id, urgency, Bytes{bytes}, 1};
}
IoShare share(std::uint32_t uid, double bytes, double operations = kNoRate, std::uint32_t job_id = 7) {
  return {{"lustre", uid, uid, job_id, {}}, {bytes, operations}};
}

struct LimitGovernorTest : testing::Test {
  EventClock time;
  SteadyTime start = time.now();
  LimitGovernor governor{"n1", time, time};
  std::vector<std::string> began;
  std::vector<Ticket> tickets;

  void ask(const std::string& name, const Charge& what) {
    tickets.push_back(governor.admit(what, [this, name](Grant grant) {
      began.push_back(name);
      governor.settle(grant, grant.bytes, grant.operations);
    }));
  }
  /// Megabytes that he gets without waiting.
  int at_once(std::uint32_t uid, std::uint32_t job_id = 7, int most = 10'000) {
    for (int got = 0; got < most; ++got) {
      const auto grant = governor.try_admit(charge(uid, 1'000'000, Urgency::fault, job_id));
      if (!grant) return got;
      governor.settle(*grant, grant->bytes, grant->operations);
    }
    return most;
  }
  /// Lets a time pass as the agent does: what is wanted is told each second.
  void idle(std::chrono::seconds length) {
    for (auto second = 0s; second < length; ++second) {
      time.run_until(time.now() + 1s);
      static_cast<void>(governor.demands());
    }
  }
  /// What a payer who asks for a megabyte again and again gets in so long.
  double megabytes(std::uint32_t uid, std::chrono::seconds length, std::uint32_t job_id = 7) {
    double got = 0;
    std::function<void()> again = [&] {
      tickets.push_back(governor.admit(charge(uid, 1'000'000, Urgency::fault, job_id), [&](Grant grant) {
        ++got;
        governor.settle(grant, grant.bytes, grant.operations);
        time.post([&] { again(); });
      }));
    };
    again();
    time.run_until(time.now() + length);
    const double result = got;
    tickets.clear();
    return result;
  }
};

TEST_F(LimitGovernorTest, WithoutALimitNothingWaits) {
  for (int i = 0; i < 1000; ++i) ask("a", charge(1));
  EXPECT_EQ(began.size(), 1000U);
  EXPECT_TRUE(governor.demands().empty());
}

TEST_F(LimitGovernorTest, WhatWaitsBeginsInOrderButReadersBeforeWarmUps) {
  governor.set_budgets({user_limit(1, 10 * kM)}, 1);
  ask("first", charge(1));
  ask("warm", charge(1, 1'000'000, Urgency::warm_queued));
  ask("second", charge(1));
  ask("third", charge(1));
  EXPECT_EQ(began, std::vector<std::string>{"first"});
  time.run_until(start + 250ms);
  EXPECT_EQ(began, (std::vector<std::string>{"first", "second", "third"}));
  time.run_until(start + 350ms);
  EXPECT_EQ(began.back(), "warm");
}

TEST_F(LimitGovernorTest, WhoWaitsHoldsUpNobodyElse) {
  governor.set_budgets({user_limit(1, 1)}, 1);
  for (int i = 0; i < 1000; ++i) ask("slow", charge(1));
  EXPECT_EQ(began.size(), 1U);
  for (int i = 0; i < 1000; ++i) ask("free", charge(2));
  EXPECT_EQ(began.size(), 1001U);
}

TEST_F(LimitGovernorTest, ADroppedTicketIsNoRequestAnyMore) {
  governor.set_budgets({user_limit(1, 10 * kM)}, 1);
  ask("first", charge(1));
  ask("dropped", charge(1));
  ask("kept", charge(1));
  tickets.erase(tickets.begin() + 1);
  time.run_until(start + 150ms);
  EXPECT_EQ(began, (std::vector<std::string>{"first", "kept"}));
}

TEST_F(LimitGovernorTest, WhatWasNotMovedIsNotPaid) {
  governor.set_budgets({user_limit(1, 10 * kM)}, 1);
  const auto grant = governor.try_admit(charge(1, 100'000'000));
  ASSERT_TRUE(grant);
  EXPECT_FALSE(governor.try_admit(charge(1)));
  governor.settle(*grant, Bytes{0}, 0);
  EXPECT_TRUE(governor.try_admit(charge(1)));
}

TEST_F(LimitGovernorTest, HoldsRatesOfBytesAndOfOperations) {
  governor.set_budgets({user_limit(1, 10 * kM), user_limit(2, kNoRate, 50)}, 1);
  EXPECT_NEAR(megabytes(1, 10s), 100, 1.5);
  EXPECT_NEAR(megabytes(2, 10s), 500, 5.5);
}

TEST_F(LimitGovernorTest, NobodyGetsASecondsWorthByARestart) {
  governor.set_budgets({user_limit(1, 50 * kM)}, 1);
  EXPECT_LE(megabytes(1, 1s), 51);
}

TEST_F(LimitGovernorTest, ABurstIsOfTheLimitItWasSetForWhateverOtherLimitsWithoutOneApply) {
  auto alice = user_limit(1, 50 * kM);
  alice.burst = 2s;
  auto origin = origin_limit(400 * kM);
  origin.burst = 0s;
  governor.set_budgets({alice, origin}, 1);
  ask("first", charge(1));
  idle(2s);
  time.run_until(time.now() + 10s);
  EXPECT_NEAR(at_once(1), 100, 2);
  origin.burst = 500ms;
  governor.set_budgets({alice, origin}, 1);
  time.run_until(time.now() + 10s);
  EXPECT_NEAR(at_once(1), 25, 2) << "of those that were set the smallest";
  alice.burst = origin.burst = 0s;
  governor.set_budgets({alice, origin}, 1);
  time.run_until(time.now() + 10s);
  EXPECT_NEAR(at_once(1), 5, 1) << "nobody said anything: 100 ms";
}

TEST_F(LimitGovernorTest, WhatWasSavedUpIsThereAfterAPause) {
  auto alice = user_limit(1, 50 * kM);
  alice.burst = 2s;
  governor.set_budgets({alice}, 10);
  governor.set_connected(true);
  governor.set_job(7, "ml", kUnlimited);
  ask("first", charge(1));
  governor.set_shares({share(1, 50 * kM)});
  idle(600s);  // the share runs out, then the flow ends: its rate would be a tenth of a tenth
  governor.set_shares({share(1, 2.5 * kM)});  // a twentieth, as who comes anew gets first
  EXPECT_NEAR(at_once(1), 100, 2);
  governor.set_shares({share(1, 50 * kM)});
  EXPECT_LE(at_once(1), 1) << "once";
}

TEST_F(LimitGovernorTest, AfterARestartNothingIsSavedUp) {
  auto alice = user_limit(1, 50 * kM);
  alice.burst = 60s;
  governor.set_budgets({alice}, 1);
  time.run_until(start + 1h);
  ask("first", charge(1));
  EXPECT_LE(at_once(1), 1);
  time.run_until(time.now() + 1s);
  EXPECT_LE(at_once(1), 51);
}

TEST_F(LimitGovernorTest, ALimitOfTerabytesIsOne) {
  governor.set_budgets({user_limit(1, 2e12, 1e9)}, 1);
  EXPECT_EQ(governor.at_a_time(charge(1), Bytes{1}, Bytes{4 << 20}), Bytes{4 << 20});
  ask("first", charge(1, 4'000'000'000'000));
  ask("second", charge(1));
  EXPECT_EQ(began.size(), 1U);
  time.run_until(start + 2100ms);
  EXPECT_EQ(began.size(), 2U);
}

TEST_F(LimitGovernorTest, WhoMayReadLittleReadsLittleAtATime) {
  constexpr Bytes kLeast{1 << 20}, kMost{4 << 20};
  governor.set_budgets({user_limit(1, 2 * kM), user_limit(2, 1)}, 1);
  EXPECT_EQ(governor.at_a_time(charge(1), kLeast, kMost), Bytes{2'000'000});
  EXPECT_EQ(governor.at_a_time(charge(2), kLeast, kMost), kLeast);
  EXPECT_EQ(governor.at_a_time(charge(3), kLeast, kMost), kMost);
}

TEST_F(LimitGovernorTest, AJobThatIsForgottenIsNotRememberedByWhatItStillWaitedFor) {
  governor.set_budgets({user_limit(1, 10 * kM)}, 1);
  ask("first", charge(1, 10'000'000));
  ask("second", charge(1));
  time.run_until(start + 500ms);
  governor.forget_job(7);
  time.run_until(start + 2s);
  EXPECT_EQ(began.size(), 2U);
  EXPECT_EQ(governor.throttled(7).time, 0ms);
}

TEST_F(LimitGovernorTest, WhatAUserReadsForNoJobIsHisAccountsToo) {
  governor.set_budgets({{LimitKind::account, "ml", 0, {10 * kM, kNoRate}, {}, 0}}, 1);
  EXPECT_GE(at_once(1, 0, 1000), 1000);
  governor.set_user(1, "ml");
  EXPECT_NEAR(megabytes(1, 10s, 0), 100, 2);
  EXPECT_GE(at_once(1, 7, 1000), 1000) << "of a job its own account counts";
  EXPECT_GE(at_once(2, 0, 1000), 1000);
  governor.set_user(1, "");
  EXPECT_GE(at_once(1, 0, 1000), 1000);
}

TEST_F(LimitGovernorTest, WhatWaitedForAJobThatIsOverIsNotRememberedForEver) {
  governor.set_budgets({user_limit(1, 10 * kM)}, 1);
  for (std::uint32_t job = 1; job <= 50; ++job) {
    governor.set_job(job, "ml", kUnlimited);
    EXPECT_GE(megabytes(1, 1s, job), 1);
    governor.forget_job(job);
    EXPECT_GE(megabytes(1, 1s, job), 1) << "something is still read for it";
  }
  idle(200s);
  EXPECT_EQ(governor.remembered(), 0U);
}

TEST_F(LimitGovernorTest, AnUnknownOneHasATenthOfAnEqualPartAndIsReportedOnce) {
  int newcomers = 0;
  governor.on_newcomer([&] { ++newcomers; });
  governor.set_budgets({origin_limit(400 * kM)}, 4);
  governor.set_connected(true);
  EXPECT_NEAR(megabytes(1, 2s), 20, 2);
  EXPECT_EQ(newcomers, 1);
}

TEST_F(LimitGovernorTest, AShareRunsOutThenItIsAnEqualPart) {
  governor.set_budgets({origin_limit(400 * kM)}, 4);
  governor.set_connected(true);
  ask("known", charge(1));
  governor.set_shares({share(1, 200 * kM)});
  EXPECT_NEAR(megabytes(1, 4s), 800, 30);
  governor.set_connected(false);
  time.run_until(start + 6s);
  EXPECT_NEAR(megabytes(1, 10s), 1000, 15);
}

TEST_F(LimitGovernorTest, AShareThatIsLoweredUnderLoadStallsNobodyBeyondHisDebt) {
  governor.set_budgets({origin_limit(400 * kM)}, 1);
  ask("first", charge(1, 32'000'000));
  governor.set_shares({share(1, 32 * kM)});
  ask("second", charge(1));
  time.run_until(start + 900ms);
  EXPECT_EQ(began.size(), 1U);
  governor.set_shares({share(1, 1 * kM)});  // 3 MB are owed
  time.run_until(start + 4500ms);
  EXPECT_EQ(began.size(), 2U);
}

TEST_F(LimitGovernorTest, ALimitThatIsLoweredHoldsBeforeTheSharesFollow) {
  governor.set_budgets({user_limit(1, 400 * kM)}, 1);
  ask("first", charge(1));
  governor.set_shares({share(1, 400 * kM)});
  governor.set_budgets({user_limit(1, 10 * kM)}, 1);
  EXPECT_NEAR(megabytes(1, 2s), 20, 2.5);
}

TEST_F(LimitGovernorTest, AJobsOwnLimitOnlyLowers) {
  governor.set_budgets({user_limit(1, 20 * kM)}, 1);
  governor.set_job(8, "ml", {5 * kM, kNoRate});
  governor.set_job(9, "ml", {500 * kM, kNoRate});
  EXPECT_NEAR(megabytes(1, 10s, 8), 50, 1.5);
  time.run_until(time.now() + 10s);
  static_cast<void>(governor.demands());  // who is active is looked at with each report
  EXPECT_NEAR(megabytes(1, 10s, 9), 200, 3);
}

TEST_F(LimitGovernorTest, WhatOneLeavesOfHisShareAnotherBorrowsAndGivesBackAtOnce) {
  governor.set_budgets({origin_limit(100 * kM)}, 1);
  governor.set_connected(true);
  ask("owner", charge(1));
  ask("guest", charge(2));
  governor.set_shares({share(1, 50 * kM), share(2, 50 * kM)});
  EXPECT_NEAR(megabytes(2, 4s), 400, 20);
  governor.set_shares({share(1, 50 * kM), share(2, 50 * kM)});
  EXPECT_NEAR(megabytes(1, 1s), 100, 12);  // alone again
}

TEST_F(LimitGovernorTest, WhatWasBorrowedAndNotUsedIsNotHisOwn) {
  governor.set_budgets({origin_limit(20 * kM)}, 1);
  governor.set_connected(true);
  ask("guest", charge(1));
  ask("owner", charge(2));
  governor.set_shares({share(1, 10 * kM), share(2, 10 * kM)});
  int own = 0, unused = 0;
  for (int i = 0; i < 200; ++i)
    tickets.push_back(governor.admit(charge(1), [&](Grant grant) {  // what is borrowed turns out to be holes
      ++(grant.borrowed ? unused : own);
      governor.settle(grant, grant.borrowed ? Bytes{} : grant.bytes, grant.borrowed ? 0 : grant.operations);
    }));
  time.run_until(time.now() + 2s);
  EXPECT_GT(unused, 0);
  EXPECT_LE(own, 23) << "two seconds' worth of his share";
  tickets.clear();
}

TEST_F(LimitGovernorTest, AControllerThatIsSlowCostsNobodyMoreThanAnEqualPart) {
  governor.set_budgets({user_limit(1, 10 * kM)}, 2);
  governor.set_connected(true);
  ask("known", charge(1));
  governor.set_shares({share(1, 8 * kM)});
  EXPECT_NEAR(megabytes(1, 5s), 40, 3);
  EXPECT_NEAR(megabytes(1, 5s), 25, 3) << "its last word is too old, and it says nothing";
}

TEST_F(LimitGovernorTest, WhoHasALimitOfHisOwnBorrowsNothing) {
  governor.set_budgets({origin_limit(100 * kM), user_limit(2, 30 * kM)}, 1);
  ask("owner", charge(1));
  ask("guest", charge(2));
  governor.set_shares({share(1, 70 * kM), share(2, 30 * kM)});
  EXPECT_NEAR(megabytes(2, 4s), 120, 5);
}

TEST_F(LimitGovernorTest, TheEndLetsAllBegin) {
  governor.set_budgets({user_limit(1, 1)}, 1);
  for (int i = 0; i < 100; ++i) ask("slow", charge(1));
  governor.open();
  EXPECT_EQ(began.size(), 100U);
}

TEST_F(LimitGovernorTest, CountsForHowLongAndForHowMuchAJobWaited) {
  governor.set_budgets({user_limit(1, 10 * kM)}, 1);
  ask("first", charge(1, 10'000'000));
  ask("second", charge(1));
  EXPECT_TRUE(governor.parks(1, 7));
  EXPECT_FALSE(governor.parks(2, 7));
  time.run_until(start + 500ms);
  EXPECT_EQ(governor.throttled(7).time, 500ms);
  time.run_until(start + 2s);
  EXPECT_NEAR(static_cast<double>(governor.throttled(7).time.count()), 1000, 2);
  EXPECT_EQ(governor.throttled(7).bytes, Bytes{1'000'000});
  EXPECT_FALSE(governor.parks(1, 7));
}

TEST_F(LimitGovernorTest, AsksForMoreWhenItWaitsAndForLittleMoreThanItUsesWhenNot) {
  governor.set_budgets({origin_limit(100 * kM)}, 1);
  governor.set_connected(true);
  ask("known", charge(1));
  static_cast<void>(governor.demands());
  for (int second = 0; second < 5; ++second) {
    governor.set_shares({share(1, 10 * kM)});
    static_cast<void>(megabytes(1, 1s));
    const auto demands = governor.demands();
    ASSERT_EQ(demands.size(), 1U);
    EXPECT_GE(demands[0].foreground.bytes, 20 * kM);
    EXPECT_NEAR(demands[0].used.bytes, 10 * kM, 1.2 * kM);
  }
  for (int second = 0; second < 8; ++second) {
    governor.set_shares({share(1, 50 * kM)});
    ask("little", charge(1));
    time.run_until(time.now() + 1s);
    const auto demands = governor.demands();
    ASSERT_EQ(demands.size(), 1U);
    EXPECT_LE(demands[0].foreground.bytes, second > 5 ? 2 * kM : kNoRate);
  }
}

TEST_F(LimitGovernorTest, AFreeBudgetCostsNoAllocation) {
  governor.set_budgets({user_limit(1, 1e11)}, 1);
  governor.settle(*governor.try_admit(charge(1)), Bytes{1'000'000}, 1);
  time.run_until(start + 1s);
  const auto before = allocations();
  for (int i = 0; i < 1000; ++i) {
    const auto grant = governor.try_admit(charge(1, 1000));
    ASSERT_TRUE(grant);
    governor.settle(*grant, Bytes{1000}, 1);
  }
  EXPECT_EQ(allocations(), before);
}

TEST_F(LimitGovernorTest, AThousandLimitsHoldEachForItsOwnAndCostNoAllocation) {
  const auto thousand = [](double rate) {
    std::vector<IoBudget> out;
    for (std::uint32_t uid = 1; uid <= 999; ++uid) out.push_back(user_limit(uid, uid == 500 ? rate : 1e11));
    out.push_back(origin_limit(1e12));
    return out;
  };
  governor.set_budgets(thousand(10 * kM), 1);
  for (std::uint32_t uid = 1; uid <= 1200; ++uid) ask("each", charge(uid));
  EXPECT_EQ(began.size(), 1200U);
  EXPECT_NEAR(megabytes(500, 10s), 100, 2);
  governor.set_budgets(thousand(20 * kM), 1);
  EXPECT_NEAR(megabytes(500, 10s), 200, 2) << "what is set holds at once";
  const auto before = allocations();
  for (std::uint32_t uid = 1; uid <= 1200; ++uid) {
    if (uid == 500) continue;
    const auto grant = governor.try_admit(charge(uid, 1000));
    ASSERT_TRUE(grant) << uid;
    governor.settle(*grant, Bytes{1000}, 1);
  }
  EXPECT_EQ(allocations(), before);
}

}  // namespace
}  // namespace atlas::agent
