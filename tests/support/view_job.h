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

/// Jobs of one user that read a dataset through partial views. Outlives its jobs.
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
  explicit ViewJobs(std::uint32_t uid) : uid_(uid) {}

  /// A view of what the origin has now, of which `most` bytes may be kept (0 = all of it).
  Job start(NodeParts& node, Bytes most = {}, std::chrono::milliseconds deadline = std::chrono::seconds(30),
            std::uint32_t job = 7) {
    const auto replica = open(node, most);
    EXPECT_TRUE(replica) << replica.error().message;
    return replica ? show(node, *replica, deadline, job) : Job{};
  }
  /// The two halves of it.
  Result<std::shared_ptr<Replica>> open(NodeParts& node, Bytes most = {}) const {
    return node.engine->open_partial({"o", dataset}, user(uid_), most, node.clock.now() + std::chrono::seconds(20));
  }
  Job show(NodeParts& node, const std::shared_ptr<Replica>& replica, std::chrono::milliseconds deadline,
           std::uint32_t job, std::shared_ptr<const Share> share = nullptr) {
    Job out;
    out.replica = replica;
    view::PartialViewParts parts;
    parts.replica = replica;
    parts.fetcher = node.fetcher.get();
    parts.origin = &node.origin;
    parts.timers = &timers_;
    parts.clock = &node.clock;
    parts.as = normalize(user(uid_));
    parts.payer = {"test", job, 0, {}};
    parts.deadline = deadline;
    parts.passthrough = passthrough;
    parts.share = std::move(share);
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
  std::string dataset = "ds";  ///< of views that are made from now on
  bool passthrough = true;     ///< of views that are made from now on, where machine and dataset suit it
  [[nodiscard]] std::vector<std::string> warned() {
    const std::lock_guard lock(mutex_);
    return warned_;
  }

 private:
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
