#pragma once
#include <fuse_lowlevel.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "cache-agent/fetch/executor.h"
#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/view/fuse/request_slots.h"
#include "common/units.h"

namespace atlas::view {

class ParkingLot;

/// A request of the kernel that waits, while the thread that read it serves others. Answered exactly once: by what it
/// waits for, by its deadline, by the death of its process, or when the connection ends. Thread-safe.
class Parked {
 public:
  using Reply = std::function<void(fuse_req_t)>;
  /// Answers, unless somebody has: false then, and `reply` is not called.
  bool answer(Reply reply);
  bool fail(int error);
  /// Kept until the answer; a fetch that is not needed any more tells nobody. The end of one round may begin the next
  /// before the first one's waiter is handed over here: one of an earlier round does not replace a later one's.
  void hold(unsigned round, agent::Waiter waiter);
  [[nodiscard]] bool answered() const;

 private:
  friend class ParkingLot;
  Parked(ParkingLot& lot, std::uint64_t id, fuse_req_t req, pid_t pid, SteadyTime until, std::string what)
      : lot_(lot), id_(id), req_(req), pid_(pid), until_(until), what_(std::move(what)) {}
  void arm();

  ParkingLot& lot_;  ///< outlives every parked request that is not answered
  const std::uint64_t id_;
  fuse_req_t const req_;
  const pid_t pid_;
  SteadyTime until_;  ///< guarded by the lot's mutex
  const std::string what_;
  int slot_ = -1;  ///< of RequestSlots; set before anybody else knows this object

  mutable std::mutex mutex_;  ///< guards what follows
  bool armed_ = false;        ///< the interrupt's function is set, so the request may be answered
  bool done_ = false;
  Reply outcome_;       ///< of an answer that came before
  unsigned round_ = 0;  ///< of waiter_
  agent::Waiter waiter_;
};

/// The parked requests of one connection. Thread-safe.
class ParkingLot : public std::enable_shared_from_this<ParkingLot> {
 public:
  struct Options {
    std::chrono::milliseconds deadline{30'000};  ///< then EIO
    /// While it says so no deadline ends, and they begin anew afterwards: requests wait for a limit, not for an origin.
    std::function<bool()> excused = [] { return false; };
    /// Told of each request that its deadline ended; must not block.
    std::function<void(const std::string& what)> expired = [](const std::string&) {};
  };
  /// Both outlive it.
  ParkingLot(agent::Executor& timers, const Clock& clock, Options options)
      : timers_(timers), clock_(clock), options_(std::move(options)) {}

  /// From now on requests that wait are kept there, too. Once, before the first.
  void keep_in(std::shared_ptr<RequestSlots> slots);
  /// `what` names the request in messages. Of a connection that ends the request is answered at once.
  [[nodiscard]] std::shared_ptr<Parked> park(fuse_req_t req, std::string what);
  /// The kernel wants the request back. A process that is being killed must not wait: it is answered at once. One that
  /// only got a signal goes on waiting, as on any disk: EINTR from a regular file breaks programs, and under mmap it is
  /// SIGBUS; it is looked at again ten times a second, because the kernel tells of the first signal only.
  void interrupt(std::uint64_t id);
  /// Answers everything, now and from now on, with EIO; returns when no answer is under way any more.
  void close();
  /// Same, but without an answer: a later agent gives it.
  void leave();
  /// Signals that came before the requests were replayed went to an agent that is no more: looks after them all.
  void suspect_all();
  [[nodiscard]] std::size_t waiting() const;

 private:
  friend class Parked;
  void left(std::uint64_t id);
  void sweep();
  void end(bool answer);
  void wake_at(SteadyTime when);

  agent::Executor& timers_;
  const Clock& clock_;
  const Options options_;
  mutable std::mutex mutex_;  ///< guards what follows; never held over an answer
  std::shared_ptr<RequestSlots> slots_;
  std::condition_variable idle_;
  bool closed_ = false, left_ = false;
  unsigned answering_ = 0;  ///< parked requests whose answer is not through
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, std::shared_ptr<Parked>> waiting_;  ///< ids and deadlines grow together
  std::set<std::uint64_t> signalled_;
  SteadyTime wake_ = SteadyTime::max();
  agent::TimerHandle timer_;
};

}  // namespace atlas::view
