#include <gtest/gtest.h>

#include <map>

#include "cache-agent/fetch/peer_choice.h"

namespace atlas::agent {
namespace {

constexpr std::uint64_t kChunks = 3000;

GenerationId generation() {
  return GenerationId::of("0123456789abcdef");
}
ChunkName chunk(std::uint64_t n) {
  return {generation(), static_cast<FileIndex>(n / 3), n % 3};
}
std::vector<Peer> nodes(std::initializer_list<const char*> names, PeerRole role) {
  std::vector<Peer> out;
  for (const auto* name : names) out.push_back({name, std::string(name) + ":818", role});
  return out;
}
/// Who reads a chunk from the origin, as `self` sees it; "" = it asks that peer.
std::string source(const std::vector<Peer>& peers, const std::string& self, std::uint64_t n,
                   const std::set<std::string>& without = {}) {
  const auto which = choose_peer(peers, self, chunk(n), without);
  return which ? peers[*which].node : self;
}

TEST(PeerChoice, NodesThatBeginTogetherAgreeOnOneReaderForEachChunkAndShareThemEvenly) {
  const auto peers = nodes({"n1", "n2", "n3", "n4"}, PeerRole::fills_first);
  std::map<std::string, unsigned> read;
  for (std::uint64_t n = 0; n < kChunks; ++n) {
    const auto reader = source(peers, "n1", n);
    for (const auto* self : {"n2", "n3", "n4"}) EXPECT_EQ(source(peers, self, n), reader);
    ++read[reader];
  }
  ASSERT_EQ(read.size(), 4U);
  for (const auto& [node, chunks] : read) EXPECT_NEAR(chunks, kChunks / 4, kChunks / 16) << node;
}

TEST(PeerChoice, WhenOneGoesOnlyItsShareMoves) {
  const auto peers = nodes({"n1", "n2", "n3", "n4"}, PeerRole::fills_first);
  for (std::uint64_t n = 0; n < kChunks; ++n) {
    const auto before = source(peers, "n1", n), after = source(peers, "n1", n, {"n3"});
    EXPECT_NE(after, "n3");
    if (before != "n3") {
      EXPECT_EQ(after, before);
    }
  }
}

TEST(PeerChoice, WhoComesLaterReadsNothingFromTheOriginWhileAnEarlierOneIsThere) {
  auto peers = nodes({"n1", "n2"}, PeerRole::fills_first);
  peers.push_back({"n3", "n3:818", PeerRole::fills_later});
  for (std::uint64_t n = 0; n < kChunks; ++n) {
    EXPECT_NE(source(peers, "n3", n), "n3");
    EXPECT_NE(source(peers, "n1", n), "n3") << "it has no more than those before it";
    EXPECT_EQ(source(peers, "n3", n, {"n1", "n2"}), "n3");
  }
}

TEST(PeerChoice, HoldersComeFirstAndShareTheLoad) {
  auto peers = nodes({"n1", "n2"}, PeerRole::fills_first);
  for (const auto& holder : nodes({"n3", "n4"}, PeerRole::holds)) peers.push_back(holder);
  std::map<std::string, unsigned> asked;
  for (std::uint64_t n = 0; n < kChunks; ++n) ++asked[source(peers, "n1", n)];
  EXPECT_EQ(asked["n3"] + asked["n4"], kChunks);
  EXPECT_NEAR(asked["n3"], kChunks / 2, kChunks / 8);
}

TEST(PeerChoice, AloneAndWithoutAnybodyLeftTheOriginIsRead) {
  EXPECT_FALSE(choose_peer({}, "n1", chunk(1), {}));
  EXPECT_FALSE(choose_peer(nodes({"n1"}, PeerRole::fills_first), "n1", chunk(1), {}));
  EXPECT_FALSE(choose_peer(nodes({"n1"}, PeerRole::holds), "n1", chunk(1), {})) << "it has lost a piece of it";
  EXPECT_FALSE(choose_peer(nodes({"n2", "n3"}, PeerRole::holds), "n1", chunk(1), {"n2", "n3"}));
}

}  // namespace
}  // namespace atlas::agent
