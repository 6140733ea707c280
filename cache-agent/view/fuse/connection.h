#pragma once
#include <fuse_lowlevel.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cache-agent/view/fuse/backings.h"
#include "cache-agent/view/fuse/parked.h"
#include "cache-agent/view/fuse/request_slots.h"
#include "cache-agent/view/holder/client.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::view {

class ViewCore;

/// One FUSE connection: device, libfuse's session, and the threads that read requests. It ends when the last mount of
/// it is gone (the job's namespace has ended) or when it is aborted. When this process ends, what the holder keeps
/// waits for a later agent; without a holder it ends, too: reads fail with ENOTCONN instead of waiting for ever.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Options {
    std::string source;  ///< shown in the job's /proc/mounts
    mode_t root_type = S_IFDIR;
    bool noexec = false;
    unsigned threads = 4;
    Bytes read_ahead{kMiB};                  ///< of the kernel
    std::shared_ptr<HolderClient> holder{};  ///< null = it ends with this process
    std::string about{};                     ///< for the holder
    bool slots = false;                      ///< requests are kept in memory even where the kernel would repeat them
    bool passthrough = false;                ///< the kernel is to read by itself, if it can
  };
  struct Opened {
    std::shared_ptr<Connection> connection;
    UniqueFd mount;  ///< detached, nosuid, nodev, noatime, and read-only unless the job may write
  };
  /// Blocks until the kernel and the session have agreed.
  [[nodiscard]] static Result<Opened> open(std::shared_ptr<ViewCore> core, std::shared_ptr<ParkingLot> lot,
                                           const Options& options);
  /// Goes on with a connection whose agent is no more: what it left without an answer is answered now. Of the options
  /// only threads and holder count.
  [[nodiscard]] static Result<std::shared_ptr<Connection>> take_over(std::shared_ptr<ViewCore> core,
                                                                     std::shared_ptr<ParkingLot> lot, Kept kept,
                                                                     const Options& options);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Fails everything that waits in the kernel, from now on. Never blocks.
  void abort();
  /// After abort(): waits for the threads and answers what is parked. False when a thread has not ended by then (it
  /// hangs in the store's disk): it lets go of its part when it comes back.
  bool wait(SteadyTime until);
  [[nodiscard]] bool ended() const;
  /// A later agent will find it with the holder.
  [[nodiscard]] bool kept() const;
  /// Leaves it to that one: reads no more and answers nothing that waits. False when a thread has not ended by then.
  bool leave(SteadyTime until);

  [[nodiscard]] static Connection& of(fuse_req_t req) { return *static_cast<Connection*>(fuse_req_userdata(req)); }
  /// FUSE_CAP_* that the kernel has; set once, by INIT.
  [[nodiscard]] unsigned capable() const { return capable_.load(std::memory_order_relaxed); }
  void capable(unsigned flags) { capable_ = flags; }
  /// What the kernel reads by itself; null when it reads nothing so.
  [[nodiscard]] Backings* backings() const {
    return passes_.load(std::memory_order_acquire) ? backings_.get() : nullptr;
  }
  /// By INIT: kernel and libfuse can (or an earlier agent has agreed on it). False = nobody has asked for it.
  bool pass();
  [[nodiscard]] ViewCore& core() const { return *core_; }
  [[nodiscard]] ParkingLot& lot() const { return *lot_; }

 private:
  Connection(std::shared_ptr<ViewCore> core, std::shared_ptr<ParkingLot> lot, const Options& options);
  [[nodiscard]] Result<UniqueFd> mount(const Options& options) const;
  [[nodiscard]] Status prepare_control(int mount);
  [[nodiscard]] Status adopt(UniqueFd device);
  [[nodiscard]] Status wait_for_init();
  [[nodiscard]] Status deposit(const Options& options);
  [[nodiscard]] Status recall(const Kept& kept, const Options& options);
  [[nodiscard]] Backings::Kernel backing_calls();
  void look_after_later();
  void replay();
  void forget();
  void start();
  void serve(std::span<std::byte> slot);
  void process(std::span<const std::byte> request);
  static ssize_t read_request(int fd, void* buffer, std::size_t size, void* self);
  static ssize_t write_reply(int fd, iovec* parts, int count, void* self);

  const std::shared_ptr<ViewCore> core_;
  const std::shared_ptr<ParkingLot> lot_;
  const std::shared_ptr<HolderClient> holder_;
  const bool writable_;
  unsigned threads_;
  int device_ = -1;   ///< owned by the session
  dev_t number_ = 0;  ///< of the mount
  UniqueFd control_;  ///< the connection's directory of fusectl
  fuse_session* session_ = nullptr;
  std::shared_ptr<RequestSlots> slots_;  ///< the threads' memory; kept with the holder if the kernel repeats nothing
  std::string init_;                     ///< the kernel's first request; written by the thread that answers it
  std::shared_ptr<Backings> backings_;   ///< set before the threads start; null = not asked for
  std::atomic<bool> passes_{false};
  std::atomic<bool> told_{false};  ///< that the kernel refuses to
  std::atomic<bool> leaving_{false};
  std::atomic<std::uint64_t> init_request_{0};
  std::atomic<unsigned> capable_{0};

  mutable std::mutex mutex_;  ///< guards what follows
  std::condition_variable over_;
  std::vector<pthread_t> running_;
  bool ready_ = false;    ///< kernel and session have agreed
  std::uint64_t id_ = 0;  ///< with the holder; 0 = not kept
  agent::TimerHandle look_;
};

/// The kernel's requests, see operations.cc.
[[nodiscard]] const fuse_lowlevel_ops& view_operations();

}  // namespace atlas::view
