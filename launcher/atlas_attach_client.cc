#include "launcher/atlas_attach_client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace atlas::launcher {

Result<AgentConnection> AgentConnection::open(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Code::invalid_argument, "the agent's socket path is too long: " + path);
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno(errno, "socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int err = errno;
    auto error = fail_errno(err, "the cache agent of this node does not answer at " + path);
    if (err == ENOENT || err == ECONNREFUSED) error.value().message += " (is atlas-cache-agent running?)";
    return error;
  }
  return AgentConnection(std::move(socket), path);
}

Result<AgentAnswer> AgentConnection::call(v1::LocalRequest request, std::span<const UniqueFd> fds,
                                          SteadyTime deadline) {
  request.set_version(1);
  ATLAS_TRY(send_packet(socket_.get(), request.SerializeAsString(), fds));
  auto packet = receive_packet(socket_.get(), deadline);
  if (!packet) return fail(packet.error().in("the cache agent of this node (" + path_ + ")"));
  AgentAnswer answer{{}, std::move(packet->fds)};
  if (!answer.reply.ParseFromString(packet->bytes) || answer.reply.version() != 1)
    return fail(Code::unimplemented,
                "the cache agent speaks another version of the protocol; restart it after an upgrade");
  if (answer.reply.code() != 0) return fail(static_cast<Code>(answer.reply.code()), answer.reply.message());
  return answer;
}

}  // namespace atlas::launcher
