#pragma once
#include <string>
#include <vector>

#include "atlas/v1/local.pb.h"
#include "common/packet.h"
#include "common/result.h"
#include "common/units.h"

namespace atlas::launcher {

struct AgentAnswer {
  v1::LocalReply reply;
  std::vector<UniqueFd> fds;
};

/// A connection to the cache agent of this node.
class AgentConnection {
 public:
  /// Never blocks. unavailable with the socket's path and the next step when nobody listens there.
  [[nodiscard]] static Result<AgentConnection> open(const std::string& socket_path);
  /// One request, one reply. The agent's own refusals come back as errors; deadline_exceeded, unavailable.
  [[nodiscard]] Result<AgentAnswer> call(v1::LocalRequest request, std::span<const UniqueFd> fds, SteadyTime deadline);

 private:
  AgentConnection(UniqueFd socket, std::string path) : socket_(std::move(socket)), path_(std::move(path)) {}
  UniqueFd socket_;
  std::string path_;
};

}  // namespace atlas::launcher
