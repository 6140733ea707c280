// Which nodes may copy a generation from each other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controller/staging/peers.h"
#include "tests/support/staging_world.h"

namespace atlas::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class StagingPeers : public ::testing::Test {
 protected:
  void warm(const std::string& node) {
    const WarmOrder order{world.speech, {1001, 1001, {}}, {}, {}, false};
    static_cast<void>(world.staging->warmups().want(node, order, {{}, [](const Result<Generation>&) {}}));
    world.pass(0ms);
  }
  [[nodiscard]] std::vector<std::string> peers(const GenerationId& generation) {
    std::vector<std::string> out;
    for (const auto& peer : peers_of(world.speech, generation, *world.registry, world.staging->warmups())) {
      EXPECT_EQ(peer.address, world.registry->find(peer.node)->address);
      out.push_back(peer.node + (peer.role == PeerRole::holds         ? " holds"
                                 : peer.role == PeerRole::fills_first ? " first"
                                                                      : " later"));
    }
    return out;
  }
  void found(const std::string& node, const GenerationId& generation) {
    WarmProgress progress;
    progress.phase = WarmPhase::fetching;
    progress.generation.id = generation;
    world.agents.open(node).at(0)->progress(progress);
    world.pass(0ms);
  }

  StagingWorld world{4};
};

TEST_F(StagingPeers, ThoseThatBeginTogetherComeFirstAndWhoComesLaterIsToldApart) {
  EXPECT_THAT(peers(world.generation.id), IsEmpty());
  warm("n1");
  warm("n2");
  world.pass(3s);
  warm("n3");
  EXPECT_THAT(peers(world.generation.id), ElementsAre("n1 first", "n2 first", "n3 later"));
  FakeAgents::finish(*world.agents.open("n2").at(0), world.generation);
  world.pass(0ms);
  EXPECT_THAT(peers(world.generation.id), ElementsAre("n1 first", "n2 holds", "n3 later"));
  FakeAgents::fail_warm(*world.agents.open("n1").at(0), Code::internal, "its disk broke");
  world.pass(0ms);
  EXPECT_THAT(peers(world.generation.id), ElementsAre("n2 holds", "n3 first")) << "the others move up";
}

TEST_F(StagingPeers, OfASmallDatasetOnlyWhatBeginsInTheSameMomentIsDivided) {
  constexpr Bytes kChunk{32 * kMiB.count};
  const auto of = [](std::uint64_t bytes, std::uint64_t files) {
    Generation generation;
    generation.bytes = Bytes{bytes};
    generation.files = files;
    return together(generation, 48, kChunk);
  };
  EXPECT_EQ(of(183 * kGiB.count, 500'000), kTogether);
  EXPECT_EQ(of(125 * kGiB.count, 1), kTogether);
  EXPECT_EQ(of(8 * kGiB.count, 1), kSameMoment) << "half of it is begun at once";
  EXPECT_EQ(of(4'000'000, 100), kSameMoment);
  EXPECT_EQ(of(0, 0), kTogether);
  warm("n1");
  world.pass(100ms);
  warm("n2");
  const auto peers =
      peers_of(world.speech, world.generation.id, *world.registry, world.staging->warmups(), kSameMoment);
  ASSERT_EQ(peers.size(), 2U);
  EXPECT_EQ(peers[0].role, PeerRole::fills_first);
  EXPECT_EQ(peers[1].role, PeerRole::fills_later);
}

TEST_F(StagingPeers, AnotherGenerationAndALostNodeDoNotCount) {
  const auto other = GenerationId::of("fedcba9876543210");
  warm("n1");
  warm("n2");
  found("n1", other);
  EXPECT_THAT(peers(world.generation.id), ElementsAre("n2 first")) << "n2 has not listed the origin yet";
  EXPECT_THAT(peers(other), ElementsAre("n1 first", "n2 first"));
  world.holds("n3", world.speech);
  EXPECT_THAT(peers(other), ElementsAre("n1 first", "n2 first"));
  EXPECT_THAT(peers(world.generation.id), ElementsAre("n2 first", "n3 holds"));
  world.disconnect("n3");
  EXPECT_THAT(peers(world.generation.id), ElementsAre("n2 first"));
}

}  // namespace
}  // namespace atlas::test
