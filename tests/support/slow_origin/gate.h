#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace atlas::slow_origin {

enum class Op : std::uint8_t {
  kLookup,
  kGetattr,
  kSetattr,
  kReadlink,
  kMknod,
  kMkdir,
  kUnlink,
  kRmdir,
  kSymlink,
  kRename,
  kLink,
  kOpen,
  kCreate,
  kRead,
  kWrite,
  kFsync,
  kFallocate,
  kLseek,
  kOpendir,
  kReaddir,
  kStatfs,
  kGetxattr,
  kSetxattr,
  kListxattr,
  kRemovexattr,
  kCount_
};
inline constexpr std::size_t kOpCount = static_cast<std::size_t>(Op::kCount_);

/// The name of an operation in statistics and in the commands `hang` and `fail`, such as "lookup".
std::string_view op_name(Op op);
std::optional<Op> op_from_name(std::string_view name);

/// Which operations a `hang` or `fail` command concerns. An empty set of operations means all of them.
struct Selection {
  std::string pattern;  ///< fnmatch pattern against the path below the origin; empty = every path
  std::set<Op> ops;
};

/// One operation on its way in. `path` is called only when some pattern needs it.
struct Visit {
  Op op;
  uid_t uid;
  const std::function<std::string()>& path;
  /// Installs a wake-up that the visitor calls when its caller gives up; empty when interrupts are not honoured.
  const std::function<void(std::function<void()> wake)>& on_interrupt;
};

/// What makes the origin slow, unreliable and observable: every operation enters here before it touches the directory.
/// Thread-safe. Blocks the calling thread for the latency, the bandwidth share and a hang; that is its purpose.
class Gate {
 public:
  /// Counts the operation, waits the latency, then for the end of a hang that concerns it.
  /// Returns 0, or the errno to answer with (an injected failure, or EINTR when the caller gave up during a hang).
  int enter(const Visit& visit);
  /// The operation is answered.
  void leave();
  /// Counts bytes that moved for `uid` and waits until the bandwidth allows them.
  void moved(Op op, uid_t uid, std::uint64_t bytes);

  void set_latency(std::chrono::microseconds latency);
  void set_bandwidth(std::uint64_t bytes_per_second);  ///< 0 = no cap
  void hang(Selection what);                           ///< several hangs add up
  void fail(Selection what, int error);                ///< several failures add up; the first match answers
  struct Short {
    std::string pattern;
    std::uint64_t most;  ///< bytes that a read is answered with; 0 = as at the end
    bool cached;         ///< the kernel's page cache is in between: it takes what is short for the file's end
  };
  /// Reads of files that match and are opened from now on are answered with less than they ask for. One at a time.
  void shorten(Short how);
  void resume();  ///< ends all hangs
  void heal();    ///< ends all injected failures and short reads
  void reset();   ///< counters back to zero; settings stay
  nlohmann::json stats() const;
  /// How much of a file is given to one read; nothing = all that it asks for.
  std::optional<Short> shortens(const std::string& path) const;
  /// A read was answered with less than was asked for, and than is there.
  void note_short();

 private:
  struct Counters {
    std::array<std::uint64_t, kOpCount> ops{};
    std::uint64_t read_bytes = 0;
    std::uint64_t write_bytes = 0;
  };
  struct Failure {
    Selection what;
    int error;
  };

  static nlohmann::json to_json(const Counters& counters);
  static bool concerns(const Selection& what, const Visit& visit, std::optional<std::string>& path);
  bool hangs(const Visit& visit, std::optional<std::string>& path) const;
  int wait_out_hang(const Visit& visit, std::unique_lock<std::mutex>& lock, std::optional<std::string>& path);

  mutable std::mutex mutex_;  ///< guards everything below; never held while sleeping
  std::condition_variable resumed_;
  std::chrono::microseconds latency_{0};
  std::uint64_t bytes_per_second_ = 0;
  std::chrono::steady_clock::time_point pipe_free_at_{};
  std::uint64_t pace_ = 0;  ///< changes of the bandwidth
  std::vector<Selection> hangs_;
  std::vector<Failure> failures_;
  std::optional<Short> short_;
  Counters total_;
  std::map<uid_t, Counters> by_uid_;
  std::uint64_t in_flight_ = 0, max_in_flight_ = 0, hanging_ = 0, failed_ = 0, shortened_ = 0;
};

}  // namespace atlas::slow_origin
