#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "sim/atlas_policy.h"
#include "sim/easy.h"
#include "sim/experiment.h"
#include "sim/flows.h"
#include "sim/generate.h"

namespace atlas::sim {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double kGB = 1e9;
constexpr double kNearly = 1e-4;  // seconds: transfers end within 64 bytes
constexpr double kBytes = 1e3;

Bytes gb(double count) {
  return Bytes{static_cast<std::uint64_t>(count * kGB)};
}

/// `nodes` nodes of one CPU, an origin of 1 GB/s.
Site small(std::uint32_t nodes, double cache = 1000, double peers = 0) {
  Site site;
  site.nodes = nodes;
  site.cpus = 1;
  site.cache = gb(cache);
  site.origin_rate = gb(1);
  site.node_rate = gb(10);
  site.peer_rate = gb(peers);
  return site;
}

struct Job {
  SimJob job;
  Job(double submit, double runtime) {
    job.submit = Time(submit);
    job.runtime = job.limit = Time(runtime);
  }
  Job& on(std::uint32_t nodes) { return job.nodes = nodes, *this; }
  Job& limit(double seconds) { return job.limit = Time(seconds), *this; }
  Job& reads(std::uint32_t dataset) { return job.datasets.push_back(dataset), *this; }
};

Workload of(const std::vector<double>& sizes_gb, const std::vector<Job>& jobs) {
  Workload out;
  out.users = {"alice"};
  for (const double size : sizes_gb) out.datasets.push_back({"set" + std::to_string(out.datasets.size()), gb(size)});
  for (const auto& job : jobs) {
    out.jobs.push_back(job.job);
    out.jobs.back().id = std::to_string(out.jobs.size());
  }
  return out;
}

Outcome run(const Site& site, const Workload& workload, const std::string& spec) {
  auto policy = make_policy(spec, site, workload);
  EXPECT_TRUE(policy) << spec;
  auto outcome = Cluster(site, workload, **policy).run();
  EXPECT_TRUE(outcome) << outcome.error().message;
  return outcome ? *outcome : Outcome{};
}

void expect_job(const JobResult& job, double start, double stall, double end) {
  EXPECT_NEAR(job.start.count(), start, kNearly);
  EXPECT_NEAR(job.stall.count(), stall, kNearly);
  EXPECT_NEAR(job.end.count(), end, kNearly);
}

/// A (100 GB) and B (50 GB) are read by long jobs; a short one that reads A comes when both nodes are taken. The origin
/// gives each half until B is there at 100 s, and all of it to A then: A is there at 150 s.
Workload three_jobs() {
  return of({100, 50}, {Job(0, 1000).reads(0), Job(0, 1000).reads(1), Job(10, 100).reads(0)});
}

TEST(Simulator, ABlindJobTakesTheFirstFreeNodeAndReadsTheOriginAgain) {
  for (const auto* policy : {"blind", "prefer"}) {
    const auto out = run(small(2), three_jobs(), policy);
    expect_job(out.jobs[0], 0, 150, 1150);
    expect_job(out.jobs[1], 0, 100, 1100);
    expect_job(out.jobs[2], 1100, 100, 1300);
    EXPECT_THAT(out.jobs[2].nodes, ElementsAre(1U));
    EXPECT_NEAR(out.origin_bytes, 250 * kGB, kBytes);
  }
}

TEST(Simulator, DelaySchedulingWaitsForTheHolderAsLongAsItIsTold) {
  // It could start at 1100 s first, on the node that does not hold A.
  for (const auto* patience : {"delay=2000s", "delay=60s"}) {
    const auto out = run(small(2), three_jobs(), patience);
    expect_job(out.jobs[2], 1150, 0, 1250);
    EXPECT_NEAR(out.jobs[2].hit_bytes, 100 * kGB, kBytes);
    EXPECT_NEAR(out.origin_bytes, 150 * kGB, kBytes);
  }
  expect_job(run(small(2), three_jobs(), "delay=40s").jobs[2], 1140, 100, 1340);
}

TEST(Simulator, AtlasWaitsForAHolderThatIsFreeSoonerThanTheDataCouldBeRead) {
  // A would take longer than max_idle: its job starts at the next look, at 10 s, and then has ten parts of eleven.
  const auto out = run(small(2), three_jobs(), "atlas");
  expect_job(out.jobs[2], 1114.5, 0, 1214.5);
  EXPECT_NEAR(out.origin_bytes, 150 * kGB, kBytes);
  EXPECT_EQ(out.wasted_bytes, 0);
}

TEST(Simulator, AtlasBringsTheDataWhileTheJobQueues) {
  const auto workload = of({100}, {Job(0, 1000), Job(10, 100).reads(0)});
  expect_job(run(small(1), workload, "blind").jobs[1], 1000, 100, 1200);
  const auto out = run(small(1), workload, "atlas");
  expect_job(out.jobs[1], 1000, 0, 1100);
  EXPECT_NEAR(out.warm_bytes, 100 * kGB, kBytes);
  EXPECT_EQ(out.wasted_bytes, 0);
}

TEST(Simulator, AtlasBringsOnesDataAfterTheOthersInsteadOfAllTogether) {
  // Two transfers fill the origin.
  auto site = small(3);
  site.node_rate = gb(1);
  const auto workload =
      of({40, 40, 40}, {Job(0, 100).reads(0), Job(0, 100).reads(1), Job(0, 100).reads(2), Job(0, 50)});
  const auto blind = run(site, workload, "blind");
  for (std::size_t i = 0; i < 3; ++i) expect_job(blind.jobs[i], 0, 120, 220);
  const auto out = run(site, workload, "atlas");
  expect_job(out.jobs[0], 80, 0, 180);
  expect_job(out.jobs[1], 80, 0, 180);
  expect_job(out.jobs[2], 120, 0, 220);
  EXPECT_EQ(out.jobs[3].start.count(), 0) << "nobody's data is on the third node yet";
  EXPECT_EQ(blind.jobs[3].start.count(), 220);
}

TEST(Simulator, AJobWithoutDataLeavesAloneTheNodeWhoseDataIsAwaited) {
  // At 200 s nodes 0 (with A) and 1 are free, node 2 is not. A job of three nodes waits for it and will read A.
  const auto workload =
      of({100}, {Job(0, 50).reads(0), Job(0, 50), Job(0, 1000), Job(200, 10).on(3).reads(0), Job(210, 700)});
  const auto out = run(small(3), workload, "atlas");
  EXPECT_THAT(out.jobs[4].nodes, ElementsAre(1U));
  EXPECT_THAT(run(small(3), workload, "blind").jobs[4].nodes, ElementsAre(0U));
}

TEST(Simulator, ShortJobsAreFilledInBeforeTheFirstThatWaitsButNeverDelayIt) {
  const auto workload = of({}, {Job(0, 100), Job(1, 100).on(2), Job(2, 50), Job(3, 200)});
  const auto out = run(small(2), workload, "blind");
  EXPECT_EQ(out.jobs[1].start.count(), 100);
  EXPECT_EQ(out.jobs[2].start.count(), 2) << "it ends before the two nodes are free";
  EXPECT_EQ(out.jobs[3].start.count(), 200) << "it would not";
}

TEST(Simulator, TimeLimitsAreAllThatBackfillKnows) {
  const auto workload = of({}, {Job(0, 100), Job(1, 100).on(2), Job(2, 50).limit(500)});
  EXPECT_EQ(run(small(2), workload, "blind").jobs[2].start.count(), 200);
}

TEST(Simulator, WhatIsReadIsKeptAndTheLeastRecentlyUsedMakesWay) {
  const auto workload =
      of({60, 60}, {Job(0, 10).reads(0), Job(100, 10).reads(1), Job(200, 10).reads(1), Job(300, 10).reads(0)});
  const auto out = run(small(1, 100), workload, "blind");
  EXPECT_NEAR(out.jobs[2].hit_bytes, 60 * kGB, kBytes);
  expect_job(out.jobs[2], 200, 0, 210);
  EXPECT_EQ(out.jobs[3].hit_bytes, 0) << "it made way for the other";
}

TEST(Simulator, WhatDoesNotFitIsReadThroughEachTime) {
  const auto out = run(small(1, 40), of({100}, {Job(0, 10).reads(0), Job(200, 10).reads(0)}), "blind");
  EXPECT_NEAR(out.jobs[1].hit_bytes, 40 * kGB, kBytes);
  EXPECT_NEAR(out.jobs[1].origin_bytes, 60 * kGB, kBytes);
  expect_job(out.jobs[1], 200, 60, 270);
}

TEST(Simulator, NodesOfOneJobReadTheOriginOnceWhereTheyGiveToEachOther) {
  const auto workload = of({100}, {Job(0, 100).on(4).reads(0)});
  const auto alone = run(small(4), workload, "blind");
  expect_job(alone.jobs[0], 0, 400, 500);
  EXPECT_NEAR(alone.origin_bytes, 400 * kGB, kBytes);
  const auto together = run(small(4, 1000, 5), workload, "blind");
  expect_job(together.jobs[0], 0, 100, 200);
  EXPECT_NEAR(together.origin_bytes, 100 * kGB, kBytes);
  EXPECT_NEAR(together.peer_bytes, 300 * kGB, kBytes);
}

TEST(Simulator, AHolderGivesAtItsOwnRate) {
  const auto workload = of({100}, {Job(0, 1000).reads(0), Job(500, 10).reads(0)});
  const auto out = run(small(2, 1000, 2), workload, "blind");
  expect_job(out.jobs[1], 500, 50, 560);
  EXPECT_NEAR(out.jobs[1].peer_bytes, 100 * kGB, kBytes);
}

TEST(Simulator, JobsWithoutAnyDatasetNeverStall) {
  for (const auto* policy : {"blind", "prefer", "delay=60s", "atlas", "oracle"}) {
    const auto out = run(small(2), of({}, {Job(0, 10), Job(1, 10), Job(2, 10)}), policy);
    expect_job(out.jobs[2], 10, 0, 20);
  }
}

class Broken final : public Policy {
 public:
  explicit Broken(std::vector<std::uint32_t> nodes) : nodes_(std::move(nodes)) {}
  void schedule(Cluster& cluster) override {
    for (const auto job : cluster.queue()) cluster.start(job, nodes_);
  }

