#pragma once
#include <fuse_lowlevel.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "cache-agent/view/fuse/parked.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::view {

class ViewCore;

/// One FUSE connection: device, libfuse's session, and the threads that read requests. It ends when the last mount of
/// it is gone (the job's namespace has ended), when it is aborted, or with this process: then reads fail with ENOTCONN
/// instead of waiting for ever.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Options {
    std::string source;  ///< shown in the job's /proc/mounts
    mode_t root_type = S_IFDIR;
    bool noexec = false;
    unsigned threads = 4;
    Bytes read_ahead{kMiB};  ///< of the kernel
  };
  struct Opened {
    std::shared_ptr<Connection> connection;
    UniqueFd mount;  ///< detached, read-only, nosuid, nodev, noatime
  };
  /// Blocks until the kernel and the session have agreed.
  [[nodiscard]] static Result<Opened> open(std::shared_ptr<ViewCore> core, std::shared_ptr<ParkingLot> lot,
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

  [[nodiscard]] static Connection& of(fuse_req_t req) { return *static_cast<Connection*>(fuse_req_userdata(req)); }
  /// FUSE_CAP_* that the kernel has; set once, by INIT.
  [[nodiscard]] unsigned capable() const { return capable_.load(std::memory_order_relaxed); }
  void capable(unsigned flags) { capable_ = flags; }
  [[nodiscard]] ViewCore& core() const { return *core_; }
  [[nodiscard]] ParkingLot& lot() const { return *lot_; }

 private:
  Connection(std::shared_ptr<ViewCore> core, std::shared_ptr<ParkingLot> lot, UniqueFd device);
  [[nodiscard]] Result<UniqueFd> mount(const Options& options) const;
  [[nodiscard]] Status prepare_abort(int mount);
  void serve();
  static ssize_t read_request(int fd, void* buffer, std::size_t size, void* self);
  static ssize_t write_reply(int fd, iovec* parts, int count, void* self);

  const std::shared_ptr<ViewCore> core_;
  const std::shared_ptr<ParkingLot> lot_;
  UniqueFd device_;
  UniqueFd abort_;  ///< the kernel's switch for this connection
  fuse_session* session_ = nullptr;
  bool adopted_ = false;  ///< the session owns the device
  std::atomic<std::uint64_t> init_request_{0};
  std::atomic<unsigned> capable_{0};

  mutable std::mutex mutex_;  ///< guards running_
  std::condition_variable over_;
  unsigned running_ = 0;
};

/// The kernel's requests, see operations.cc.
[[nodiscard]] const fuse_lowlevel_ops& view_operations();

}  // namespace atlas::view
