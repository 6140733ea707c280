#pragma once
#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache-agent/manifest/manifest.h"

namespace atlas::view {

/// What the origin says of one of its files, and which file that is: an inode's number is used again.
struct Live {
  struct stat st {};
  std::int64_t born = 0;  ///< nanoseconds; 0 where the file system does not tell
};

/// The files of a writable view that the kernel knows, by number; where each is, and which of them are still what the
/// manifest says. Names are followed as this view changes them; what others rename is found anew by its next lookup.
/// Thread-safe; never blocks.
class WritableNodes {
 public:
  static constexpr std::uint64_t kRoot = 1;  ///< FUSE_ROOT_ID
  explicit WritableNodes(const agent::Manifest& manifest);

  struct Place {
    std::string path;  ///< below the dataset's root
    std::uint64_t inode = 0;
    std::int64_t born = 0;
    mode_t type = 0;
    bool root = false;  ///< whatever is at the dataset's path
    [[nodiscard]] bool is(const Live& live) const;
  };
  /// nullopt when the kernel does not know the node, or not any more.
  [[nodiscard]] std::optional<Place> place(std::uint64_t node) const;
  /// The kernel is told of what was found at a name: counts, until as many forget().
  std::uint64_t found(std::uint64_t parent, const std::string& name, const Live& live);
  void forget(std::uint64_t node, std::uint64_t times);

  /// Its file in the manifest if the origin still shows exactly that one and this view has not written to it. Once it
  /// is another one it stays so.
  [[nodiscard]] std::optional<agent::FileIndex> cached(std::uint64_t node, const struct stat& now);
  /// Same, going by what was seen last.
  [[nodiscard]] std::optional<agent::FileIndex> unchanged(std::uint64_t node) const;
  /// It is written to: from now on the origin alone knows what is in it.
  void touch(std::uint64_t node);
  /// A name is made, replaced or removed: whatever is there later is not the manifest's.
  void touch_name(std::uint64_t parent, const std::string& name);
  /// It has been renamed: it is there now.
  void moved(const Live& live, std::uint64_t parent, const std::string& name);

 private:
  struct Key {
    std::uint64_t device, inode;
    std::int64_t born;
    mode_t type;
    auto operator<=>(const Key&) const = default;
  };
  [[nodiscard]] static Key key_of(const Live& live);
  struct Node {
    std::uint64_t parent = 0;
    std::string name;
    Key key{};
    agent::FileIndex index = kNone;
    std::uint64_t lookups = 0;
    std::uint64_t children = 0;  ///< nodes whose path leads through it
  };
  static constexpr agent::FileIndex kNone = ~agent::FileIndex{0};

  void hang(std::uint64_t id, Node& node, std::uint64_t parent, const std::string& name);
  void drop_unused(std::uint64_t id);
  [[nodiscard]] agent::FileIndex index_at(std::uint64_t parent, const std::string& name) const;
  [[nodiscard]] bool spoilt(agent::FileIndex index) const;

  const agent::Manifest& manifest_;
  mutable std::mutex mutex_;  ///< guards what follows
  std::uint64_t next_ = kRoot + 1;
  std::unordered_map<std::uint64_t, Node> nodes_;
  std::map<Key, std::uint64_t> by_key_;
  std::vector<bool> spoilt_;  ///< by manifest entry: what the origin has there is not what was walked
};

}  // namespace atlas::view
