#include "cache-agent/fetch/peer_choice.h"

#include <xxhash.h>

#include <array>
#include <cstring>

namespace atlas::agent {
namespace {

std::uint64_t seed_of(const ChunkName& chunk) {
  const std::string generation = chunk.generation.bytes();
  std::array<std::byte, 12> where{};
  std::memcpy(where.data(), &chunk.chunk, 8);
  std::memcpy(where.data() + 8, &chunk.file, 4);
  return XXH3_64bits_withSeed(where.data(), where.size(), XXH3_64bits(generation.data(), generation.size()));
}

}  // namespace

std::optional<std::size_t> choose_peer(const std::vector<Peer>& peers, const std::string& self, const ChunkName& chunk,
                                       const std::set<std::string>& without) {
  const std::uint64_t seed = seed_of(chunk);
  for (const PeerRole role : {PeerRole::holds, PeerRole::fills_first, PeerRole::fills_later}) {
    std::optional<std::size_t> best;
    std::uint64_t weight = 0;
    for (std::size_t i = 0; i < peers.size(); ++i) {
      const auto& peer = peers[i];
      if (peer.role != role || without.contains(peer.node)) continue;
      // What holds all of it and yet asks has lost a piece: it is no help to itself.
      if (peer.node == self && role == PeerRole::holds) continue;
      const std::uint64_t its = XXH3_64bits_withSeed(peer.node.data(), peer.node.size(), seed);
      if (best && its <= weight) continue;
      best = i;
      weight = its;
    }
    if (best) return peers[*best].node == self ? std::nullopt : best;
  }
  return std::nullopt;
}

}  // namespace atlas::agent
