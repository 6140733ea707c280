#include "cache-agent/fetch/share.h"

#include <xxhash.h>

#include <algorithm>
#include <limits>

#include "cache-agent/store/replica.h"

namespace atlas::agent {
namespace {

constexpr std::uint16_t kNobody = std::numeric_limits<std::uint16_t>::max();

/// The finalizer of MurmurHash3: a million files times hundreds of nodes are weighed while a job waits.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 33U)) * 0xff51afd7ed558ccdULL;
  x = (x ^ (x >> 33U)) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33U);
}

/// What a file takes on a disk.
std::uint64_t on_disk(std::uint64_t bytes) {
  constexpr std::uint64_t kPage = 4096;
  return (bytes + kPage - 1) / kPage * kPage;
}

}  // namespace

Share::Share(const Manifest& manifest, std::vector<NodeAddress> nodes, const std::string& self, Bytes chunk,
             Bytes cache)
    : nodes_(std::move(nodes)), owners_(manifest.summary().blocks, kNobody) {
  std::sort(nodes_.begin(), nodes_.end());
  nodes_.erase(std::unique(nodes_.begin(), nodes_.end(), [](const auto& a, const auto& b) { return a.node == b.node; }),
               nodes_.end());
  if (nodes_.size() >= kNobody) nodes_.resize(kNobody - 1);
  if (nodes_.empty()) return;
  std::vector<std::uint64_t> names;
  for (const auto& node : nodes_) {
    if (node.node == self) self_ = &node;
    names.push_back(XXH3_64bits(node.node.data(), node.node.size()));
  }
  const std::uint64_t unit = std::max(chunk.count, kBlock.count);
  const std::uint64_t most = cache.count == 0 ? std::numeric_limits<std::int64_t>::max() : cache.count;
  const std::uint64_t part = std::min(most, manifest.summary().bytes / nodes_.size());

  const std::string generation = manifest.summary().generation.bytes();
  const std::uint64_t seed = XXH3_64bits(generation.data(), generation.size());
  std::vector<std::uint64_t> load(nodes_.size());
  for (FileIndex i = 0; i < manifest.size(); ++i) {
    const auto entry = manifest.at(i);
    const std::uint64_t size = entry.attributes.size;
    if (entry.blocks == 0 || entry.leader != i) continue;
    for (std::uint64_t at = 0; at == 0 || at < size; at += unit) {
      const std::uint64_t length = std::min(unit, size - at);
      const std::uint64_t piece = mix(seed ^ mix(std::uint64_t{i} << 32U ^ at / unit));
      std::size_t best = nodes_.size(), least = 0;
      std::uint64_t weight = 0;
      for (std::size_t n = 0; n < nodes_.size(); ++n) {
        if (load[n] < load[least]) least = n;
        if (load[n] + length > part) continue;
        const std::uint64_t its = mix(piece ^ names[n]);
        if (best != nodes_.size() && its <= weight) continue;
        best = n;
        weight = its;
      }
      if (best == nodes_.size()) best = least;  // all are within one piece of their part
      if (load[best] + length > most) continue;
      load[best] += length;
      if (&nodes_[best] == self_) allocated_ += on_disk(length);
      const std::uint64_t first = entry.first_block + at / kBlock.count;
      const std::uint64_t last =
          std::max(first + 1, entry.first_block + (at + length + kBlock.count - 1) / kBlock.count);
      std::fill(owners_.begin() + static_cast<std::ptrdiff_t>(first),
                owners_.begin() + static_cast<std::ptrdiff_t>(last), static_cast<std::uint16_t>(best));
    }
  }
  if (self_ != nullptr) bytes_ = load[static_cast<std::size_t>(self_ - nodes_.data())];
}

const NodeAddress* Share::owner(const Manifest& manifest, FileIndex file, std::uint64_t offset) const {
  const auto entry = manifest.at(file);
  const std::uint64_t block = offset / kBlock.count;
  if (block >= entry.blocks) return nullptr;
  const std::uint16_t which = owners_[entry.first_block + block];
  return which == kNobody ? nullptr : &nodes_[which];
}

}  // namespace atlas::agent
