#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "cache-agent/view/holder/protocol.h"
#include "common/packet.h"
#include "common/units.h"

namespace atlas::view {

/// The holder itself: keeps the FUSE connections of the node's jobs while no agent serves them, and ends those whose
/// requests nobody answers in time, because the processes behind them cannot even be killed. One thread, no state
/// on disk; what it holds ends with it. Not thread-safe.
class Keeper {
 public:
  struct Options {
    std::string socket;                          ///< made here, 0600; its directory is made, too
    std::chrono::milliseconds deadline{30'000};  ///< until an agent says another
    std::chrono::milliseconds silence{3'000};    ///< an agent that has not been heard for so long serves nothing
    std::function<void(const std::string&)> log = [](const std::string&) {};
  };
  [[nodiscard]] static Result<std::unique_ptr<Keeper>> listen(Options options);
  /// Serves until `stop` can be read.
  void run(int stop);

 private:
  struct Held {
    Kept kept;
    int agent = -1;        ///< socket of the agent that has said it serves it; -1 = nobody
    SteadyTime quiet;      ///< then its agent was heard, or nothing waited
    bool aborted = false;  ///< and the kernel has not ended it yet
  };
  struct Peer {
    UniqueFd socket;
    SteadyTime heard;
  };
  Keeper(Options options, UniqueFd listener) : options_(std::move(options)), listener_(std::move(listener)) {}
  void accept_all();
  void read_from(int socket);
  [[nodiscard]] std::optional<Message> answer(int socket, Packet packet, std::vector<int>& fds);
  void keep(int socket, Kept kept);
  void leave(int socket);
  /// Looks after what nobody serves; returns how long the loop may sleep.
  [[nodiscard]] std::chrono::milliseconds watch(SteadyTime now);

  Options options_;
  UniqueFd listener_;
  std::map<int, Peer> peers_;
  std::map<std::uint64_t, Held> held_;
};

}  // namespace atlas::view
