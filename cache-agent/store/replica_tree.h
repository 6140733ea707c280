#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache-agent/manifest/manifest.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::agent {

/// The extended attributes of a file that lies here, of those that are wanted. Blocks.
[[nodiscard]] Result<std::vector<std::pair<std::string, std::string>>> read_xattrs(
    int fd, bool (*wanted)(std::string_view name));

/// The files of a replica: a tree named "tree" in the replica's directory (a single file of that name for a dataset of
/// one file). Written as the store's owner; what belongs to users gets its owner and mode when its data is there.
/// Everything may be repeated after a crash. Thread-safe; every call blocks.
class ReplicaTree {
 public:
  explicit ReplicaTree(UniqueFd directory) : directory_(std::move(directory)) {}

  /// Directories (closed until sealed), links and special files.
  [[nodiscard]] Status make_skeleton(const Manifest& manifest);

  /// Writes one piece of a file, zero blocks as holes. `zero` tells which blocks are all zero.
  /// With `attributes` the file is finished: xattrs of `meta`, owner, mode and times are set.
  struct Piece {
    FileIndex file = 0;
    std::uint64_t offset = 0;
    std::span<const std::byte> data;  ///< empty for a hole
    std::uint64_t length = 0;
    std::span<const std::uint8_t> zero;  ///< per block of data: 1 = all zero
    const FileMeta* meta = nullptr;
    bool finish = false;
  };
  [[nodiscard]] Status write(const Manifest& manifest, const Piece& piece);
  [[nodiscard]] Result<std::size_t> read(const Manifest& manifest, FileIndex file, std::uint64_t offset,
                                         std::span<std::byte> into) const;

  /// For reading.
  [[nodiscard]] Result<UniqueFd> open_file(const Manifest& manifest, FileIndex file) const;
  /// The xattrs that write() gave it.
  [[nodiscard]] Result<FileMeta> meta_of(const Manifest& manifest, FileIndex file) const;

  /// Makes a file of another tree of the same file system, finished there, a file of this one too.
  [[nodiscard]] Status link_from(const ReplicaTree& other, const Manifest& theirs, FileIndex from,
                                 const Manifest& manifest, FileIndex to) const;

  /// Makes it the same file as one of another tree, in one step; its directory gets a new time.
  [[nodiscard]] Status replace_by_link(const Manifest& manifest, FileIndex file, const ReplicaTree& other,
                                       const Manifest& theirs, FileIndex from) const;
  /// A directory's times are the manifest's again.
  [[nodiscard]] Status restore_times(const Manifest& manifest, FileIndex directory) const;
  struct Inode {
    std::uint64_t links = 0;  ///< names that it has, in this tree and elsewhere
    std::uint64_t bytes = 0;  ///< on the disk
  };
  [[nodiscard]] Result<Inode> inode_of(const Manifest& manifest, FileIndex file) const;

  /// What is left when all data is there: owners, modes and times of large files, opaque entries, hard links, and last
  /// of directories, deepest first. `metas` has the ACLs and xattrs of directories and opaque entries.
  [[nodiscard]] Status finish(const Manifest& manifest, const Principal& as,
                              const std::map<FileIndex, FileMeta>& metas);
  /// Drops a file's clean pages: what is read next comes from the disk.
  void forget(const Manifest& manifest, FileIndex file) const;
  /// Drops large files from the page cache once they are on disk.
  void forget_large_files(const Manifest& manifest) const;

  [[nodiscard]] int directory() const { return directory_.get(); }

 private:
  using Shared = std::shared_ptr<const UniqueFd>;
  [[nodiscard]] Result<Shared> directory_of(const Manifest& manifest, FileIndex index) const;
  [[nodiscard]] Result<Shared> open_directory(const Manifest& manifest, FileIndex index) const;
  [[nodiscard]] static std::string name_of(const Manifest& manifest, FileIndex index);
  [[nodiscard]] Status make_special(const Manifest& manifest, FileIndex index);
  [[nodiscard]] Status make_link(const Manifest& manifest, FileIndex index);
  [[nodiscard]] Status finish_file(const Manifest& manifest, FileIndex index);
  [[nodiscard]] Status make_opaque(const Manifest& manifest, FileIndex index, const FileMeta* meta);
  [[nodiscard]] Status close_what_leaks(const Manifest& manifest, const Principal& as);

  UniqueFd directory_;
  mutable std::mutex mutex_;                  ///< guards open_
  mutable std::map<FileIndex, Shared> open_;  ///< directories used a moment ago: files come directory by directory
};

}  // namespace atlas::agent
