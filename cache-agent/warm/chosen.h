#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "cache-agent/manifest/manifest.h"
#include "cache-agent/warm/warm_engine.h"

namespace atlas::agent {

/// Which files of a manifest a warm-up fetches. Private to warm/.
class Chosen {
 public:
  /// Files that changed after `unsettled_since` (nanoseconds since the epoch) are left out.
  Chosen(const Selection& only, const Manifest& manifest, std::int64_t unsettled_since)
      : picky_(!only.all()), any_(only.all() || only.metadata_only), unsettled_since_(unsettled_since) {
    if (!picky_) return;
    const Patterns patterns(only.patterns);
    wanted_.resize(manifest.size());
    for (FileIndex i = 0; i < manifest.size() && !only.metadata_only; ++i) {
      const auto entry = manifest.at(i);
      if (!entry.is(EntryType::file)) continue;
      const auto path = manifest.path(i);
      if (!patterns.match_or_below(path) && !only.files.contains(path)) continue;
      any_ = true;
      if (wanted_[entry.leader] || manifest.at(entry.leader).blocks == 0) continue;
      wanted_[entry.leader] = true;
      bytes_ += entry.attributes.size;
    }
  }
  /// Only a part was asked for.
  [[nodiscard]] bool picky() const { return picky_; }
  /// Files were asked for, and there are none of these names.
  [[nodiscard]] bool none() const { return !any_; }
  /// Of that part; at least 1.
  [[nodiscard]] Bytes bytes() const { return Bytes{std::max<std::uint64_t>(1, bytes_)}; }
  [[nodiscard]] bool contains(FileIndex index, const EntryAttributes& a) const {
    return (!picky_ || wanted_[index]) && std::max(a.mtime, a.ctime) <= unsettled_since_;
  }

 private:
  bool picky_, any_;
  std::int64_t unsettled_since_;
  std::vector<bool> wanted_;
  std::uint64_t bytes_ = 0;
};

}  // namespace atlas::agent
