#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "controller/placement/placement.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const DatasetId kSpeech{"lustre", "speech"};
const DatasetId kNoise{"lustre", "noise"};

Bytes gib(std::uint64_t count) {
  return Bytes{count * kGiB.count};
}

/// A node with 4 CPUs, all free now, and 100G of room; the chained calls say what is different.
struct Node {
  NodeView view;
  explicit Node(const std::string& name) {
    view.name = name;
    view.usable = view.cache = true;
    view.state = "idle";
    view.cpus = 4;
    view.room = gib(100);
    view.ahead = {{0ms, 4}};
  }
  Node& free_in(milliseconds in) { return view.ahead = {{0ms, 0}, {in, 4}}, view.cpus_busy = 4, *this; }
  Node& holds(const DatasetId& id = kSpeech, std::uint64_t size = 10) {
    view.holdings[id] = {gib(size), true, false};
    return *this;
  }
  Node& part(std::uint64_t size) { return view.holdings[kSpeech] = {gib(size), false, false}, *this; }
  Node& no_agent() { return view.cache = false, *this; }
  Node& boots(milliseconds time) { return view.boot = time, *this; }
  Node& reads(std::uint32_t transfers) { return view.readers = transfers, *this; }
  Node& wanted(std::uint64_t size) { return view.wanted = gib(size), *this; }
};

/// The origin gives a transfer 100 MiB/s: 10G take 102.4 s. Nodes give each other nothing.
ClusterSnapshot cluster_of(const std::vector<Node>& nodes) {
  ClusterSnapshot out;
  for (const auto& node : nodes) out.nodes.push_back(node.view);
  out.cost = CostModel{};
  out.cost->origin_rate["lustre"] = Bytes{100 * kMiB.count};
  return out;
}

PlacementRequest asks(WarmMode warm = WarmMode::wait, std::uint32_t nodes = 1) {
  PlacementRequest request;
  request.datasets = {{kSpeech, gib(10)}};
  request.warm = warm;
  request.nodes = nodes;
  request.cpus = 4 * nodes;
  request.patience = 30min;
  return request;
}

milliseconds total(const Alternative& a) {
  return a.start + a.stall;
}

TEST(Cost, AWarmUpThatIsUnderWayIsJoined) {
  auto cluster = cluster_of({Node("n1"), Node("n2").reads(1), Node("n3")});
  cluster.nodes[1].holdings[kSpeech] = {Bytes{}, false, true, {}};
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n2")) << "its transfer does for both";
  cluster.nodes[1].holdings[kSpeech].left = 200s;
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n2")) << "who wants it sooner pays for what is left of it";
  cluster.nodes[1].holdings[kSpeech].left = 30s;
  const auto joined = place(cluster, asks());
  EXPECT_THAT(joined.nodes, ElementsAre("n2"));
  EXPECT_EQ(joined.alternatives[0].stall, 30s);
}

TEST(Cost, WhoIsBeforeItAtTheOriginMakesReadingTakeLonger) {
  auto cluster = cluster_of({Node("n1"), Node("n2").holds().free_in(110s)});
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n1"));
  cluster.cost->origin_line["lustre"] = {gib(10), Bytes{100 * kMiB.count}};
  const auto later = place(cluster, asks());
  EXPECT_THAT(later.nodes, ElementsAre("n2"));
  EXPECT_EQ(later.alternatives.back().stall, 204800ms);
  cluster.cost->origin_line["lustre"].rate = Bytes{1000 * kMiB.count};
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n1")) << "there is enough for both";
}

TEST(Cost, AHolderIsWaitedForIfThatTakesLessThanReading) {
  const auto soon = place(cluster_of({Node("n1"), Node("n2").holds().free_in(100s)}), asks());
  EXPECT_EQ(soon.action, Action::wait);
  EXPECT_THAT(soon.nodes, ElementsAre("n2"));
  EXPECT_THAT(soon.reason, HasSubstr("n2 holds the data (10G) and is free in 1m40s"));
  EXPECT_THAT(soon.reason, HasSubstr("takes less than starting in 0ms on n1 and reading for 1m43s"));
  const auto late = place(cluster_of({Node("n1"), Node("n2").holds().free_in(110s)}), asks());
  EXPECT_EQ(late.action, Action::warm);
  EXPECT_THAT(late.nodes, ElementsAre("n1"));
  EXPECT_THAT(late.reason, HasSubstr("n2, which holds it, is free in 1m50s"));
}

