// limit-model: what the division and the buckets cost, and the step response of the control loop in its model; as JSON.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "cache-agent/limit/limit_governor.h"
#include "controller/limits/shares.h"
#include "controller/limits/sharing.h"
#include "tests/support/limit_loop.h"

namespace {

using namespace atlas;
using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr std::uint32_t kNodes = 1000, kUsers = 200;
constexpr int kRounds = 15;

double median(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

/// Of this thread: what others do on the machine is not counted.
double cpu_milliseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

template <class Work>
double milliseconds_of(Work work) {
  std::vector<double> samples;
  for (int round = 0; round < kRounds; ++round) {
    const double began = cpu_milliseconds();
    work();
    samples.push_back(cpu_milliseconds() - began);
  }
  return median(samples);
}

/// Every user on every node, each wanting something else; limits on some of all kinds.
ShareProblem everybody() {
  std::mt19937 random(1);
  ShareProblem out;
  out.origins = {{{50e9, 400e3}, 0}};
  out.nodes.resize(kNodes);
  for (std::uint32_t node = 0; node < kNodes; node += 10) out.nodes[node].rate = {500e6, kNoRate};
  out.accounts = {{{20e9, kNoRate}, 2}, {{10e9, 100e3}, 0}};
  for (std::uint32_t user = 0; user < kUsers; ++user) {
    out.users.push_back({{user % 4 == 0 ? 100e6 : kNoRate, kNoRate}, user % 7 == 0 ? 2.0 : 0});
    out.jobs.emplace_back();
    out.payers.push_back({user % 3 == 2 ? ShareProblem::kNone : user % 3, ShareProblem::kNone, user, user, user});
  }
  for (std::uint32_t node = 0; node < kNodes; ++node)
    for (std::uint32_t user = 0; user < kUsers; ++user) {
      const double want = static_cast<double>(random() % 2'000'000);
      const bool warm = random() % 4 == 0;
      const IoRate rate{want, want / 1e5};
      out.flows.push_back({0, node, user, warm ? IoRate{} : rate, warm ? rate : IoRate{}});
    }
  return out;
}

double division_of_a_controller() {
  std::mt19937 random(1);
  Sharing sharing;
  sharing.set_budgets({{LimitKind::origin, "lustre", 0, {50e9, 400e3}, kDefaultBurst, 0}});
  const auto now = SteadyTime(1h);
  for (std::uint32_t node = 0; node < kNodes; ++node) {
    std::vector<IoDemand> demands;
    for (std::uint32_t user = 0; user < kUsers; ++user)
      demands.push_back({{"lustre", user, user, user + 1, {}},
                         {static_cast<double>(random() % 2'000'000), 10},
                         {},
                         {},
                         0,
                         kUnlimited});
    sharing.report("node" + std::to_string(node), 0, demands, now);
  }
  return milliseconds_of([&] { static_cast<void>(sharing.divide(now)); });
}

class NoTimers final : public agent::Executor {
 public:
  void post(agent::Task) override {}
  agent::TimerHandle post_at(SteadyTime, agent::Task) override { return {}; }
};

double admit_and_settle(std::uint32_t limits) {
  SystemClock clock;
  NoTimers timers;
  agent::LimitGovernor governor("n1", clock, timers);
  std::vector<IoBudget> budgets;
  for (std::uint32_t uid = 1; uid <= limits; ++uid)
    budgets.push_back({LimitKind::user, "user" + std::to_string(uid), uid, {1e11, 1e9}, kDefaultBurst, 0});
  governor.set_budgets(std::move(budgets), 1);
  for (std::uint32_t uid = 2; uid < std::max(100U, limits); ++uid)
    if (const auto grant = governor.try_admit({"lustre", uid, uid, uid, agent::Urgency::fault, kMiB, 3}))
      governor.settle(*grant, kMiB, 3);
  constexpr int kTimes = 200'000;
  int refused = 0;
  const double took = milliseconds_of([&] {
    for (int i = 0; i < kTimes; ++i) {
      const auto grant = governor.try_admit({"lustre", 1, 1, 7, agent::Urgency::fault, Bytes{100}, 1});
      if (grant) governor.settle(*grant, Bytes{100}, 1);
      refused += grant ? 0 : 1;
    }
  });
  return refused > kTimes ? -1 : took * 1e6 / kTimes;
}

LoopOptions::User user(std::vector<std::pair<milliseconds, milliseconds>> active) {
  LoopOptions::User out;
  out.active = std::move(active);
  return out;
}

/// When a user has nine tenths of `rate`, after `from`, in half a second that begins then.
double seconds_until(const LoopResult& result, int who, milliseconds from, double rate) {
  for (auto at = from; at < from + 20s; at += LoopResult::kBin)
    if (result.mean(who, at, at + 500ms) >= 0.9 * rate) return std::chrono::duration<double>(at - from).count();
  return 20;
}

void step_response() {
  LoopOptions options;
  options.users = {user({{0ms, 60s}}), user({{10s, 30s}}), user({{20s, 50s}})};
  options.users[2].weight = 2;
  const auto result = run_limit_loop(options);
  std::printf("  \"step\": {\"bin_ms\": %lld, \"capacity\": %.0f, \"users\": [",
              static_cast<long long>(LoopResult::kBin.count()), options.capacity);
  for (std::size_t u = 0; u < result.read.size(); ++u) {
    std::printf("%s\n    [", u == 0 ? "" : ",");
    for (std::size_t bin = 0; bin < result.read[u].size(); ++bin)
      std::printf("%s%.0f", bin == 0 ? "" : ",", result.read[u][bin]);
    std::printf("]");
  }
  std::printf("]},\n");
}

void bursty_owners() {
  double overshoot = 0, back = 0, used = 1;
  for (std::uint32_t seed = 1; seed <= 50; ++seed) {
    std::mt19937 random(seed);
    LoopOptions options;
    options.seed = seed;
    options.users = {user({{0ms, 60s}})};
    std::vector<std::vector<std::pair<milliseconds, milliseconds>>> plans;
    for (int n = 0; n < 3; ++n) {
      std::vector<std::pair<milliseconds, milliseconds>> active;
      for (auto at = 3000ms; at < 60s;) {
        const auto until = at + milliseconds(500 + random() % 5000);
        active.emplace_back(at, until);
        at = until + milliseconds(500 + random() % 5000);
      }
      plans.push_back(active);
      options.users.push_back(user(active));
    }
    const auto result = run_limit_loop(options);
    overshoot = std::max(overshoot, result.highest(1s) / options.capacity - 1);
    used = std::min(used, result.mean(-1, 5s, 60s) / options.capacity);
    LoopOptions owner;
    owner.seed = seed;
    owner.users = {user({{0ms, 60s}}), user({{20s, 30s}}), user({{40s, 50s}})};
    const auto taken = run_limit_loop(owner);
    back = std::max(
        {back, seconds_until(taken, 1, 20s, owner.capacity / 2), seconds_until(taken, 2, 40s, owner.capacity / 2)});
    overshoot = std::max(overshoot, taken.highest(1s) / owner.capacity - 1);
  }
  std::printf("  \"overshoot\": %.4f, \"take_back_s\": %.2f, \"least_used\": %.4f\n", overshoot, back, used);
}

}  // namespace

int main() {
  const auto problem = everybody();
  std::printf(
      "{\n  \"divide_ms\": %.3f, \"sharing_ms\": %.3f, \"admit_settle_ns\": %.1f, \"admit_settle_1000_ns\": %.1f,\n",
      milliseconds_of([&] { static_cast<void>(divide(problem)); }), division_of_a_controller(), admit_and_settle(1),
      admit_and_settle(1000));
  step_response();
  bursty_owners();
  std::printf("}\n");
}
