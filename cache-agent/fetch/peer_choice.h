#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cache-agent/manifest/ids.h"
#include "common/identity.h"
#include "common/result.h"

namespace atlas::agent {

/// What a node has to do with a generation, as the controller sees it.
enum class PeerRole {
  holds,        ///< it has all of it
  fills_first,  ///< one of those whose warm-ups began first, together
  fills_later,
  shares,  ///< it is the one that keeps this piece for the job's other nodes
};

struct Peer {
  std::string node, address;
  PeerRole role = PeerRole::fills_later;
  bool operator==(const Peer&) const = default;
};

/// A piece of a generation that one node reads from the origin for all.
struct ChunkName {
  GenerationId generation;
  FileIndex file = 0;
  std::uint64_t chunk = 0;
};

/// Which of `peers` to ask for a chunk; nothing: the origin. Who holds all of it comes first. Otherwise each chunk has
/// one reader among those that began first, found by rendezvous hashing: nodes that see the same peers agree on it
/// without a word, and when one goes only its share moves. Who comes later asks them too, and reads nothing. `self` may
/// be among the peers; nodes in `without` are passed over.
[[nodiscard]] std::optional<std::size_t> choose_peer(const std::vector<Peer>& peers, const std::string& self,
                                                     const ChunkName& chunk, const std::set<std::string>& without);

/// Knows the peers of a generation. Thread-safe; nothing blocks. `done` runs once, in bounded time, on any thread.
class PeerFinder {
 public:
  virtual ~PeerFinder() = default;
  virtual void find(const DatasetId& dataset, const GenerationId& generation,
                    std::function<void(Result<std::vector<Peer>>)> done) = 0;
};

}  // namespace atlas::agent
