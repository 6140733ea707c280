#include "cache-agent/origin/open_directories.h"

#include <fcntl.h>

#include <algorithm>

#include "cache-agent/origin/beneath.h"
#include "cache-agent/origin/reader_pool.h"
#include "cache-agent/origin/walker.h"

namespace atlas::agent {

class OpenDirectories::Directory {
 public:
  std::mutex mutex;  ///< guards what follows, and is held while it is opened: the others wait for that one opening
  std::shared_ptr<const UniqueFd> fd;
  Time opened;
};

std::shared_ptr<OpenDirectories::Directory> OpenDirectories::find(const std::string& path) {
  Key key{{}, path};
  if (const Principal* as = current_principal(); as != nullptr) {
    key.who = {as->uid, as->gid};
    key.who.insert(key.who.end(), as->groups.begin(), as->groups.end());
  }
  const std::lock_guard lock(mutex_);
  auto& place = by_user_[std::move(key)];
  auto directory = place.lock();
  if (!directory) place = directory = std::make_shared<Directory>();
  if (by_user_.size() >= sweep_at_) {
    std::erase_if(by_user_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<std::size_t>(64, 2 * by_user_.size());
  }
  return directory;
}

Result<OpenDirectories::Opened> OpenDirectories::open(const std::string& root, const std::string& path, Time since) {
  auto directory = find(path);
  const std::lock_guard lock(directory->mutex);
  const auto now = std::chrono::steady_clock::now();
  if (directory->fd && directory->opened >= since) return Opened{directory->fd, directory, false};
  const auto top = open_origin_root(root);
  if (!top) return fail(Error{Code::unavailable, top.error().message, top.error().sys_errno});
  ATLAS_ASSIGN(UniqueFd fd, open_beneath(top->get(), path, O_PATH | O_DIRECTORY));
  directory->fd = std::make_shared<const UniqueFd>(std::move(fd));
  directory->opened = now;
  return Opened{directory->fd, directory, true};
}

}  // namespace atlas::agent
