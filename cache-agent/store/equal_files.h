#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cache-agent/store/replica.h"
#include "cache-agent/store/sharing.h"
#include "cache-agent/store/space.h"
#include "common/result.h"

// Equal files of different datasets are stored once: one inode in several trees of a tier.
namespace atlas::agent {

class BlockMap;

/// What a file is known by: a digest of its size, the checksums of its blocks, and all attributes that an inode carries
/// and a manifest knows (mode, owner, group, time). Files with equal ones are worth a look; whether they are the same
/// is seen by looking at them.
struct FileKey {
  std::array<std::uint64_t, 2> digest{};
  std::uint64_t file = 0;  ///< FileIndex
  auto operator<=>(const FileKey&) const = default;
};

/// Of all files that have data, sorted. Every block is resident.
[[nodiscard]] std::vector<FileKey> keys_of(const Manifest& manifest, const BlockMap& blocks);
/// Kept beside a replica's tree. Reading: not_found when there are none, data_loss when they cannot be read. Block.
[[nodiscard]] Status save_keys(const std::string& directory, const std::vector<FileKey>& keys);
[[nodiscard]] Result<std::vector<FileKey>> load_keys(const std::string& directory);

/// Puts inodes of `other` in the place of those files of `into` that are the same in every byte and every attribute,
/// xattrs and ACL too. `into` has been sealed and is complete for nobody yet; its directories keep their times. Says
/// what they take on the disk. Files that cannot be linked stay as they are. Blocks: reads both files.
[[nodiscard]] Result<Space> store_once(const Replica& into, const std::vector<FileKey>& keys, const Replica& other);

/// What a replica holds of the inodes in `shared`, whose keys are given. Takes them out of it. Blocks.
[[nodiscard]] Space take_over(const Replica& heir, const std::vector<FileKey>& keys, SharedInodes& shared);

}  // namespace atlas::agent
