#pragma once
#include <functional>
#include <optional>
#include <span>

#include "cache-agent/manifest/ids.h"
#include "cache-agent/manifest/manifest.h"
#include "cache-agent/store/replica.h"
#include "common/identity.h"
#include "common/result.h"

namespace atlas::agent {

/// What another node has sent of a file: whole blocks, or to the file's end.
struct PeerPiece {
  Bytes offset, length;
  std::span<const std::byte> data;  ///< empty for a hole
  BlockSums sums;                   ///< of data, as the other node has them
  const FileMeta* meta = nullptr;   ///< with the first block
};

/// What is asked of other nodes. The generation is one that the origin has just shown to whom it is for.
struct PeerAsk {
  DatasetId dataset;
  GenerationId generation;
  Extent want;
  std::uint64_t chunk = 0;  ///< number of the file's piece: what nodes divide among themselves
  /// Who is asked before all others: the node of this job whose share it is, for a reader. Then come those that hold
  /// all of it, and exactly what is wanted of a block is sent. Not waited for as long as a warm-up waits.
  std::optional<NodeAddress> keeper{};
  std::uint32_t job = 0;
  /// This node is the only one that brings it: nobody but those that hold all of it is asked.
  bool holders_only = false;
  /// Each piece, in turn, on a thread that may block. data_loss: this piece was damaged on its way, do not trust what
  /// follows; any other error: there is no use in more.
  std::function<Status(const PeerPiece&)> take;
  /// Once, after the last piece, on a thread that may block: what has not come is read from the origin.
  std::function<void()> done;
};

/// Other nodes of the cluster, as a source of data. Thread-safe; nothing blocks.
class PeerSource {
 public:
  virtual ~PeerSource() = default;
  /// False, and nothing of `ask` is called, when this node is the one that reads the origin, or there is nobody to ask.
  /// Otherwise `done` comes in bounded time, whatever becomes of the other nodes.
  [[nodiscard]] virtual bool bring(PeerAsk ask) = 0;
};

}  // namespace atlas::agent
