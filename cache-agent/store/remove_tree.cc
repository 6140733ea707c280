#include "cache-agent/store/remove_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "common/percent.h"
#include "common/unique_fd.h"

namespace atlas::agent {
namespace {

constexpr int kAttempts = 16;  // to find a directory empty that some file systems list while it is being emptied

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

/// A tree on its way out. Directories are moved up to its top before they are emptied, so that two descriptors do for
/// any depth, and no path is longer than a name.
class Removal {
 public:
  Removal(UniqueFd top, const std::stop_token& stop) : top_(std::move(top)), stop_(stop) {}

  [[nodiscard]] Status run() {
    ATLAS_TRY(empty(fcntl(top_.get(), F_DUPFD_CLOEXEC, 0), true));
    while (!pending_.empty()) {
      const std::string name = std::move(pending_.back());
      pending_.pop_back();
      ATLAS_TRY(remove_directory(name));
    }
    return {};
  }

 private:
  [[nodiscard]] Status remove_directory(const std::string& name) {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      ATLAS_TRY(empty(openat(top_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), false));
      if (unlinkat(top_.get(), name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
      if (errno != ENOTEMPTY && errno != EEXIST) break;
    }
    return fail_errno(errno, printable(name));
  }

  /// Takes the descriptor. Files go, directories are noted (of the top) or moved there.
  [[nodiscard]] Status empty(int fd, bool is_top) {
    if (fd < 0) return errno == ENOENT ? Status{} : Status(fail_errno(errno, "open"));
    const std::unique_ptr<DIR, CloseDirectory> directory(fdopendir(fd));
    if (!directory) {
      const int err = errno;
      close(fd);
      return fail_errno(err, "list");
    }
    for (errno = 0; const dirent* entry = readdir(directory.get()); errno = 0) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (stop_.stop_requested()) return fail(Code::cancelled, "the removal was stopped");
      bool is_directory = entry->d_type == DT_DIR;
      if (!is_directory) {
        if (unlinkat(fd, name.c_str(), 0) == 0 || errno == ENOENT) continue;
        struct stat st {};
        const int err = errno;
        if (fstatat(fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))
          return fail_errno(err, printable(name));
      }
      ATLAS_TRY(take(fd, name, is_top));
    }
    return errno == 0 ? Status{} : Status(fail_errno(errno, "list"));
  }

  [[nodiscard]] Status take(int from, const std::string& name, bool is_top) {
    if (is_top) {
      pending_.push_back(name);
      return {};
    }
    if (unlinkat(from, name.c_str(), AT_REMOVEDIR) == 0) return {};  // empty
    for (;;) {
      const std::string here = "moved-" + std::to_string(moved_++);
      if (renameat(from, name.c_str(), top_.get(), here.c_str()) == 0) {
        pending_.push_back(here);
        return {};
      }
      // A name of the user's, which is on its way out as well.
      if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) return fail_errno(errno, printable(name));
    }
  }

  const UniqueFd top_;
  const std::stop_token& stop_;
  std::vector<std::string> pending_;  ///< directories of the top
  std::uint64_t moved_ = 0;
};

}  // namespace

Status remove_tree(const std::string& path, const std::stop_token& stop) {
  UniqueFd top(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!top && (errno == ENOTDIR || errno == ELOOP)) {
    if (unlink(path.c_str()) == 0) return {};
  } else if (top) {
    if (auto emptied = Removal(std::move(top), stop).run(); !emptied)
      return fail(emptied.error().in("remove " + printable(path)));
    if (rmdir(path.c_str()) == 0) return {};
  }
  return errno == ENOENT ? Status{} : Status(fail_errno(errno, "remove " + printable(path)));
}

}  // namespace atlas::agent
