#include "common/packet.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace atlas {
namespace {

/// Milliseconds to hand to poll(), rounded up so that a wait never ends just before its deadline.
int poll_timeout(SteadyTime deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, std::int64_t{24} * 3600 * 1000));
}

void take_descriptors(msghdr& message, Packet& packet) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      packet.fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<SocketPair> make_socket_pair() {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) != 0) return fail_errno(errno, "socketpair");
  return SocketPair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Status send_packet(int socket, std::string_view bytes, std::span<const UniqueFd> fds) {
  std::vector<int> raw(fds.size());
  std::transform(fds.begin(), fds.end(), raw.begin(), [](const UniqueFd& fd) { return fd.get(); });
  return send_packet(socket, bytes, std::span<const int>(raw));
}

Status send_packet(int socket, std::string_view bytes, std::span<const int> fds) {
  if (bytes.empty() || bytes.size() > kMaxPacket || fds.size() > kMaxPacketFds)
    return fail(Code::out_of_range, "a packet of " + std::to_string(bytes.size()) + " bytes and " +
                                        std::to_string(fds.size()) + " descriptors cannot be sent");
  iovec data{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxPacketFds * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(part), fds.data(), fds.size_bytes());
  }
  while (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
    if (errno != EINTR) return fail_errno(errno, "send");
  return {};
}

Result<Packet> receive_packet(int socket) {
  Packet packet;
  packet.bytes.resize(kMaxPacket);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxPacketFds * sizeof(int))> control{};
  iovec data{packet.bytes.data(), packet.bytes.size()};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  while ((got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)) < 0)
    if (errno != EINTR) return fail_errno(errno, "receive");
  take_descriptors(message, packet);
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return fail(Code::out_of_range, "packet too large");
  if (got == 0) return fail(Code::cancelled, "the peer closed the connection");
  packet.bytes.resize(static_cast<std::size_t>(got));
  return packet;
}

Result<Packet> receive_packet(int socket, SteadyTime deadline) {
  pollfd wait{socket, POLLIN, 0};
  while (true) {
    const int ready = ::poll(&wait, 1, poll_timeout(deadline));
    if (ready < 0 && errno != EINTR) return fail_errno(errno, "poll");
    if (ready > 0) return receive_packet(socket);
    if (std::chrono::steady_clock::now() >= deadline) return fail(Code::deadline_exceeded, "no answer in time");
  }
}

}  // namespace atlas