 private:
  std::vector<std::uint32_t> nodes_;
};

TEST(Simulator, APolicyThatGivesWhatThereIsNotIsAnError) {
  const auto workload = of({}, {Job(0, 10), Job(1, 10)});
  for (const auto& nodes : std::vector<std::vector<std::uint32_t>>{{0}, {0, 1}, {7}, {}}) {
    Broken policy(nodes);
    const auto site = small(2);
    EXPECT_EQ(Cluster(site, workload, policy).run().error().code, Code::internal);
  }
  Broken two({0, 0});
  const auto site = small(2);
  EXPECT_FALSE(Cluster(site, of({}, {Job(0, 10).on(2)}), two).run());
  const auto huge = of({}, {Job(0, 10).on(3)});
  EasyPolicy blind;
  EXPECT_EQ(Cluster(site, huge, blind).run().error().code, Code::out_of_range);
}

TEST(Flows, GetTheirFairShareAndWhatOthersCannotUse) {
  Flow a{{0}}, b{{0, 1}}, c{{0}};
  share({10, 2}, {&a, &b, &c});
  EXPECT_DOUBLE_EQ(a.rate, 4);
  EXPECT_DOUBLE_EQ(b.rate, 2);
  EXPECT_DOUBLE_EQ(c.rate, 4);
  a.weight = 3;
  share({10, 2}, {&a, &b, &c});
  EXPECT_DOUBLE_EQ(a.rate, 6);
  EXPECT_DOUBLE_EQ(b.rate, 2);
  EXPECT_DOUBLE_EQ(c.rate, 2);
}

Recipe some_jobs(std::uint64_t seed) {
  Recipe recipe;
  recipe.jobs = 200;
  recipe.datasets = 30;
  recipe.load = 1.2;
  recipe.seed = seed;
  return recipe;
}

/// Nobody runs on a CPU that somebody else has, and every byte that is read comes from somewhere.
void check(const Site& site, const Workload& workload, const Outcome& out) {
  double reads = 0, from = 0;
  for (std::size_t i = 0; i < workload.jobs.size(); ++i) {
    const auto& job = workload.jobs[i];
    const auto& result = out.jobs[i];
    ASSERT_EQ(result.nodes.size(), job.nodes);
    EXPECT_GE(result.start, job.submit);
    EXPECT_NEAR(result.end.count(), (result.start + result.stall + job.runtime).count(), kNearly);
    double size = 0;
    for (const auto dataset : job.datasets) size += static_cast<double>(workload.datasets[dataset].size.count);
    EXPECT_NEAR(result.hit_bytes + result.origin_bytes + result.peer_bytes, size * job.nodes, kBytes) << i;
    reads += result.origin_bytes + result.peer_bytes;
    // At the instant a job starts, those that run on its nodes fit there together.
    for (const auto node : result.nodes) {
      std::uint32_t cpus = 0;
      for (std::size_t j = 0; j < workload.jobs.size(); ++j) {
        const auto& other = out.jobs[j];
        const bool there = std::find(other.nodes.begin(), other.nodes.end(), node) != other.nodes.end();
        if (there && other.start <= result.start && other.end > result.start) cpus += workload.jobs[j].cpus;
      }
      EXPECT_LE(cpus, site.cpus) << "node " << node << " when job " << i << " starts";
    }
  }
  from = out.origin_bytes + out.peer_bytes - out.warm_bytes + out.shared_bytes;
  EXPECT_NEAR(reads, from, 1e-9 * from + kBytes);
  EXPECT_LE(out.wasted_bytes, out.warm_bytes + kBytes);
}

TEST(Simulator, ConservesCpusAndBytes) {
  for (const double peers : {0.0, 1.25}) {
    Site site;
    site.nodes = 12;
    site.cache = gb(800);
    site.origin_rate = gb(1);
    site.peer_rate = gb(peers);
    const auto workload = generate(some_jobs(7), site);
    for (const auto* policy : {"blind", "prefer", "delay=120s", "atlas", "atlas,evict=queue", "oracle"}) {
      SCOPED_TRACE(std::string(policy) + ", peers " + std::to_string(peers));
      check(site, workload, run(site, workload, policy));
    }
  }
}

TEST(Simulator, IsTheSameForTheSameSeedAndAnotherForAnother) {
  Site site;
  site.nodes = 12;
  site.origin_rate = gb(1);
  for (const auto* policy : {"blind", "delay=120s", "atlas", "oracle"}) {
    const auto text = [&](std::uint64_t seed) {
      const auto workload = generate(some_jobs(seed), site);
      return json_of({"w", policy, summarize(workload, run(site, workload, policy))}).dump();
    };
    EXPECT_EQ(text(3), text(3)) << policy;
    EXPECT_NE(text(3), text(4)) << policy;
  }
}

TEST(Generator, KeepsToItsRecipe) {
  Site site;
  auto recipe = some_jobs(1);
  recipe.jobs = 4000;
  recipe.datasets = 100;
  const auto workload = generate(recipe, site);
  double node_seconds = 0;
  std::vector<int> uses(100, 0);
  for (const auto& job : workload.jobs) {
    node_seconds += job.runtime.count() * job.nodes * job.cpus / site.cpus;
    EXPECT_GE(job.limit, job.runtime);
    for (const auto dataset : job.datasets) ++uses[dataset];
  }
  EXPECT_NEAR(node_seconds / (site.nodes * workload.jobs.back().submit.count()), recipe.load, 0.1);
  // 1/1 against 1/2^1.1: about twice as often.
  EXPECT_NEAR(static_cast<double>(uses[0]) / uses[1], std::pow(2, 1.1), 0.3);
  for (const auto& dataset : workload.datasets) {
    EXPECT_GE(dataset.size, gb(62));
    EXPECT_LE(dataset.size, gb(275));
  }
  EXPECT_EQ(reuse(generate(preset("none").value(), site)), 0) << "no reuse, but for nodes of one job";
}

TEST(Report, CountsAsOneWouldByHand) {
  const auto workload = of({100}, {Job(0, 100).reads(0), Job(0, 100), Job(50, 100)});
  const auto out = run(small(1), workload, "blind");  // 0-200 (100 of stall), 200-300, 300-400
  const auto s = summarize(workload, out);
  EXPECT_THAT(s.mean_wait, DoubleNear((0 + 200 + 250) / 3.0, kNearly));
  EXPECT_THAT(s.p95_wait, DoubleNear(250, kNearly));
  EXPECT_THAT(s.mean_stall, DoubleNear(100 / 3.0, kNearly));
  EXPECT_THAT(s.mean_turnaround, DoubleNear((200 + 300 + 350) / 3.0, kNearly));
  EXPECT_EQ(s.fairness, 1) << "one user";
  EXPECT_EQ(percentile({4, 1, 3, 2}, 0.5), 2);
  EXPECT_EQ(percentile({}, 0.5), 0);
  const std::vector<Row> rows{{"a<b", "blind", s}};
  EXPECT_THAT(table_of(rows).render({true, false}), HasSubstr("TURNAROUND"));
  EXPECT_THAT(plot(rows), HasSubstr("a&lt;b blind"));
}

}  // namespace
}  // namespace atlas::sim
