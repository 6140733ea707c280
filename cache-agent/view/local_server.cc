#include "cache-agent/view/local_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace atlas::view {
namespace {

/// Who has connected; nobody's numbers if the kernel does not say.
ucred peer_of(int socket) {
  ucred peer{0, static_cast<uid_t>(-1), static_cast<gid_t>(-1)};
  socklen_t size = sizeof peer;
  static_cast<void>(::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size));
  return peer;
}

Result<UniqueFd> listen_on(const std::string& path) {
  // Bound under another name and renamed, so that a client never meets a socket nobody listens on.
  const std::string temporary = path + ".new";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (temporary.size() >= sizeof address.sun_path)
    return fail(Code::invalid_argument, "agent.socket: the path is too long for a socket: " + path);
  std::memcpy(address.sun_path, temporary.data(), temporary.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno(errno, "socket");
  ::unlink(temporary.c_str());
  // The mode of the socket's inode comes from the descriptor's: it is closed to others from its first moment.
  if (::fchmod(socket.get(), 0600) != 0 ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(temporary.c_str(), 0600) != 0 || ::listen(socket.get(), 1024) != 0 ||
      ::rename(temporary.c_str(), path.c_str()) != 0)
    return fail_errno(errno, "cannot listen on " + path);
  return socket;
}

}  // namespace

Result<std::unique_ptr<LocalServer>> LocalServer::listen(Options options) {
  ATLAS_ASSIGN(auto listener, listen_on(options.path));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno(errno, "eventfd");
  return std::unique_ptr<LocalServer>(new LocalServer(std::move(options), std::move(listener), std::move(wake)));
}

LocalServer::LocalServer(Options options, UniqueFd listener, UniqueFd wake)
    : options_(std::move(options)), listener_(std::move(listener)), wake_(std::move(wake)) {}

void LocalServer::serve(Handlers handlers) {
  handlers_ = std::move(handlers);
  for (unsigned i = 0; i < std::max(1U, options_.workers); ++i) workers_.emplace_back([this] { work(); });
  loop_ = std::jthread([this] { loop(); });
}

LocalServer::~LocalServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  work_ready_.notify_all();
  if (loop_.joinable()) loop_.join();
  for (auto& worker : workers_) worker.join();
  ::unlink(options_.path.c_str());
}

void LocalServer::wake() const {
  const std::uint64_t one = 1;
  // A counter that is full wakes the loop just as well.
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

std::size_t LocalServer::connections() const {
  const std::lock_guard lock(mutex_);
  return peers_.size();
}

pid_t LocalServer::process_of(Connection connection) const {
  const std::lock_guard lock(mutex_);
  const auto peer = peers_.find(connection);
  return peer == peers_.end() ? 0 : peer->second.process;
}

void LocalServer::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  work_ready_.notify_one();
}

void LocalServer::work() {
  while (true) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      work_ready_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    try {
      task();
    } catch (...) {  // the handler answers for its own errors; a thread must not die of one
    }
  }
}

void LocalServer::loop() {
  std::vector<pollfd> waits;
  std::vector<Connection> owners;
  SteadyTime accept_after{};
  auto next_tick = std::chrono::steady_clock::now() + options_.tick;
  while (true) {
    const bool accepting = std::chrono::steady_clock::now() >= accept_after;
    waits.assign({{listener_.get(), static_cast<short>(accepting ? POLLIN : 0), 0}, {wake_.get(), POLLIN, 0}});
    owners.assign(2, 0);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      for (const auto& [id, peer] : peers_) {
        if (!peer.socket) continue;
        waits.push_back({peer.socket.get(), static_cast<short>(peer.busy ? 0 : POLLIN), 0});
        owners.push_back(id);
      }
    }
    const bool quiet = waits.size() == 2 && accepting;
    if (::poll(waits.data(), waits.size(), quiet ? -1 : static_cast<int>(options_.tick.count())) < 0) continue;
    const auto now = std::chrono::steady_clock::now();
    for (std::size_t i = 2; i < waits.size(); ++i) {
      if ((waits[i].revents & POLLIN) != 0) {
        read_from(owners[i]);
      } else if ((waits[i].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
        drop(owners[i]);
      }
    }
    if ((waits[1].revents & POLLIN) != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const auto got = ::read(wake_.get(), &count, sizeof count);
    }
    // Out of descriptors: look again in a while instead of spinning.
    if ((waits[0].revents & POLLIN) != 0 && !accept_all()) accept_after = now + options_.tick;
    if (!quiet && now >= next_tick) {
      next_tick = now + options_.tick;
      drop_idle(now);
      if (handlers_.tick) post(handlers_.tick);
    }
  }
}

bool LocalServer::accept_all() {
  while (true) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return errno == EAGAIN || errno == ECONNABORTED || errno == EINTR;
    const auto who = peer_of(socket.get());
    if (!options_.any_user && who.uid != 0) continue;
    const std::lock_guard lock(mutex_);
    if (peers_.size() >= options_.most_connections) continue;
    peers_[next_++] = Peer{std::move(socket), who.pid, false, false, std::chrono::steady_clock::now()};
  }
}

void LocalServer::read_from(Connection connection) {
  int socket = -1;
  {
    const std::lock_guard lock(mutex_);
    const auto peer = peers_.find(connection);
    if (peer == peers_.end() || peer->second.busy) return;
    socket = peer->second.socket.get();  // stays: what is not busy is erased by this thread alone
  }
  auto packet = receive_packet(socket);
  if (!packet) {
    if (packet.error().code != Code::unavailable || packet.error().sys_errno != EAGAIN) drop(connection);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    auto& peer = peers_[connection];
    peer.busy = peer.heard = true;
    peer.last = std::chrono::steady_clock::now();
  }
  auto shared = std::make_shared<Packet>(std::move(*packet));
  post([this, connection, shared] { handlers_.packet(connection, std::move(*shared)); });
}

void LocalServer::reply(Connection connection, const std::string& bytes, const std::vector<UniqueFd>& fds) {
  bool gone = false;
  {
    const std::lock_guard lock(mutex_);
    const auto peer = peers_.find(connection);
    if (stopping_ || peer == peers_.end()) return;
    gone = !peer->second.socket || !send_packet(peer->second.socket.get(), bytes, fds);  // never blocks
    peer->second.busy = false;
    peer->second.last = std::chrono::steady_clock::now();
    if (gone) peers_.erase(peer);
  }
  if (gone && handlers_.closed) post([this, connection] { handlers_.closed(connection); });
  wake();
}

void LocalServer::drop(Connection connection) {
  bool heard = false;
  {
    const std::lock_guard lock(mutex_);
    const auto peer = peers_.find(connection);
    if (peer == peers_.end()) return;
    if (peer->second.busy) {  // reply() ends it, so that closed() comes after the last packet's handler
      peer->second.socket.reset();
      return;
    }
    heard = peer->second.heard;
    peers_.erase(peer);
  }
  if (heard && handlers_.closed) post([this, connection] { handlers_.closed(connection); });
}

void LocalServer::drop_idle(SteadyTime now) {
  std::vector<Connection> idle;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, peer] : peers_)
      if (!peer.busy && now - peer.last > options_.idle_limit) idle.push_back(id);
  }
  for (const auto id : idle) drop(id);
}

}  // namespace atlas::view
