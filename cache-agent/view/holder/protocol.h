#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::view {

/// What agent and holder say to each other over a SOCK_SEQPACKET socket: requests and replies in turn, each one packet;
/// a beat has no reply. Both are built together but may be of different releases: a later one keeps these numbers.
enum class Verb : std::uint32_t {
  hello = 1,      ///< this process serves from now on; number = the deadline, in milliseconds
  beat = 2,       ///< it still does
  keep = 3,       ///< a connection, with its descriptors; again = the agent that says so serves it now
  drop = 4,       ///< the connection `number` is over
  next = 5,       ///< the first one that is kept with an id above `number`: answered by kept or end
  done = 100,     ///< the reply to hello, keep and drop
  kept = 101,     ///< as keep
  end = 102,      ///< there is no more
  refused = 103,  ///< `about` says why
};

struct Message {
  Verb verb = Verb::done;
  std::uint64_t number = 0;
  std::string about;  ///< what the agent needs to serve the connection again; the first line is for people
  std::string init;   ///< the kernel's first request on it
};
[[nodiscard]] std::string encode(const Message& message);
/// invalid_argument for anything that encode() does not make.
[[nodiscard]] Result<Message> decode(std::string_view bytes);

/// One FUSE connection as the holder keeps it.
struct Kept {
  std::uint64_t id = 0;
  std::string about, init;
  UniqueFd device;   ///< /dev/fuse
  UniqueFd control;  ///< its directory of fusectl: the kernel's switch, the count of requests without an answer
  /// What a later agent must have of the one before: requests that were read, where the kernel does not repeat them
  /// (before 6.9), or what it reads by itself (from 6.9 on). May be empty.
  UniqueFd memory;
};
/// The descriptors as they travel; no copies.
[[nodiscard]] std::vector<int> descriptors(const Kept& kept);
/// And back. invalid_argument when one is missing.
[[nodiscard]] Result<Kept> kept_of(Message message, std::vector<UniqueFd> fds);
/// With descriptors of its own.
[[nodiscard]] Result<Kept> copy(const Kept& kept);

/// How many requests of a connection wait for an answer, by its directory of fusectl; 0 once it is gone.
[[nodiscard]] std::uint64_t waiting_requests(int control);
/// Fails everything that waits, now and from now on. Never blocks.
void abort_connection(int control);
/// The kernel has ended it: its last mount is gone, or it was aborted.
[[nodiscard]] bool over(const Kept& kept);

}  // namespace atlas::view
