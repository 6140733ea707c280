#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/staging_world.h"

namespace atlas::test {

inline constexpr const char* kAlone = "v1,d=/lustre/speech";
inline constexpr const char* kWarm = "v1,w=wait,d=/lustre/speech";

class StagingTrouble : public ::testing::Test {
 protected:
  /// A job whose warm-up is under way.
  FakeAgents::Warm& warming(std::uint32_t id) {
    world.submit(id, kWarm);
    world.data_in(id);
    EXPECT_FALSE(world.agents.open().empty());
    return *world.agents.open().at(0);
  }
  /// A job that was released to the node where its data is, and is still in the queue.
  std::string released(std::uint32_t id) {
    auto& warm = warming(id);
    FakeAgents::finish(warm, world.generation);
    world.pass(1s);
    EXPECT_EQ(world.slurm.jobs[id].req_nodes, warm.node);
    return warm.node;
  }
  void drain(const std::string& node) {
    world.slurm.nodes[node].usable = false;
    world.slurm.nodes[node].state = "drained";
  }
  void expect_nothing_left() {
    world.pass(10s);
    EXPECT_TRUE(world.staging->leases().idle());
    EXPECT_TRUE(world.staging->jobs().empty());
    EXPECT_THAT(world.agents.plans, ::testing::IsEmpty());
    EXPECT_THAT(world.catalog->leases().value(), ::testing::IsEmpty());
    EXPECT_THAT(world.catalog->open_jobs().value(), ::testing::IsEmpty());
  }

  StagingWorld world;
};

}  // namespace atlas::test