TEST(Cost, TheDecisionSaysWhatEachWouldHaveCost) {
  const auto decision = place(cluster_of({Node("n1"), Node("n2").holds().free_in(60s), Node("n3").part(3)}), asks());
  ASSERT_THAT(decision.alternatives, SizeIs(2));
  EXPECT_EQ(decision.alternatives[0].start, 60s);
  EXPECT_EQ(decision.alternatives[0].stall, 0s);
  EXPECT_EQ(decision.alternatives[1].action, Action::cold);
  EXPECT_THAT(decision.alternatives[1].nodes, ElementsAre("n3"));
  EXPECT_EQ(decision.alternatives[1].stall, 71680ms);
  EXPECT_LT(total(decision.alternatives[0]), total(decision.alternatives[1]));
}

TEST(Cost, CandidatesCarryStartAndStall) {
  const auto decision = place(cluster_of({Node("n1"), Node("n2").holds().free_in(40s)}), asks());
  ASSERT_THAT(decision.candidates, SizeIs(2));
  EXPECT_EQ(decision.candidates[0].node, "n2") << "what is chosen comes first";
  EXPECT_TRUE(decision.candidates[0].chosen);
  EXPECT_EQ(decision.candidates[0].start, 40s);
  EXPECT_EQ(decision.candidates[0].stall, 0s);
  EXPECT_EQ(decision.candidates[1].start, 0s);
  EXPECT_EQ(decision.candidates[1].stall, 102400ms);
  auto brief = asks();
  brief.explain = false;
  EXPECT_THAT(place(cluster_of({Node("n1")}), brief).candidates, IsEmpty());
}

TEST(Cost, WhatIsBroughtAheadCostsOnlyWhatIsNotThereInTime) {
  const auto cluster = cluster_of({Node("n1").free_in(90s), Node("n2").holds().free_in(110s)});
  const auto ahead = place(cluster, asks());
  EXPECT_THAT(ahead.nodes, ElementsAre("n1")) << "there at 102 s";
  EXPECT_EQ(ahead.alternatives[0].stall, 12400ms);
  auto none = asks(WarmMode::none);
  none.locality = Locality{0.5, 60s};
  EXPECT_THAT(place(cluster, none).nodes, ElementsAre("n2")) << "nothing is brought ahead: 192 s";
}

TEST(Cost, NobodyIsMadeToStartLaterThanHisPatience) {
  const auto cluster = cluster_of({Node("n1"), Node("n2").holds().free_in(50s)});
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n2"));
  auto request = asks();
  request.patience = 49s;
  EXPECT_THAT(place(cluster, request).nodes, ElementsAre("n1"));
  request = asks();
  request.may_wait = false;
  EXPECT_THAT(place(cluster, request).nodes, ElementsAre("n1")) << "past the deadline";
  EXPECT_THAT(place(cluster, asks(WarmMode::overlap)).nodes, ElementsAre("n1")) << "it asked not to wait";
  const auto none = place(cluster, asks(WarmMode::none));
  EXPECT_EQ(none.action, Action::cold);
  EXPECT_THAT(none.reason, HasSubstr("n2 holds the data but would be free only in 50s, and it does not wait"));
}

TEST(Cost, SetsMixHoldersAndOthers) {
  // Two of three: n1 and n3 hold; n3 is busy longer than half of the data takes.
  const auto cluster = cluster_of({Node("n1").holds(), Node("n2").part(7), Node("n3").holds().free_in(60s)});
  const auto mixed = place(cluster, asks(WarmMode::wait, 2));
  EXPECT_EQ(mixed.action, Action::warm);
  EXPECT_THAT(mixed.nodes, ElementsAre("n1", "n2"));
  EXPECT_EQ(mixed.alternatives[0].stall, 30720ms);
  const auto three = place(cluster, asks(WarmMode::wait, 3));
  EXPECT_EQ(three.alternatives[0].start, 60s);
  EXPECT_EQ(three.alternatives[0].stall, 0s) << "what n2 lacks is brought in 31 s";
}

TEST(Cost, DatasetsWeighByTheirBytes) {
  auto request = asks();
  request.datasets.push_back({kNoise, gib(1)});
  const auto decision = place(cluster_of({Node("n1").holds(kNoise, 1), Node("n2").holds()}), request);
  EXPECT_THAT(decision.nodes, ElementsAre("n2"));
  EXPECT_EQ(decision.alternatives[0].stall, 10240ms);
}

