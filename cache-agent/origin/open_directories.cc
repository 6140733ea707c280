#include "cache-agent/origin/open_directories.h"

#include <fcntl.h>

#include <algorithm>
#include <condition_variable>
#include <thread>
#include <utility>

#include "cache-agent/origin/beneath.h"
#include "cache-agent/origin/reader_pool.h"
#include "cache-agent/origin/walker.h"

namespace atlas::agent {
namespace {

constexpr std::size_t kRefusals = 64;

Result<UniqueFd> open_directory(const std::string& root, const std::string& path) {
  const auto top = open_origin_root(root);
  if (!top) return fail(Error{Code::unavailable, top.error().message, top.error().sys_errno});
  return open_beneath(top->get(), path, O_PATH | O_DIRECTORY);
}

}  // namespace

class OpenDirectories::Directory {
 public:
  std::mutex mutex;  ///< guards what follows; not held while it is opened
  std::condition_variable through;
  std::thread::id opener;  ///< none: nobody opens it
  std::vector<std::function<void()>> later;
  std::shared_ptr<const UniqueFd> fd;
  Time opened;
  std::optional<Error> refused;
  Time refused_at, refused_until;

  [[nodiscard]] bool being_opened() const { return opener != std::thread::id{}; }
  [[nodiscard]] bool mine() const { return opener == std::this_thread::get_id(); }
  /// The calling thread opens it no more. The mutex is held, and is not afterwards.
  void end(std::unique_lock<std::mutex> lock) {
    opener = {};
    const auto tasks = std::exchange(later, {});
    lock.unlock();
    through.notify_all();
    for (const auto& task : tasks) task();
  }
};

OpenDirectories::Turn::~Turn() {
  if (!directory_) return;
  std::unique_lock lock(directory_->mutex);
  if (directory_->mine()) directory_->end(std::move(lock));  // its owner has not opened anything after all
}

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

void OpenDirectories::remember(const std::shared_ptr<Directory>& refused) {
  std::shared_ptr<Directory> oldest;  // goes outside the lock
  const std::lock_guard lock(mutex_);
  if (std::find(refused_.begin(), refused_.end(), refused) != refused_.end()) return;
  refused_.push_back(refused);
  if (refused_.size() <= kRefusals) return;
  oldest = std::move(refused_.front());
  refused_.pop_front();
}

std::optional<OpenDirectories::Turn> OpenDirectories::turn(const std::string& path, std::function<void()> later) {
  auto directory = find(path);
  const std::lock_guard lock(directory->mutex);
  if (directory->being_opened()) {
    directory->later.push_back(std::move(later));
    return std::nullopt;
  }
  const auto now = std::chrono::steady_clock::now();
  const bool known =
      (directory->fd && directory->opened >= now - kTrusted) || (directory->refused && directory->refused_until > now);
  if (known) return Turn(nullptr);
  directory->opener = std::this_thread::get_id();
  return Turn(std::move(directory));
}

Result<OpenDirectories::Opened> OpenDirectories::open(const std::string& root, const std::string& path, Time since) {
  const auto directory = find(path);
  std::unique_lock lock(directory->mutex);
  const auto asked = std::chrono::steady_clock::now();
  directory->through.wait(lock, [&] { return !directory->being_opened() || directory->mine(); });
  if (directory->fd && directory->opened >= since) {
    Opened known{directory->fd, directory, false};
    if (directory->mine()) directory->end(std::move(lock));
    return known;
  }
  const auto now = std::chrono::steady_clock::now();
  if (directory->refused && (directory->refused_at >= asked || directory->refused_until > now)) {
    const Error why = *directory->refused;
    if (directory->mine()) directory->end(std::move(lock));
    return fail(why);
  }
  directory->opener = std::this_thread::get_id();
  lock.unlock();
  auto fd = open_directory(root, path);
  const auto through = std::chrono::steady_clock::now();
  if (!fd && through - now >= kSlow) remember(directory);
  lock.lock();
  directory->refused.reset();
  directory->fd.reset();
  if (fd) {
    directory->fd = std::make_shared<const UniqueFd>(std::move(*fd));
    directory->opened = now;
  } else {
    directory->refused = fd.error();
    directory->refused_at = through;
    directory->refused_until =
        through - now < kSlow ? through : through + std::min<Time::duration>(through - now, kRefusedAtMost);
  }
  Opened opened{directory->fd, directory, true};
  directory->end(std::move(lock));
  if (!fd) return fail(fd.error());
  return opened;
}

}  // namespace atlas::agent
