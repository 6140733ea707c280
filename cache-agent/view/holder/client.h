#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cache-agent/view/holder/protocol.h"
#include "common/units.h"

namespace atlas::view {

/// Where the holder of a node listens.
[[nodiscard]] std::string holder_socket(const std::string& run_dir);

/// A conversation with the holder. Each call waits for the reply, two seconds at the most; after a failure the
/// conversation is over. Not thread-safe.
class HolderChannel {
 public:
  [[nodiscard]] Status connect(const std::string& socket);
  [[nodiscard]] bool connected() const { return bool(socket_); }
  void close() { socket_.reset(); }
  [[nodiscard]] Status hello(std::chrono::milliseconds deadline);
  [[nodiscard]] Status beat();
  [[nodiscard]] Status keep(const Kept& kept);
  [[nodiscard]] Status drop(std::uint64_t id);
  [[nodiscard]] Result<std::vector<Kept>> kept();

 private:
  struct Reply {
    Message message;
    std::vector<UniqueFd> fds;
  };
  [[nodiscard]] Result<Reply> ask(const Message& message, const std::vector<int>& fds = {});
  [[nodiscard]] Status ask_done(const Message& message, const std::vector<int>& fds = {});
  UniqueFd socket_;
};

/// The agent's side: what it serves is kept with the holder, from now on and again when a new holder comes. A thread of
/// its own says that this process lives, and looks for a holder that is away. Thread-safe. Its mutex is held while the
/// holder answers, which takes microseconds, and two seconds when it hangs.
class HolderClient {
 public:
  struct Options {
    std::string socket;
    std::chrono::milliseconds deadline{30'000};
    std::chrono::milliseconds beat{1'000};
    /// Called before each beat; false = this process does not get on with its work, and says nothing.
    std::function<bool()> alive = [] { return true; };
    std::function<void(const std::string&)> warn = [](const std::string&) {};
    std::function<void(const std::string&)> inform = [](const std::string&) {};
  };
  /// Looks for the holder at once. `kept()` then says what an agent before this one left.
  explicit HolderClient(Options options);
  ~HolderClient();
  HolderClient(const HolderClient&) = delete;
  HolderClient& operator=(const HolderClient&) = delete;

  /// What the holder keeps and this process does not serve; empty without a holder.
  [[nodiscard]] std::vector<Kept> kept();
  /// For Kept::id.
  [[nodiscard]] std::uint64_t new_id();
  /// From now on it outlives this process; again after a takeover. False while there is no holder: it is told later.
  bool keep(Kept kept);
  void drop(std::uint64_t id);
  /// No more beats, no more calls of the options' functions. What is kept stays with the holder.
  void stop();
  [[nodiscard]] bool connected() const;
  /// Whether a later agent will find it.
  [[nodiscard]] bool keeps(std::uint64_t id) const;

 private:
  void reach();
  void lost(const Error& error);
  void beat_until_stopped();

  const Options options_;
  mutable std::mutex mutex_;  ///< guards what follows
  HolderChannel channel_;
  std::map<std::uint64_t, Kept> served_;
  std::uint64_t last_id_ = 0;
  bool away_told_ = false, stop_ = false;
  std::condition_variable wake_;
  std::thread beats_;
};

}  // namespace atlas::view