TEST(Cost, OtherNodesAreAskedWhereTheyGiveMoreThanTheOrigin) {
  auto cluster = cluster_of({Node("n1"), Node("n2").holds().free_in(60s)});
  cluster.cost->peer_rate = kGiB;
  const auto decision = place(cluster, asks());
  EXPECT_THAT(decision.nodes, ElementsAre("n1"));
  EXPECT_EQ(decision.alternatives[0].stall, 10s);
}

TEST(Cost, ReadersAreSpreadOverNodes) {
  auto cluster = cluster_of({Node("n1").reads(1), Node("n2")});
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n2"));
  // Where the node is the bottleneck the other reader takes half of it.
  cluster.nodes[1].ahead = {{0ms, 0}, {30s, 4}};
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n1"));
  cluster.cost->node_rate = Bytes{100 * kMiB.count};
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n2"));
}

TEST(Cost, AJobWithoutDatasetsLeavesAloneWhatOthersWaitFor) {
  auto request = asks();
  request.datasets.clear();
  const auto decision =
      place(cluster_of({Node("n1").wanted(10), Node("n2").wanted(2), Node("n3").free_in(5s)}), request);
  EXPECT_EQ(decision.action, Action::go);
  EXPECT_THAT(decision.nodes, ElementsAre("n2")) << "and does not wait for n3";
}

TEST(Cost, SleepingNodesAreCostedWithTheirBoot) {
  EXPECT_THAT(place(cluster_of({Node("n1"), Node("n2").holds().boots(90s)}), asks()).nodes, ElementsAre("n2"));
  EXPECT_THAT(place(cluster_of({Node("n1"), Node("n2").holds().boots(3min)}), asks()).nodes, ElementsAre("n1"));
}

TEST(Cost, NothingStartsBeforeSlurmSaysSo) {
  auto request = asks();
  request.slurm_start = 5min;
  request.slurm_nodes = {"n3"};
  auto n3 = Node("n3");
  n3.view.ahead.clear();
  n3.view.cpus_busy = 4;
  const auto decision = place(cluster_of({Node("n1").free_in(60s), Node("n2").holds().free_in(6min), n3}), request);
  EXPECT_EQ(decision.alternatives[0].start, 5min);
  EXPECT_EQ(decision.alternatives[0].stall, 0s);
  for (const auto& candidate : decision.candidates) EXPECT_GE(candidate.start, 5min) << candidate.node;
}

TEST(Cost, NodesMustStayFreeAsLongAsTheJobMayRun) {
  auto node = Node("n1").holds();
  node.view.ahead = {{0ms, 4}, {60s, 0}, {10min, 4}};
  auto request = asks();
  request.duration = 60s;
  EXPECT_EQ(place(cluster_of({node}), request).alternatives[0].start, 0s);
  request.duration = 61s;
  EXPECT_EQ(place(cluster_of({node}), request).alternatives[0].start, 10min);
}

TEST(Cost, WhatCannotCacheReadsTheOriginWhenTheJobRuns) {
  const auto cluster = cluster_of({Node("n1").no_agent(), Node("n2").part(1).free_in(90s)});
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n2")) << "warmed meanwhile: 92 s against 102 s";
  const auto none = place(cluster_of({Node("n1").no_agent()}), asks());
  EXPECT_EQ(none.action, Action::cold);
  EXPECT_THAT(none.nodes, IsEmpty());
}

TEST(Cost, AStallMayWeighMoreThanWaiting) {
  auto cluster = cluster_of({Node("n1"), Node("n2").holds().free_in(150s)});
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n1"));
  cluster.cost->stall = 2;
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n2"));
  cluster.cost->stall = 1;
  cluster.cost->transfer = 1;
  EXPECT_THAT(place(cluster, asks()).nodes, ElementsAre("n2"));
}

TEST(Cost, WithoutWhatItNeedsPlacementIsAsItWas) {
  auto cluster = cluster_of({Node("n1"), Node("n2").holds().free_in(300s)});
  const auto alternatives = [&](const PlacementRequest& request) {
    return place(cluster, request).alternatives.size();
  };
  EXPECT_GT(alternatives(asks()), 0U);
  auto array = asks();
  array.tasks = 5;
  EXPECT_EQ(alternatives(array), 0U);
  auto unknown = asks();
  unknown.datasets[0].size = std::nullopt;
  EXPECT_EQ(alternatives(unknown), 0U);
  cluster.cost->origin_rate.clear();
  EXPECT_EQ(alternatives(asks()), 0U) << "no rate has been measured yet";
  EXPECT_EQ(place(cluster, asks()).action, Action::wait);
}

