#pragma once
#include <chrono>
#include <compare>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::agent {

/// The directories whose files are being read, each opened once for all files of it that are open at the same time: a
/// path is a request to the storage for each of its parts. Nothing is held when no file is open. Thread-safe.
class OpenDirectories {
 public:
  /// For so long a directory stands for its path: who may no longer go there, or what was renamed, is noticed then.
  static constexpr std::chrono::seconds kTrusted{1};

  /// One directory, as one user has opened it. Kept by the files below it.
  class Directory;
  struct Opened {
    std::shared_ptr<const UniqueFd> fd;    ///< O_PATH
    std::shared_ptr<Directory> directory;  ///< whoever keeps it spares those that come after the opening
    bool fresh = false;                    ///< opened just now, by this call
  };
  using Time = std::chrono::steady_clock::time_point;
  /// `path` below the directory `root`, with the rights of the calling thread (see become()), which blocks while the
  /// storage does, also on another's opening of the same for the same user. Earlier openings than `since` do not count.
  [[nodiscard]] Result<Opened> open(const std::string& root, const std::string& path, Time since);

 private:
  struct Key {
    std::vector<std::uint32_t> who;  ///< uid, gid, groups
    std::string path;
    auto operator<=>(const Key&) const = default;
  };
  std::shared_ptr<Directory> find(const std::string& path);

  std::mutex mutex_;                                 ///< guards what follows; inside it nothing is opened
  std::map<Key, std::weak_ptr<Directory>> by_user_;  ///< some of them are gone
  std::size_t sweep_at_ = 64;                        ///< so many are there when those that are gone are looked for
};

}  // namespace atlas::agent
