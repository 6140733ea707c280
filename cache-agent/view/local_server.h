#pragma once
#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/packet.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "common/units.h"

namespace atlas::view {

/// A SOCK_SEQPACKET server for root on this machine. One thread waits for packets and never blocks on a peer; a few
/// workers run the handlers. A connection carries one request at a time: further packets stay in the socket until the
/// reply is sent. A peer that does not read its reply, or sends nothing for a while, is dropped.
class LocalServer {
 public:
  using Connection = std::uint64_t;
  struct Handlers {
    /// On a worker. Must lead to exactly one reply() on the connection, now or later.
    std::function<void(Connection, Packet)> packet;
    /// On a worker, once per connection that had sent something, after its last packet.
    std::function<void(Connection)> closed;
    /// On a worker, every `tick` while there are connections.
    std::function<void()> tick;
  };
  struct Options {
    std::string path;
    unsigned workers = 8;
    std::size_t most_connections = 1024;
    std::chrono::milliseconds idle_limit{30000};
    std::chrono::milliseconds tick{100};
    bool any_user = false;  ///< for tests: without it every peer but root is turned away
  };

  /// Listens on `path` (0600), in place of what is there. Clients can connect, but nobody is answered before serve().
  [[nodiscard]] static Result<std::unique_ptr<LocalServer>> listen(Options options);
  /// Starts the threads; once. Handlers may call reply() from their first packet on.
  void serve(Handlers handlers);
  /// Stops listening, drops all connections, waits for running handlers. A reply() after that does nothing.
  ~LocalServer();
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;

  /// Sends the reply; any thread. A connection that is gone, or full, is dropped.
  void reply(Connection connection, const std::string& bytes, const std::vector<UniqueFd>& fds);
  [[nodiscard]] std::size_t connections() const;
  /// The process that has connected; 0 if it is gone, or not to be seen from here.
  [[nodiscard]] pid_t process_of(Connection connection) const;

 private:
  struct Peer {
    UniqueFd socket;  ///< empty when the peer has left while its request was with a handler
    pid_t process = 0;
    bool busy = false;  ///< a request is with a handler
    bool heard = false;
    SteadyTime last;
  };

  LocalServer(Options options, UniqueFd listener, UniqueFd wake);
  void loop();
  void work();
  bool accept_all();
  void read_from(Connection connection);
  void drop(Connection connection);
  void drop_idle(SteadyTime now);
  void post(std::function<void()> task);
  void wake() const;

  Options options_;
  Handlers handlers_;
  UniqueFd listener_;
  UniqueFd wake_;  ///< eventfd: the loop looks again

  mutable std::mutex mutex_;  ///< guards all below
  std::condition_variable work_ready_;
  bool stopping_ = false;
  Connection next_ = 1;
  std::map<Connection, Peer> peers_;
  std::deque<std::function<void()>> tasks_;

  std::vector<std::jthread> workers_;
  std::jthread loop_;
};

}  // namespace atlas::view