/// Random clusters and requests, against all sets of nodes there are.
TEST(Cost, IsTheLeastOfAllSetsAndNeverBreaksTheUsersConstraints) {
  std::mt19937 random(5);  // NOLINT: the same every time
  const auto below = [&](std::uint32_t bound) { return static_cast<std::uint32_t>(random() % bound); };
  for (int round = 0; round < 3000; ++round) {
    std::vector<Node> nodes;
    const auto count = 1 + below(6);
    for (std::uint32_t i = 0; i < count; ++i) {
      Node node("n" + std::to_string(i));
      if (below(2) == 0) node.free_in(std::chrono::seconds(below(200)));
      if (below(3) == 0)
        node.holds();
      else if (below(3) == 0)
        node.part(below(10));
      if (below(8) == 0) node.no_agent();
      if (below(8) == 0) node.view.usable = false;
      nodes.push_back(node);
    }
    auto request = asks(below(2) == 0 ? WarmMode::wait : WarmMode::overlap, 1 + below(3));
    if (below(4) == 0) request.required = {"n" + std::to_string(below(count))};
    if (below(4) == 0) request.excluded = {"n" + std::to_string(below(count))};
    if (below(4) == 0) request.partition_nodes = {"n0", "n1", "n2"};
    request.patience = std::chrono::seconds(below(300));
    const auto decision = place(cluster_of(nodes), request);
    const auto may = [&](const NodeView& view) {
      const auto in = [&](const auto& list) { return std::find(list.begin(), list.end(), view.name) != list.end(); };
      const bool others = request.required.size() < request.nodes || in(request.required);
      return view.usable && others && !in(request.excluded) &&
             (request.partition_nodes.empty() || in(request.partition_nodes));
    };
    for (const auto& name : decision.nodes) {
      const auto at =
          std::find_if(nodes.begin(), nodes.end(), [&](const Node& node) { return node.view.name == name; });
      ASSERT_NE(at, nodes.end());
      EXPECT_TRUE(may(at->view)) << name;
    }
    EXPECT_LE(decision.nodes.size(), request.nodes);
    // Every set, by its bits.
    double least = 1e300, soonest = 1e300;
    std::vector<std::pair<double, double>> sets;  // start, cost
    for (std::uint32_t bits = 0; bits < (1U << count); ++bits) {
      if (static_cast<std::uint32_t>(__builtin_popcount(bits)) != request.nodes) continue;
      double start = 0, stall = 0;
      bool fits = true;
      std::size_t required = 0;
      for (std::uint32_t i = 0; i < count; ++i) {
        if ((bits >> i & 1U) == 0) continue;
        const auto& view = nodes[i].view;
        fits = fits && may(view);
        required += !request.required.empty() && request.required[0] == view.name;
        start = std::max(start, std::chrono::duration<double>(view.ahead.back().in).count());
      }
      for (std::uint32_t i = 0; i < count; ++i) {
        if ((bits >> i & 1U) == 0) continue;
        const auto& view = nodes[i].view;
        const auto at = view.holdings.find(kSpeech);
        const double has = view.cache && at != view.holdings.end() ? static_cast<double>(at->second.resident.count) : 0;
        const double reads = (static_cast<double>(gib(10).count) - has) / static_cast<double>(100 * kMiB.count);
        stall = std::max(stall, view.cache ? std::max(0.0, reads - start) : reads);
      }
      if (!fits || required != request.required.size()) continue;
      soonest = std::min(soonest, start);
      sets.emplace_back(start, start + stall);
    }
    const double patience =
        request.warm == WarmMode::wait ? std::chrono::duration<double>(request.patience).count() : 0;
    for (const auto& [start, cost] : sets)
      if (start <= soonest + patience) least = std::min(least, cost);
    if (sets.empty()) {
      EXPECT_TRUE(decision.alternatives.empty());
      continue;
    }
    ASSERT_FALSE(decision.alternatives.empty()) << round;
    EXPECT_NEAR(decision.alternatives[0].cost, least, 1e-6) << "round " << round << ": " << decision.reason;
  }
}

}  // namespace
}  // namespace atlas
