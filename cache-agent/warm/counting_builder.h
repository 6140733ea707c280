#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "cache-agent/manifest/manifest.h"

namespace atlas::agent {

/// Makes a manifest and says meanwhile how much has been seen. Private to warm/.
class CountingBuilder final : public EntrySink {
 public:
  CountingBuilder(std::string root, bool quiet_directories, std::atomic<std::uint64_t>& seen)
      : builder_(std::move(root), quiet_directories), seen_(seen) {}
  std::uint32_t add(std::uint32_t parent, WalkedEntry entry) override {
    seen_.fetch_add(1, std::memory_order_relaxed);
    const auto& a = entry.attributes;
    if (builder_.size() == 0) owner = a.uid;
    if (a.type == EntryType::file && (a.flags & kOpaque) == 0) {
      ++files;
      bytes += a.size;
    }
    return builder_.add(parent, std::move(entry));
  }
  [[nodiscard]] Result<std::shared_ptr<const Manifest>> build() {
    ATLAS_ASSIGN(Manifest manifest, std::move(builder_).build());
    return std::make_shared<const Manifest>(std::move(manifest));
  }
  std::uint64_t files = 0, bytes = 0;
  std::optional<std::uint32_t> owner;  ///< of the root

 private:
  ManifestBuilder builder_;
  std::atomic<std::uint64_t>& seen_;
};

}  // namespace atlas::agent
