#pragma once
#include <filesystem>

#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas {

/// Sole ownership of something on disk, by flock on a lock file: it ends with the process, however it ends. The lock
/// file holds the owner's pid for people and stays where it is.
class FileLock {
 public:
  /// failed_precondition, with the owner's pid, when another process holds it; never waits.
  [[nodiscard]] static Result<FileLock> take(const std::filesystem::path& lock_file, std::string_view what);

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace atlas
