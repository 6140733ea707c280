#include "cache-agent/view/holder/keeper.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

namespace atlas::view {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMostPeers = 64;

SteadyTime now() {
  return std::chrono::steady_clock::now();
}

bool is_root(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

std::string name_of(const Kept& kept) {
  return "connection " + std::to_string(kept.id) + " (" + kept.about.substr(0, kept.about.find('\n')) + ")";
}

}  // namespace

Result<std::unique_ptr<Keeper>> Keeper::listen(Options options) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(options.socket).parent_path(), error);
  if (error) return fail_errno(error.value(), "cannot make the directory of " + options.socket);
  // Bound under another name and renamed, so that an agent never meets a socket nobody listens on.
  const std::string temporary = options.socket + ".new";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (temporary.size() >= sizeof address.sun_path)
    return fail(Code::invalid_argument, "agent.run_dir: the path is too long for a socket: " + options.socket);
  std::memcpy(address.sun_path, temporary.data(), temporary.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno(errno, "socket");
  ::unlink(temporary.c_str());
  if (::fchmod(socket.get(), 0600) != 0 ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(temporary.c_str(), 0600) != 0 || ::listen(socket.get(), 64) != 0 ||
      ::rename(temporary.c_str(), options.socket.c_str()) != 0)
    return fail_errno(errno, "cannot listen on " + options.socket);
  return std::unique_ptr<Keeper>(new Keeper(std::move(options), std::move(socket)));
}

void Keeper::run(int stop) {
  for (;;) {
    const auto sleep = watch(now());
    std::vector<pollfd> polls{{stop, POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const auto& [socket, peer] : peers_) polls.push_back({socket, POLLIN, 0});
    // Without events a device tells of its end only.
    for (const auto& [id, held] : held_) polls.push_back({held.kept.device.get(), 0, 0});
    ::poll(polls.data(), polls.size(), static_cast<int>(sleep.count()));
    if (polls[0].revents != 0) return;
    std::vector<int> ready;
    for (std::size_t i = 2; i < 2 + peers_.size(); ++i)
      if (polls[i].revents != 0) ready.push_back(polls[i].fd);
    for (const int peer : ready) read_from(peer);
    if (polls[1].revents != 0) accept_all();
  }
}

void Keeper::accept_all() {
  for (;;) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    if (!is_root(socket.get()) || peers_.size() >= kMostPeers) continue;  // closed
    const int fd = socket.get();
    peers_[fd] = Peer{std::move(socket), now()};
  }
}

void Keeper::read_from(int socket) {
  auto packet = receive_packet(socket);
  if (!packet && packet.error().code == Code::unavailable) return;
  if (!packet) return leave(socket);
  std::vector<int> fds;
  const auto reply = answer(socket, std::move(*packet), fds);
  // A peer that does not take its reply is not waited for.
  if (reply && !send_packet(socket, encode(*reply), std::span<const int>(fds))) leave(socket);
}

/// Nothing for what has no reply.
std::optional<Message> Keeper::answer(int socket, Packet packet, std::vector<int>& fds) {
  auto message = decode(packet.bytes);
  if (!message) return Message{Verb::refused, 0, message.error().message, ""};
  auto& peer = peers_.at(socket);
  switch (message->verb) {
    case Verb::hello:
      options_.deadline = milliseconds(message->number);
      peer.heard = now();
      return Message{};
    case Verb::beat:
      peer.heard = now();
      return std::nullopt;
    case Verb::keep: {
      auto kept = kept_of(std::move(*message), std::move(packet.fds));
      if (!kept) return Message{Verb::refused, 0, kept.error().message, ""};
      keep(socket, std::move(*kept));
      return Message{};
    }
    case Verb::drop:
      held_.erase(message->number);
      return Message{};
    case Verb::next: {
      const auto found = held_.upper_bound(message->number);
      if (found == held_.end()) return Message{Verb::end, 0, "", ""};
      fds = descriptors(found->second.kept);
      return Message{Verb::kept, found->first, found->second.kept.about, found->second.kept.init};
    }
    default:
      return Message{Verb::refused, 0, "the holder does not know this request; restart it when no job runs", ""};
  }
}

void Keeper::keep(int socket, Kept kept) {
  auto& held = held_[kept.id];
  if (held.kept.device && held.agent != socket) options_.log(name_of(kept) + ": another agent serves it now");
  held = Held{std::move(kept), socket, now(), false};
}

void Keeper::leave(int socket) {
  unsigned count = 0;
  for (auto& [id, held] : held_)
    if (held.agent == socket) {
      held.agent = -1;
      held.quiet = now();
      ++count;
    }
  peers_.erase(socket);
  if (count != 0)
    options_.log("the agent has gone: " + std::to_string(count) + " connections wait for another for " +
                 format_duration(options_.deadline));
}

milliseconds Keeper::watch(SteadyTime at) {
  milliseconds sleep{60'000};
  const milliseconds step = std::clamp(options_.deadline / 10, milliseconds(10), milliseconds(500));
  for (auto it = held_.begin(); it != held_.end();) {
    auto& held = it->second;
    if (over(held.kept)) {
      it = held_.erase(it);
      continue;
    }
    ++it;
    const auto peer = peers_.find(held.agent);
    if (peer != peers_.end() && at - peer->second.heard < options_.silence) {
      held.quiet = peer->second.heard;
      sleep = std::min(sleep, milliseconds(1000));
      continue;
    }
    sleep = std::min(sleep, step);
    const auto waiting = waiting_requests(held.kept.control.get());
    if (waiting == 0) {
      held.quiet = at;
    } else if (at - held.quiet >= options_.deadline && !held.aborted) {
      options_.log(name_of(held.kept) + ": aborted: " + std::to_string(waiting) +
                   " requests of the job had no answer from an agent for " + format_duration(options_.deadline));
      abort_connection(held.kept.control.get());
      held.aborted = true;
    }
  }
  return sleep;
}

}  // namespace atlas::view
