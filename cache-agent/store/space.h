#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace atlas::agent {

/// Room on a disk: what runs out first counts.
struct Space {
  std::uint64_t bytes = 0;
  std::uint64_t inodes = 0;  ///< files, directories, links
  static constexpr std::uint64_t kPlenty = std::numeric_limits<std::int64_t>::max();
  bool operator==(const Space&) const = default;
  Space& operator+=(const Space& o) {
    bytes += o.bytes;
    inodes += o.inodes;
    return *this;
  }
  Space& operator-=(const Space& o) {
    bytes -= o.bytes;
    inodes -= o.inodes;
    return *this;
  }
  friend Space operator+(Space a, const Space& b) { return a += b; }
  [[nodiscard]] bool fits(const Space& need) const { return need.bytes <= bytes && need.inodes <= inodes; }
  /// Never below nothing.
  [[nodiscard]] Space without(const Space& o) const {
    return {bytes - std::min(bytes, o.bytes), inodes - std::min(inodes, o.inodes)};
  }
  [[nodiscard]] Space at_most(const Space& o) const { return {std::min(bytes, o.bytes), std::min(inodes, o.inodes)}; }
};

/// How full a file system is, whoever fills it.
struct DiskUse {
  Space usable;  ///< by us: without what is set aside for root; no inodes = it has as many as it needs
  Space used;
  /// What may be added until this part of it is used.
  [[nodiscard]] Space room(double mark) const;
  /// What is used beyond this part of it.
  [[nodiscard]] Space beyond(double mark) const;
};
/// Nothing when the file system does not answer. Blocks with the disk.
[[nodiscard]] std::optional<DiskUse> look_at_disk(const std::string& path);

}  // namespace atlas::agent
