#pragma once
#include <sys/stat.h>

#include <memory>
#include <unordered_map>

#include "cache-agent/manifest/manifest.h"

namespace atlas::view {

/// What stat() shows of a manifest's entries. Inode numbers are positions in the manifest, plus one; the names of a
/// hard-linked file share its first one's. Immutable.
class Attributes {
 public:
  explicit Attributes(const agent::Manifest& manifest);
  [[nodiscard]] struct stat of(agent::FileIndex index) const;
  [[nodiscard]] std::uint64_t node_of(agent::FileIndex index) const { return manifest_.at(index).leader + 1ULL; }
  /// False for a node that the kernel cannot have from us.
  [[nodiscard]] bool has(std::uint64_t node) const { return node >= 1 && node <= manifest_.size(); }

 private:
  const agent::Manifest& manifest_;
  std::unordered_map<agent::FileIndex, std::uint32_t> names_;  ///< of files that have several
};

}  // namespace atlas::view
