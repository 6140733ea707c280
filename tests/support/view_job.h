#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cache-agent/view/fuse/partial_views.h"
#include "tests/support/node_parts.h"

namespace atlas::agent {

/// Jobs of one user that read "ds" through partial views. Outlives its jobs, and the node outlives it.
class ViewJobs {
 public:
  struct Job {
    std::shared_ptr<Replica> replica;
    std::unique_ptr<view::PartialView> view;
    UniqueFd mount;
    [[nodiscard]] std::string path(const std::string& below = "") const {
      return "/proc/self/fd/" + std::to_string(mount.get()) + (below.empty() ? "" : "/" + below);
    }
    /// Another mount of it, of which the kernel has nothing in its caches.
    void mount_again() {
      auto fresh = view->mount();
      ASSERT_TRUE(fresh) << fresh.error().message;
      mount = std::move(*fresh);
    }
  };
  ViewJobs(NodeParts& node, std::uint32_t uid) : node_(node), uid_(uid) {}

  Job start(std::chrono::milliseconds deadline = std::chrono::seconds(30)) {
    Job out;
    auto replica =
        node_.engine->open_partial({"o", "ds"}, user(uid_), {}, node_.clock.now() + std::chrono::seconds(20));
    EXPECT_TRUE(replica) << replica.error().message;
    if (!replica) return out;
    out.replica = *replica;
    view::PartialViewParts parts;
    parts.replica = *replica;
    parts.fetcher = node_.fetcher.get();
    parts.origin = &node_.origin;
    parts.timers = &timers_;
    parts.clock = &node_.clock;
    parts.as = normalize(user(uid_));
    parts.payer = {"test", 7, 0, {}};
    parts.deadline = deadline;
    parts.warn = [this](const std::string& line) {
      const std::lock_guard lock(mutex_);
      warned_.push_back(line);
    };
    auto view = view::PartialView::open(std::move(parts));
    EXPECT_TRUE(view) << view.error().message;
    if (!view) return out;
    out.view = std::move(*view);
    out.mount_again();
    return out;
  }
  [[nodiscard]] std::vector<std::string> warned() {
    const std::lock_guard lock(mutex_);
    return warned_;
  }

 private:
  NodeParts& node_;
  const std::uint32_t uid_;
  ThreadExecutor timers_{1};
  std::mutex mutex_;  ///< guards warned_
  std::vector<std::string> warned_;
};

/// All of a file, or what went wrong.
inline std::string content(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return "open: " + std::string(strerror(errno));
  std::string out, piece(128 * 1024, '\0');
  for (;;) {
    const ssize_t got = read(fd.get(), piece.data(), piece.size());
    if (got < 0) return "read: " + std::string(strerror(errno));
    if (got == 0) return out;
    out.append(piece, 0, static_cast<std::size_t>(got));
  }
}

}  // namespace atlas::agent
