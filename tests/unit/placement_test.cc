#include "controller/placement/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

namespace atlas {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

const DatasetId kSpeech{"lustre", "speech"};
const DatasetId kNoise{"ceph", "noise"};

/// A node with 4 CPUs and 100G of room; the chained calls say what is different.
struct Node {
  NodeView view;
  explicit Node(const std::string& name) {
    view.name = name;
    view.usable = true;
    view.state = "idle";
    view.cache = true;
    view.cpus = 4;
    view.room = Bytes{100 * kGiB.count};
  }
  Node& busy(std::uint32_t cpus = 4) { return view.cpus_busy = cpus, *this; }
  Node& promised(std::uint32_t cpus) { return view.cpus_promised = cpus, *this; }
  Node& down() { return view.usable = false, view.state = "drained", *this; }
  Node& no_agent() { return view.cache = false, *this; }
  Node& room(std::uint64_t gib) { return view.room = Bytes{gib * kGiB.count}, *this; }
  Node& has(const DatasetId& id, std::uint64_t gib, bool complete) {
    view.holdings[id] = {Bytes{gib * kGiB.count}, complete, false};
    return *this;
  }
  Node& holds(const DatasetId& id = kSpeech) { return has(id, 10, true); }
  Node& warms(std::uint64_t gib = 1) {
    view.holdings[kSpeech] = {Bytes{gib * kGiB.count}, false, true};
    return *this;
  }
};

PlacementRequest asks(WarmMode warm = WarmMode::none, std::uint32_t nodes = 1) {
  PlacementRequest request;
  request.datasets = {{kSpeech, Bytes{10 * kGiB.count}}};
  request.warm = warm;
  request.nodes = nodes;
  request.cpus = nodes;
  return request;
}
template <class Change>
PlacementRequest with(PlacementRequest request, Change&& change) {
  change(request);
  return request;
}

struct Case {
  std::string name;
  std::vector<Node> nodes;
  PlacementRequest request;
  Action action;
  std::vector<std::string> chosen;
  std::string reason;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

std::vector<Case> cases() {
  const auto wait = WarmMode::wait;
  const auto overlap = WarmMode::overlap;
  const auto none = WarmMode::none;
  return {
      {"free holder",
       {Node("n1"), Node("n2").holds()},
       asks(),
       Action::go,
       {"n2"},
       "n2 holds the data (10G) and is free"},
      {"free holder, warm", {Node("n1"), Node("n2").holds()}, asks(wait), Action::go, {"n2"}, "is free"},
      {"no holder, dataset alone", {Node("n1"), Node("n2")}, asks(), Action::cold, {}, "no node holds the data yet"},
      {"busy holder, dataset alone does not wait",
       {Node("n1"), Node("n2").holds().busy()},
       asks(),
       Action::cold,
       {},
       "n2 holds the data but is busy, and it does not wait"},
      {"busy holder, warm waits",
       {Node("n1"), Node("n2").holds().busy()},
       asks(wait),
       Action::wait,
       {"n2"},
       "waiting for it"},
      {"past the deadline nothing waits",
       {Node("n1"), Node("n2").holds().busy()},
       with(asks(wait), [](auto& r) { r.may_wait = false; }),
       Action::cold,
       {},
       "does not wait any longer"},
      {"most resident bytes win",
       {Node("n1").has(kSpeech, 1, false), Node("n2").has(kSpeech, 6, false), Node("n3")},
       asks(wait),
       Action::warm,
       {"n2"},
       "has the most of the data (6G)"},
      {"then a free node",
       {Node("n1").busy(), Node("n2")},
       asks(wait),
       Action::warm,
       {"n2"},
       "no node has the data yet"},
      {"then the most room",
       {Node("n1").room(20), Node("n2").room(50)},
       asks(wait),
       Action::warm,
       {"n2"},
       "warming n2"},
      {"then the least load", {Node("n1").busy(2), Node("n2").busy(1)}, asks(wait), Action::warm, {"n2"}, "warming n2"},
      {"a warm-up under way is joined",
       {Node("n1"), Node("n2").warms()},
       asks(wait),
       Action::warm,
       {"n2"},
       "joins the warm-up on n2"},
      {"a crowded holder is relieved by a free node",
       {Node("n1"), Node("n2").holds().busy().promised(4)},
       asks(wait),
       Action::warm,
       {"n1"},
       "warming n1"},
      {"a crowded holder is waited for when nothing else is free",
       {Node("n1").busy(), Node("n2").holds().busy().promised(4)},
       asks(wait),
       Action::wait,
       {"n2"},
       "waiting"},
      {"a promised node is not free", {Node("n1").holds().promised(4), Node("n2")}, asks(), Action::cold, {}, "busy"},
      {"too few free CPUs is busy",
       {Node("n1").holds().busy(2)},
       with(asks(), [](auto& r) { r.cpus = 3; }),
       Action::cold,
       {},
       "busy"},
      {"exclusive needs an empty node",
       {Node("n1").holds().busy(1)},
       with(asks(wait), [](auto& r) { r.exclusive = true; }),
       Action::wait,
       {"n1"},
       "busy"},
      {"a drained holder does not count",
       {Node("n1"), Node("n2").holds().down()},
       asks(wait),
       Action::warm,
       {"n1"},
       "warming n1"},
      {"a holder without agent does not count",
       {Node("n1"), Node("n2").holds().no_agent()},
       asks(wait),
       Action::warm,
       {"n1"},
       "warming n1"},
      {"no agent anywhere",
       {Node("n1").no_agent()},
       asks(wait),
       Action::cold,
       {},
       "no node that could run the job has a cache agent"},
      {"no usable node", {Node("n1").down()}, asks(wait), Action::cold, {}, "no node can run the job"},
      {"outside the partition",
       {Node("n1"), Node("n2").holds()},
       with(asks(), [](auto& r) { r.partition = "gpu", r.partition_nodes = {"n1"}; }),
       Action::cold,
       {},
       "no node holds"},
      {"-x",
       {Node("n1"), Node("n2").holds()},
       with(asks(wait), [](auto& r) { r.excluded = {"n2"}; }),
       Action::warm,
       {"n1"},
       ""},
      {"-w",
       {Node("n1"), Node("n2").holds()},
       with(asks(wait), [](auto& r) { r.required = {"n1"}; }),
       Action::warm,
       {"n1"},
       ""},
      {"-w of one node of two",
       {Node("n1"), Node("n2").holds(), Node("n3")},
       with(asks(wait, 2), [](auto& r) { r.required = {"n3"}; }),
       Action::warm,
       {"n3", "n2"},
       ""},
      {"no room for the data",
       {Node("n1").room(5), Node("n2").room(7)},
       asks(wait),
       Action::cold,
       {},
       "no node has room for 10G: the most is 7G on n2"},
      {"what is resident needs no room",
       {Node("n1").room(5).has(kSpeech, 6, false)},
       asks(wait),
       Action::warm,
       {"n1"},
       ""},
      {"room for --cache is what counts",
       {Node("n1").room(15)},
       with(asks(wait), [](auto& r) { r.cache = Bytes{20 * kGiB.count}; }),
       Action::cold,
       {},
       "no node has room for 20G"},
      {"--cache smaller than the data",
       {Node("n1")},
       with(asks(wait), [](auto& r) { r.cache = kGiB; }),
       Action::cold,
       {},
       "--cache 1G is smaller than the data (10G)"},
      {"unknown size is warmed and seen then",
       {Node("n1")},
       with(asks(wait), [](auto& r) { r.datasets[0].size = std::nullopt; }),
       Action::warm,
       {"n1"},
       ""},
      {"a failed node is left out",
       {Node("n1"), Node("n2")},
       with(asks(wait),
            [](auto& r) {
              r.failed = {{"n1", "disk full"}};
            }),
       Action::warm,
       {"n2"},
       ""},
      {"all nodes failed",
       {Node("n1")},
       with(asks(wait),
            [](auto& r) {
              r.failed = {{"n1", "disk full"}};
            }),
       Action::cold,
       {},
       "n1: disk full"},
      {"overlap goes to free nodes",
       {Node("n1").busy(), Node("n2")},
       asks(overlap),
       Action::warm,
       {"n2"},
       "while the job starts"},
      {"overlap does not wait",
       {Node("n1").busy()},
       asks(overlap),
       Action::cold,
       {},
       "the cache fills where it starts"},
      {"overlap prefers a free holder", {Node("n1"), Node("n2").holds()}, asks(overlap), Action::go, {"n2"}, ""},
      {"two nodes, two free holders",
       {Node("n1"), Node("n2").holds(), Node("n3").holds()},
       asks(none, 2),
       Action::go,
       {"n2", "n3"},
       "n2, n3 hold the data (10G) and are free"},
      {"two nodes, one free holder, no wait: a subset",
       {Node("n1"), Node("n2").holds()},
       asks(none, 2),
       Action::go,
       {"n2"},
       "the other 1 of 2 nodes may be any"},
      {"two nodes, one holder: the other is warmed",
       {Node("n1"), Node("n2").holds()},
       asks(wait, 2),
       Action::warm,
       {"n2", "n1"},
       ""},
      {"two nodes, one can cache",
       {Node("n1"), Node("n2").room(1)},
       asks(wait, 2),
       Action::warm,
       {"n1"},
       "only 1 of 2 nodes can cache it"},
      {"two datasets: all of them or not a holder",
       {Node("n1").holds(), Node("n2").holds().has(kNoise, 1, true)},
       with(asks(wait),
            [](auto& r) {
              r.datasets.push_back({kNoise, kGiB});
            }),
       Action::go,
       {"n2"},
       ""},
      {"locality waits for a busy node with the share",
       {Node("n1"), Node("n2").has(kSpeech, 9, false).busy()},
       with(asks(),
            [](auto& r) {
              r.locality = Locality{0.9, 60s};
            }),
       Action::wait,
       {"n2"},
       "--locality"},
      {"locality of a share nobody has does not wait",
       {Node("n1"), Node("n2").has(kSpeech, 8, false).busy()},
       with(asks(),
            [](auto& r) {
              r.locality = Locality{0.9, 60s};
            }),
       Action::cold,
       {},
       ""},
      {"locality without a wait does not wait",
       {Node("n1"), Node("n2").holds().busy()},
       with(asks(),
            [](auto& r) {
              r.locality = Locality{0.9, 0s};
            }),
       Action::cold,
       {},
       ""},
  };
}

class Placement : public ::testing::TestWithParam<Case> {};

TEST_P(Placement, Decides) {
  const auto& c = GetParam();
  ClusterSnapshot cluster;
  for (const auto& node : c.nodes) cluster.nodes.push_back(node.view);
  const auto decision = place(cluster, c.request);
  EXPECT_EQ(decision.action, c.action) << decision.reason;
  EXPECT_EQ(decision.nodes, c.chosen) << decision.reason;
  EXPECT_THAT(decision.reason, HasSubstr(c.reason));
  EXPECT_FALSE(decision.reason.empty());
  EXPECT_LE(decision.nodes.size(), std::max<std::size_t>(c.request.nodes, c.request.required.size()));
  EXPECT_EQ(decision.candidates.size(), c.nodes.size());
  for (const auto& candidate : decision.candidates) {
    EXPECT_FALSE(candidate.note.empty()) << candidate.node;
    EXPECT_EQ(candidate.chosen,
              std::find(decision.nodes.begin(), decision.nodes.end(), candidate.node) != decision.nodes.end());
  }
}

INSTANTIATE_TEST_SUITE_P(Table, Placement, ::testing::ValuesIn(cases()), [](const auto& c) {
  std::string name;
  for (const char letter : c.param.name) name += std::isalnum(static_cast<unsigned char>(letter)) ? letter : '_';
  return name;
});

TEST(PlacementDecision, SaysWhenEveryNodeHoldsTheData) {
  ClusterSnapshot cluster{{Node("n1").holds().view, Node("n2").holds().view, Node("n3").down().view}};
  EXPECT_TRUE(place(cluster, asks()).all_hold);
  cluster.nodes.push_back(Node("n4").view);
  EXPECT_FALSE(place(cluster, asks()).all_hold);
}

TEST(PlacementDecision, AnArrayIsWarmedOnAsManyFreeNodesAsItsTasksFill) {
  const auto array_of = [](std::uint32_t tasks) {
    return with(asks(WarmMode::wait), [tasks](PlacementRequest& r) { r.tasks = tasks; });
  };
  ClusterSnapshot cluster;
  for (const auto& node : {Node("n1").holds(), Node("n2"), Node("n3"), Node("n4").busy(), Node("n5").down()})
    cluster.nodes.push_back(node.view);
  EXPECT_EQ(place(cluster, array_of(4)).action, Action::go) << "all of it fits on the holder";
  const auto six = place(cluster, array_of(6));
  EXPECT_EQ(six.action, Action::warm);
  EXPECT_THAT(six.nodes, ElementsAre("n1", "n2"));
  EXPECT_THAT(place(cluster, array_of(200)).nodes, ElementsAre("n1", "n2", "n3")) << "not where it cannot start";
  cluster.nodes[0].cpus_busy = 4;
  EXPECT_THAT(place(cluster, array_of(200)).nodes, ElementsAre("n1", "n2", "n3")) << "nor only on a busy holder";
}

TEST(PlacementDecision, IsTheSameForAnyOrderOfTheNodes) {
  std::vector<Node> nodes = {Node("n1").has(kSpeech, 2, false), Node("n2").busy(), Node("n3").room(50), Node("n4")};
  ClusterSnapshot cluster;
  for (const auto& node : nodes) cluster.nodes.push_back(node.view);
  const auto first = place(cluster, asks(WarmMode::wait, 2)).nodes;
  std::sort(cluster.nodes.begin(), cluster.nodes.end(), [](auto& a, auto& b) { return a.name > b.name; });
  EXPECT_EQ(place(cluster, asks(WarmMode::wait, 2)).nodes, first);
}

TEST(Placement, WhatDoesNotFitOneNodeTheJobsNodesDivide) {
  const std::vector<Node> nodes{Node("n1").room(6), Node("n2").room(6), Node("n3").room(4)};
  ClusterSnapshot cluster;
  for (const auto& node : nodes) cluster.nodes.push_back(node.view);
  const auto two = place(cluster, asks(WarmMode::wait, 2));  // of 10G
  EXPECT_EQ(two.action, Action::warm);
  EXPECT_THAT(two.nodes, UnorderedElementsAre("n1", "n2"));
  EXPECT_THAT(two.reason, HasSubstr("about 5G of 10G"));
  EXPECT_EQ(place(cluster, asks(WarmMode::wait, 1)).action, Action::cold) << "one has nobody to divide it with";
  const auto off = with(asks(WarmMode::wait, 2), [](PlacementRequest& r) { r.divide = false; });
  EXPECT_EQ(place(cluster, off).action, Action::cold);
  const auto cache = [&](std::uint64_t gib) {
    return place(cluster,
                 with(asks(WarmMode::wait, 2), [&](PlacementRequest& r) { r.cache = Bytes{gib * kGiB.count}; }));
  };
  EXPECT_EQ(cache(6).action, Action::warm) << "--cache is less than the data, and enough for a share";
  EXPECT_EQ(cache(4).action, Action::cold);
  EXPECT_THAT(cache(4).reason, HasSubstr("each node's share"));
}

}  // namespace
}  // namespace atlas
