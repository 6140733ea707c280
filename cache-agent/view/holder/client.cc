#include "cache-agent/view/holder/client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/packet.h"

namespace atlas::view {
namespace {

constexpr std::chrono::seconds kPatience{2};

}  // namespace

std::string holder_socket(const std::string& run_dir) {
  return run_dir + "/holder.sock";
}

Status HolderChannel::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(Code::invalid_argument, "the path is too long: " + path);
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno(errno, "socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno(errno, path);
  socket_ = std::move(socket);
  return {};
}

Result<HolderChannel::Reply> HolderChannel::ask(const Message& message, const std::vector<int>& fds) {
  if (!socket_) return fail(Code::unavailable, "not connected");
  if (auto sent = send_packet(socket_.get(), encode(message), std::span<const int>(fds)); !sent) {
    close();
    return fail(std::move(sent).error());
  }
  auto packet = receive_packet(socket_.get(), std::chrono::steady_clock::now() + kPatience);
  if (!packet) {
    close();  // a late reply must not be taken for that of the next request
    return fail(std::move(packet).error());
  }
  ATLAS_ASSIGN(auto reply, decode(packet->bytes));
  if (reply.verb == Verb::refused) return fail(Code::failed_precondition, "the holder refused: " + reply.about);
  return Reply{std::move(reply), std::move(packet->fds)};
}

Status HolderChannel::ask_done(const Message& message, const std::vector<int>& fds) {
  ATLAS_ASSIGN(const auto reply, ask(message, fds));
  if (reply.message.verb != Verb::done) return fail(Code::internal, "an unexpected reply of the holder");
  return {};
}

Status HolderChannel::hello(std::chrono::milliseconds deadline) {
  return ask_done({Verb::hello, static_cast<std::uint64_t>(deadline.count()), "", ""});
}

Status HolderChannel::beat() {
  if (!socket_) return fail(Code::unavailable, "not connected");
  auto sent = send_packet(socket_.get(), encode({Verb::beat, 0, "", ""}));
  if (!sent) close();
  return sent;
}

Status HolderChannel::keep(const Kept& kept) {
  return ask_done({Verb::keep, kept.id, kept.about, kept.init}, descriptors(kept));
}

Status HolderChannel::drop(std::uint64_t id) {
  return ask_done({Verb::drop, id, "", ""});
}

Result<std::vector<Kept>> HolderChannel::kept() {
  std::vector<Kept> all;
  for (std::uint64_t after = 0;;) {
    ATLAS_ASSIGN(auto reply, ask({Verb::next, after, "", ""}));
    if (reply.message.verb == Verb::end) return all;
    after = reply.message.number;
    ATLAS_ASSIGN(auto one, kept_of(std::move(reply.message), std::move(reply.fds)));
    all.push_back(std::move(one));
  }
}

HolderClient::HolderClient(Options options) : options_(std::move(options)) {
  // Later than all of an earlier agent on this node.
  last_id_ = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
  reach();
  beats_ = std::thread([this] { beat_until_stopped(); });
}

HolderClient::~HolderClient() {
  stop();
}

void HolderClient::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (beats_.joinable()) beats_.join();
}

/// mutex_ is held, or nobody else is there yet.
void HolderClient::reach() {
  auto reached = channel_.connect(options_.socket);
  if (reached) reached = channel_.hello(options_.deadline);
  for (auto it = served_.begin(); reached && it != served_.end(); ++it) reached = channel_.keep(it->second);
  if (!reached) return lost(reached.error());
  if (away_told_) options_.inform("the view holder is back: views outlive a restart of this agent again");
  away_told_ = false;
}

void HolderClient::lost(const Error& error) {
  channel_.close();
  if (!std::exchange(away_told_, true) && !stop_)
    options_.warn(
        "no view holder: until atlas-view-holder runs on this node, reads through a view fail when this "
        "agent ends (" +
        error.message + ")");
}

void HolderClient::beat_until_stopped() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, options_.beat, [&] { return stop_; })) {
    lock.unlock();
    const bool alive = options_.alive();
    lock.lock();
    if (!channel_.connected()) {
      reach();
    } else if (alive) {
      if (const auto said = channel_.beat(); !said) reach();
    }
  }
}

std::vector<Kept> HolderClient::kept() {
  const std::lock_guard lock(mutex_);
  auto all = channel_.kept();
  if (!all) {
    if (all.error().code != Code::unavailable) lost(all.error());
    return {};
  }
  std::erase_if(*all, [&](const Kept& kept) { return served_.contains(kept.id); });
  return std::move(*all);
}

std::uint64_t HolderClient::new_id() {
  const std::lock_guard lock(mutex_);
  return ++last_id_;
}

bool HolderClient::keep(Kept kept) {
  const std::lock_guard lock(mutex_);
  const auto& mine = served_[kept.id] = std::move(kept);
  if (!channel_.connected()) return false;
  const auto told = channel_.keep(mine);
  if (!told) lost(told.error());
  return told.has_value();
}

void HolderClient::drop(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  served_.erase(id);
  if (!channel_.connected()) return;
  if (const auto told = channel_.drop(id); !told) lost(told.error());
}

bool HolderClient::connected() const {
  const std::lock_guard lock(mutex_);
  return channel_.connected();
}

bool HolderClient::keeps(std::uint64_t id) const {
  const std::lock_guard lock(mutex_);
  return channel_.connected() && served_.contains(id);
}

}  // namespace atlas::view
