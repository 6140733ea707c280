#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"
#include "common/units.h"

namespace atlas {

/// Limits of one packet on a SOCK_SEQPACKET socket. The kernel takes at most 253 descriptors.
inline constexpr std::size_t kMaxPacket = std::size_t{64} * 1024;
inline constexpr std::size_t kMaxPacketFds = 250;

/// One message with the descriptors that came along (all close-on-exec).
struct Packet {
  std::string bytes;
  std::vector<UniqueFd> fds;
};

/// A connected pair of SOCK_SEQPACKET sockets, close-on-exec.
struct SocketPair {
  UniqueFd ours, theirs;
};
[[nodiscard]] Result<SocketPair> make_socket_pair();

/// Sends one packet, whole or not at all; never raises SIGPIPE, never blocks (unavailable when the peer does not read).
[[nodiscard]] Status send_packet(int socket, std::string_view bytes, std::span<const UniqueFd> fds = {});
[[nodiscard]] Status send_packet(int socket, std::string_view bytes, std::span<const int> fds);

/// Takes the packet that is waiting. cancelled = the peer has closed; unavailable (EAGAIN) = there is none;
/// out_of_range = larger than the limits (its descriptors are closed).
[[nodiscard]] Result<Packet> receive_packet(int socket);
/// Waits for a packet until `deadline`, then deadline_exceeded.
[[nodiscard]] Result<Packet> receive_packet(int socket, SteadyTime deadline);

}  // namespace atlas
