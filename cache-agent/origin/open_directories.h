#pragma once
#include <chrono>
#include <compare>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::agent {

/// The directories whose files are being read, each opened once for all files of it that are open at the same time: a
/// path is a request to the storage for each of its parts. Nothing is held when no file is open. One that takes long to
/// be opened, or to be refused, holds one thread, however many wait for its files. Thread-safe.
class OpenDirectories {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// For so long a directory stands for its path: who may no longer go there, or what was renamed, is noticed then.
  static constexpr std::chrono::seconds kTrusted{1};
  /// An opening that failed after so long is not tried again for as long as it took, or the second of these.
  static constexpr std::chrono::milliseconds kSlow{100}, kRefusedAtMost{10'000};

  /// One directory, as one user has opened it. Kept by the files below it.
  class Directory;
  struct Opened {
    std::shared_ptr<const UniqueFd> fd;    ///< O_PATH
    std::shared_ptr<Directory> directory;  ///< whoever keeps it spares those that come after the opening
    bool fresh = false;                    ///< opened just now, by this call
  };
  /// `path` below the directory `root`, with the rights of the calling thread (see become()), which blocks while the
  /// storage does, also on another's opening of the same for the same user. Earlier openings than `since` do not count.
  /// What others have waited for in vain is not tried again at once: the same error.
  [[nodiscard]] Result<Opened> open(const std::string& root, const std::string& path, Time since);

  /// The right to be the one who opens a directory: until open() is through, or it goes.
  class Turn {
   public:
    explicit Turn(std::shared_ptr<Directory> directory) : directory_(std::move(directory)) {}
    Turn(Turn&&) noexcept = default;
    Turn& operator=(Turn&&) = delete;
    Turn(const Turn&) = delete;
    ~Turn();

   private:
    std::shared_ptr<Directory> directory_;  ///< null: it is open
  };
  /// Before open(), on the same thread: nothing when another one is just opening it; then `later` is called, once, when
  /// that one is through. Never blocks.
  [[nodiscard]] std::optional<Turn> turn(const std::string& path, std::function<void()> later);

 private:
  struct Key {
    std::vector<std::uint32_t> who;  ///< uid, gid, groups
    std::string path;
    auto operator<=>(const Key&) const = default;
  };
  std::shared_ptr<Directory> find(const std::string& path);
  void remember(const std::shared_ptr<Directory>& refused);

  std::mutex mutex_;                                 ///< guards what follows; inside it nothing is opened
  std::map<Key, std::weak_ptr<Directory>> by_user_;  ///< some of them are gone
  std::size_t sweep_at_ = 64;                        ///< so many are there when those that are gone are looked for
  std::deque<std::shared_ptr<Directory>> refused_;   ///< the last few: nobody else keeps them
};

}  // namespace atlas::agent
