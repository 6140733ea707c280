#pragma once
#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "cache-agent/manifest/ids.h"
#include "cache-agent/origin/origin.h"
#include "common/result.h"

namespace atlas::agent {

/// Threads that act as users. Each gives up, for good, every capability but CAP_SETUID and CAP_SETGID: what the modes
/// of the storage refuse to a user is refused to his thread too. Started by a process that is not root, they act as
/// that process's own user whoever is asked for. Thread-safe.
class ReaderPool {
 public:
  using Task = std::function<void(Status)>;
  /// Threads that warm-ups cannot take: a fault, a walk or a check of access finds one free although an origin's slow
  /// (or hanging) reads of whole datasets hold all others.
  static constexpr unsigned kSpare = 4;

  /// Threads are started as they are needed: at most `most`, and kSpare more that serve urgent tasks alone.
  explicit ReaderPool(unsigned most);
  /// Runs no further task and waits for those under way.
  ~ReaderPool();
  ReaderPool(const ReaderPool&) = delete;
  ReaderPool& operator=(const ReaderPool&) = delete;

  /// Queues a task; more urgent ones overtake. Of the same urgency users take turns, however many tasks each has, and a
  /// user's are served in order.
  void post(const Principal& as, Urgency urgency, Task task);
  [[nodiscard]] std::size_t busy() const;

 private:
  struct Job {
    std::shared_ptr<const Principal> as;
    Task task;
  };
  /// Tasks of one urgency.
  struct Queue {
    std::map<std::uint32_t, std::deque<Job>> of;  ///< by user; none is empty
    std::deque<std::uint32_t> turns;              ///< of these users
    void push(Job job);
    [[nodiscard]] Job pop();
  };
  struct Shared {
    mutable std::mutex mutex;  ///< guards everything here
    std::condition_variable wake;
    std::array<Queue, kUrgencies> queues;
    std::size_t queued = 0, idle = 0, busy = 0;
    unsigned bulk = 0, most_bulk = 0;  ///< tasks under way that are not urgent, and how many may be
    bool stop = false;

    /// The queue to serve next; null when there is nothing that may be served now.
    Queue* next();
  };
  static void serve(const std::shared_ptr<Shared>& shared);

  const unsigned most_;
  std::shared_ptr<Shared> shared_;
  std::vector<std::thread> threads_;  ///< guarded by shared_->mutex
  std::shared_ptr<const Principal> last_;
};

/// Makes the calling thread act as `as` for file access, by raw system calls (glibc's would change every thread).
[[nodiscard]] Status become(const Principal& as);
/// Gives up all capabilities of the calling thread but those that become() needs. A no-op without root.
[[nodiscard]] Status drop_reader_capabilities();
/// Fills in the groups of the node's own user database when there are none, and normalizes. Cached for 60 s per user;
/// may block on a directory service.
[[nodiscard]] Principal with_groups(const Principal& principal);

}  // namespace atlas::agent
