// Nodes that would do equally well: those that hang on one switch.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/placement/placement.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

const DatasetId kSpeech{"lustre", "speech"};

/// Racks of nodes with 4 CPUs each, named by letter and place: "b2" is the second of the second rack. Racks a and b,
/// and c and d, hang on a switch each, and these on another.
class SwitchesTest : public ::testing::Test {
 protected:
  SwitchesTest() {
    auto switches = std::make_shared<SwitchesOfNodes>();
    for (std::uint32_t rack = 0; rack < 4; ++rack)
      for (int place = 1; place <= 3; ++place) {
        NodeView node;
        node.name = std::string(1, static_cast<char>('a' + rack)) + std::to_string(place);
        node.usable = node.cache = true;
        node.cpus = 4;
        node.room = Bytes{100 * kGiB.count};
        node.ahead = {{0ms, 4}};
        cluster.nodes.push_back(node);
        switches->push_back({{0, rack}, {1, 10 + rack / 2}, {2, 20}});
      }
    cluster.switches = switches;
    measured();
    request.datasets = {{kSpeech, Bytes{10 * kGiB.count}}};
    request.warm = WarmMode::wait;
    request.patience = 30min;
  }
  void measured() {
    cluster.cost = CostModel{};
    cluster.cost->origin_rate["lustre"] = Bytes{100 * kMiB.count};
  }
  NodeView& node(const std::string& name) {
    return *std::find_if(cluster.nodes.begin(), cluster.nodes.end(), [&](const auto& n) { return n.name == name; });
  }
  void busy(const std::string& name) {
    node(name).cpus_busy = 4;
    node(name).ahead = {{0ms, 0}, {1h, 4}};
  }
  void holds(const std::string& name) { node(name).holdings[kSpeech] = {Bytes{10 * kGiB.count}, true}; }
  std::vector<std::string> chosen(std::uint32_t nodes) {
    request.nodes = nodes;
    request.cpus = 4 * nodes;
    return place(cluster, request).nodes;
  }

  ClusterSnapshot cluster;
  PlacementRequest request;
};

TEST_F(SwitchesTest, NodesOfOneRackAreChosenWhereOthersWouldDoAsWell) {
  for (const auto* name : {"a1", "b1", "d1"}) busy(name);
  EXPECT_THAT(chosen(3), UnorderedElementsAre("c1", "c2", "c3"));
  cluster.cost.reset();
  EXPECT_THAT(chosen(3), UnorderedElementsAre("c1", "c2", "c3")) << "also where rates are not known";
}

TEST_F(SwitchesTest, TheRackThatIsFullerIsTakenAndTheOtherLeftForLargerJobs) {
  busy("c2");
  EXPECT_THAT(chosen(2), UnorderedElementsAre("c1", "c3"));
}

TEST_F(SwitchesTest, WhatNoRackHasRoomForGoesBelowTheNextSwitch) {
  for (const auto* name : {"a1", "c1"}) busy(name);
  EXPECT_THAT(chosen(5), ::testing::AnyOf(UnorderedElementsAre("a2", "a3", "b1", "b2", "b3"),
                                          UnorderedElementsAre("c2", "c3", "d1", "d2", "d3")));
}

TEST_F(SwitchesTest, DataComesBeforeSwitches) {
  holds("a1");
  holds("d3");
  EXPECT_THAT(chosen(2), UnorderedElementsAre("a1", "d3"));
  EXPECT_THAT(chosen(3), ::testing::IsSupersetOf({"a1", "d3"}));
}

TEST_F(SwitchesTest, TheRestJoinsTheOneThatHoldsTheData) {
  holds("d3");
  holds("d1");
  EXPECT_THAT(chosen(3), UnorderedElementsAre("d1", "d2", "d3"));
}

TEST_F(SwitchesTest, OfManyHoldersThoseOfOneRackAreChosen) {
  for (const auto* name : {"a1", "b1", "c2", "c3"}) holds(name);
  EXPECT_THAT(chosen(2), UnorderedElementsAre("c2", "c3"));
  cluster.cost.reset();
  EXPECT_THAT(chosen(2), UnorderedElementsAre("c2", "c3"));
}

TEST_F(SwitchesTest, TheUsersOwnNodesStayAndTheRestJoinsThem) {
  request.required = {"b2"};
  EXPECT_THAT(chosen(3), UnorderedElementsAre("b1", "b2", "b3"));
}

TEST_F(SwitchesTest, ANodeThatIsNotFreeIsNotWaitedForBecauseOfItsSwitch) {
  for (const auto* name : {"a1", "b1", "c1", "d1"}) busy(name);
  EXPECT_EQ(chosen(3).size(), 3U);
  EXPECT_EQ(place(cluster, request).action, Action::warm);
  EXPECT_EQ(place(cluster, request).alternatives.at(0).start, 0ms);
}

TEST_F(SwitchesTest, WithoutATopologyNothingChanges) {
  cluster.switches.reset();
  busy("a1");
  EXPECT_THAT(chosen(3), ElementsAre("a2", "a3", "b1"));
}

}  // namespace
}  // namespace atlas
