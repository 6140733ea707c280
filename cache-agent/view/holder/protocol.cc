#include "cache-agent/view/holder/protocol.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace atlas::view {
namespace {

constexpr std::uint32_t kMagic = 0x41564831;  // "AVH1"

struct Head {
  std::uint32_t magic = kMagic;
  std::uint32_t verb = 0;
  std::uint64_t number = 0;
  std::uint32_t about_size = 0;
  std::uint32_t init_size = 0;
};

Result<UniqueFd> duplicate(const UniqueFd& fd) {
  if (!fd) return UniqueFd();
  UniqueFd made(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!made) return fail_errno(errno, "dup");
  return made;
}

}  // namespace

std::string encode(const Message& message) {
  Head head;
  head.verb = static_cast<std::uint32_t>(message.verb);
  head.number = message.number;
  head.about_size = static_cast<std::uint32_t>(message.about.size());
  head.init_size = static_cast<std::uint32_t>(message.init.size());
  std::string out(reinterpret_cast<const char*>(&head), sizeof head);
  return out + message.about + message.init;
}

Result<Message> decode(std::string_view bytes) {
  Head head;
  if (bytes.size() < sizeof head) return fail(Code::invalid_argument, "malformed packet");
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.magic != kMagic || bytes.size() - sizeof head != std::uint64_t{head.about_size} + head.init_size)
    return fail(Code::invalid_argument, "malformed packet: are agent and holder of the same release?");
  const auto rest = bytes.substr(sizeof head);
  return Message{static_cast<Verb>(head.verb), head.number, std::string(rest.substr(0, head.about_size)),
                 std::string(rest.substr(head.about_size))};
}

std::vector<int> descriptors(const Kept& kept) {
  std::vector<int> out{kept.device.get(), kept.control.get()};
  if (kept.memory) out.push_back(kept.memory.get());
  return out;
}

Result<Kept> kept_of(Message message, std::vector<UniqueFd> fds) {
  if (fds.size() < 2 || fds.size() > 3)
    return fail(Code::invalid_argument, "a connection has two descriptors or three");
  Kept out{message.number,    std::move(message.about), std::move(message.init),
           std::move(fds[0]), std::move(fds[1]),        UniqueFd()};
  if (fds.size() == 3) out.memory = std::move(fds[2]);
  return out;
}

Result<Kept> copy(const Kept& kept) {
  Kept out{kept.id, kept.about, kept.init, {}, {}, {}};
  ATLAS_ASSIGN(out.device, duplicate(kept.device));
  ATLAS_ASSIGN(out.control, duplicate(kept.control));
  ATLAS_ASSIGN(out.memory, duplicate(kept.memory));
  return out;
}

std::uint64_t waiting_requests(int control) {
  const UniqueFd file(::openat(control, "waiting", O_RDONLY | O_CLOEXEC));  // an open one gives its number once
  char text[32] = {};
  const ssize_t got = file ? ::read(file.get(), text, sizeof text - 1) : 0;
  return got > 0 ? std::strtoull(text, nullptr, 10) : 0;
}

void abort_connection(int control) {
  const UniqueFd file(::openat(control, "abort", O_WRONLY | O_CLOEXEC));
  if (file) (void)!::write(file.get(), "1", 1);
}

bool over(const Kept& kept) {
  pollfd look{kept.device.get(), 0, 0};
  return ::poll(&look, 1, 0) == 1 && (look.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
}

}  // namespace atlas::view
