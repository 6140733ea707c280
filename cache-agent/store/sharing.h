#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "cache-agent/store/replica.h"
#include "cache-agent/store/space.h"
#include "common/result.h"

namespace atlas::agent {

/// An older generation of a dataset and the files of a new one that it already holds: same path, and type, size, mode,
/// owner, mtime and ctime all equal. The origin changes a file's ctime with its data, its xattrs and its ACL, so equal
/// attributes mean an equal file. Keeps the lender from being evicted while it lives.
struct Lender {
  std::shared_ptr<Replica> replica;
  std::vector<std::pair<FileIndex, FileIndex>> files;  ///< of the lender, of the new generation: leaders, all resident
  std::uint64_t bytes = 0;                             ///< of these files
};

/// What `replica` can lend to the generation of `manifest`. Blocks (reads the lender's manifest).
[[nodiscard]] Result<Lender> look_for_equal_files(std::shared_ptr<Replica> replica, const Manifest& manifest);

/// Makes the lender's files hard links in the tree of `into`, and resident there with the checksums they have. Files
/// that are there already, or cannot be linked, are left for the fetch. Blocks: about 20 us a file.
[[nodiscard]] Status lend(const Lender& lender, Replica& into);

/// Bytes on the disk by inode.
using SharedInodes = std::map<std::uint64_t, std::uint64_t>;
/// The files below a path that have links elsewhere too. Blocks.
[[nodiscard]] SharedInodes shared_with_others(const std::string& path);

}  // namespace atlas::agent
