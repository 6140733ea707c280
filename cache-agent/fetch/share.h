#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache-agent/manifest/manifest.h"
#include "common/identity.h"
#include "common/units.h"

namespace atlas::agent {

/// How the nodes of a job divide a generation that does not fit one of them. Immutable.
///
/// Each file, or chunk of a large one, belongs to one node, found by rendezvous hashing within equal loads: nodes that
/// know the same list of nodes agree without a word, each gets the same bytes but for one chunk, and with one node more
/// or less hardly anything moves but that one's share. What the nodes cannot hold together belongs to nobody.
class Share {
 public:
  /// `nodes` in any order, `self` among them; pieces of `chunk` bytes; no node takes more than `cache` (0 = its part of
  /// all). Looks at every file of the manifest.
  Share(const Manifest& manifest, std::vector<NodeAddress> nodes, const std::string& self, Bytes chunk, Bytes cache);

  /// Whose share a byte of a file is; nullptr = nobody's.
  [[nodiscard]] const NodeAddress* owner(const Manifest& manifest, FileIndex file, std::uint64_t offset) const;
  [[nodiscard]] bool mine(const Manifest& manifest, FileIndex file, std::uint64_t offset) const {
    const auto* node = owner(manifest, file, offset);
    return node != nullptr && node == self_;
  }
  [[nodiscard]] bool another(const NodeAddress* owner) const { return owner != nullptr && owner != self_; }
  [[nodiscard]] const std::vector<NodeAddress>& nodes() const { return nodes_; }
  /// Of this node.
  [[nodiscard]] Bytes bytes() const { return Bytes{bytes_}; }
  /// What all of this node's share takes on a disk.
  [[nodiscard]] Bytes allocated() const { return Bytes{allocated_}; }

 private:
  std::vector<NodeAddress> nodes_;
  const NodeAddress* self_ = nullptr;
  std::vector<std::uint16_t> owners_;  ///< by block: a position in nodes_, or kNobody
  std::uint64_t bytes_ = 0, allocated_ = 0;
};

}  // namespace atlas::agent
