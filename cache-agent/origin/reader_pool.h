#pragma once
#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
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
  /// (or hanging) reads of whole datasets hold all others. Half of them are what one user can take at most, whatever he
  /// asks for: what hangs of the storage is often one server, and one user's.
  static constexpr unsigned kSpare = 8, kSpareOfOne = 4;

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
    /// The first one's whose turn it is and who may have another one running.
    [[nodiscard]] Job pop(std::deque<std::uint32_t>::iterator turn);
  };
  struct Shared {
    mutable std::mutex mutex;  ///< guards everything here
    std::condition_variable wake;
    std::array<Queue, kUrgencies> queues;
    std::size_t queued = 0, idle = 0, busy = 0;
    unsigned bulk = 0, most_bulk = 0;           ///< tasks under way that are not urgent, and how many may be
    unsigned most_each = 0;                     ///< tasks under way of one user
    std::map<std::uint32_t, unsigned> running;  ///< by user
    bool stop = false;

    /// The queue to serve next, and whose turn it is; nothing when there is nothing that may be served now.
    std::optional<std::pair<Queue*, std::deque<std::uint32_t>::iterator>> next();
  };
  static void serve(const std::shared_ptr<Shared>& shared);

  const unsigned most_;
  std::shared_ptr<Shared> shared_;
  std::vector<std::thread> threads_;  ///< guarded by shared_->mutex
  std::shared_ptr<const Principal> last_;
};

/// Makes the calling thread act as `as` for file access, by raw system calls (glibc's would change every thread).
[[nodiscard]] Status become(const Principal& as);
/// As whom the calling thread acts; null when it acts as its process.
[[nodiscard]] const Principal* current_principal();
/// Gives up all capabilities of the calling thread but those that become() needs. A no-op without root.
[[nodiscard]] Status drop_reader_capabilities();
/// Fills in the groups of the node's own user database when there are none, and normalizes. Cached for 60 s per user;
/// may block on a directory service.
[[nodiscard]] Principal with_groups(const Principal& principal);

}  // namespace atlas::agent
