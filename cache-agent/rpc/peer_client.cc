#include "cache-agent/rpc/peer_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "cache-agent/rpc/peer_stream.h"
#include "proto/client.h"
#include "proto/convert.h"

namespace atlas::agent {
namespace {

using std::chrono::steady_clock;

constexpr milliseconds kFindTimeout{3'000};
/// A peer that serves too many already.
constexpr milliseconds kAskAgain{200};
/// A generation that nobody asked for since then is forgotten.
constexpr std::chrono::seconds kForget{60};

}  // namespace

PeerClient::PeerClient(const Authenticator& auth, PeerFinder& finder, Executor& writers, PeerClientOptions options)
    : auth_(auth), finder_(finder), writers_(writers), options_(std::move(options)), front_(2) {}

PeerClient::~PeerClient() {
  stop();
}

void PeerClient::stop() {
  std::vector<AskedPtr> left;
  std::unique_lock lock(mutex_);
  stopping_ = true;
  for (auto& [key, group] : groups_) {
    left.insert(left.end(), group.early.begin(), group.early.end());
    group.early.clear();
    for (auto& [to, link] : group.links) {
      left.insert(left.end(), link.queue.begin(), link.queue.end());
      link.queue.clear();
    }
  }
  for (const auto& stream : streams_) stream->cancel();
  lock.unlock();
  for (const auto& asked : left) end(asked);
  lock.lock();
  idle_.wait(lock, [&] { return streams_.empty() && finding_ == 0; });
}

bool PeerClient::bring(PeerAsk ask) {
  const GroupKey key{ask.dataset, ask.generation};
  auto asked = std::make_shared<Asked>();
  asked->at = ask.want.offset.count;
  asked->ask = std::move(ask);
  const std::lock_guard lock(mutex_);
  if (stopping_) return false;
  auto& group = groups_[key];
  group.used = steady_clock::now();
  if (!asked->ask.keeper) refresh(key, group);
  if (group.known || asked->ask.keeper) return assign(key, group, asked);
  group.early.push_back(std::move(asked));
  return true;
}

/// Has the controller asked again when what is known is old. mutex_ is held.
void PeerClient::refresh(const GroupKey& key, Group& group) {
  const auto now = steady_clock::now();
  if (group.finding || (group.known && now - group.found < options_.refresh)) return;
  group.finding = true;
  ++finding_;
  front_.post([this, key] {
    finder_.find(key.first, key.second, [this, key](Result<std::vector<Peer>> peers) {
      front_.post([this, key, peers = std::move(peers)]() mutable { found(key, std::move(peers)); });
    });
  });
}

void PeerClient::found(const GroupKey& key, Result<std::vector<Peer>> peers) {
  std::vector<AskedPtr> early;
  {
    const std::lock_guard lock(mutex_);
    const auto now = steady_clock::now();
    auto& group = groups_[key];
    group.finding = false;
    // A controller that is away leaves us with the peers we know: they tell us if they have nothing.
    if (peers) group.peers = std::move(*peers);
    group.known = true;
    group.found = now;
    for (auto& asked : std::exchange(group.early, {}))
      if (stopping_ || !assign(key, group, asked)) early.push_back(std::move(asked));
    std::erase_if(groups_, [&](const auto& item) {
      return item.first != key && !item.second.finding && now - item.second.used > kForget &&
             std::all_of(item.second.links.begin(), item.second.links.end(),
                         [](const auto& link) { return link.second.queue.empty() && link.second.streams == 0; });
    });
    --finding_;
    idle_.notify_all();
  }
  for (const auto& asked : early) end(asked);
}

/// mutex_ is held.
std::optional<Peer> PeerClient::choose(Group& group, const Asked& asked) const {
  if (asked.tried.size() >= options_.attempts) return std::nullopt;
  const auto now = steady_clock::now();
  std::erase_if(group.shunned, [&](const auto& item) { return item.second <= now; });
  auto without = asked.tried;
  for (const auto& [node, until] : group.shunned) without.insert(node);
  const auto& keeper = asked.ask.keeper;
  if (keeper && !without.contains(keeper->node)) return Peer{keeper->node, keeper->address, PeerRole::shares};
  auto peers = group.peers;
  if (keeper || asked.ask.holders_only) std::erase_if(peers, [](const Peer& p) { return p.role != PeerRole::holds; });
  const auto which =
      choose_peer(peers, options_.node, {asked.ask.generation, asked.ask.want.file, asked.ask.chunk}, without);
  return which ? std::optional(peers[*which]) : std::nullopt;
}

/// Queues an ask for a peer; false: it is the origin's. mutex_ is held.
bool PeerClient::assign(const GroupKey& key, Group& group, const AskedPtr& asked) {
  const auto peer = choose(group, *asked);
  if (!peer) return false;
  const bool reader = asked->ask.keeper.has_value();
  auto& link = group.links[{peer->node, reader}];
  link.queue.push_back(asked);
  // Not at once: what is asked for in the same moment goes into the same call.
  if (link.streams < streams_for(reader)) front_.post([this, key, peer = *peer, reader] { pump(key, peer, reader); });
  return true;
}

v1::Agent::Stub& PeerClient::stub(const std::string& address) {
  auto& stub = stubs_[address];
  // Read from the origin what a busy node would have given, and the origin is read twice.
  if (!stub) stub = v1::Agent::NewStub(make_channel(address, options_.silence / 2));
  return *stub;
}

/// Starts a stream with what is queued for a peer, if there is one to spare.
void PeerClient::pump(const GroupKey& key, const Peer& peer, bool readers) {
  std::shared_ptr<Stream> stream;
  v1::Agent::Stub* to = nullptr;
  {
    const std::lock_guard lock(mutex_);
    auto& link = groups_[key].links[{peer.node, readers}];
    if (stopping_ || link.queue.empty() || link.streams >= streams_for(readers)) return;
    std::vector<AskedPtr> asks;
    while (!link.queue.empty() && asks.size() < options_.batch) {
      asks.push_back(std::move(link.queue.front()));
      link.queue.pop_front();
    }
    ++link.streams;
    stream = std::make_shared<Stream>(*this, key, peer, readers, std::move(asks));
    streams_.insert(stream);
    to = &stub(peer.address);
  }
  if (const auto ok = stream->start(*to, stream); !ok) ended(stream, ok);
}

/// What a peer does not give, or does not give any more.
void PeerClient::again(const GroupKey& key, const std::string& node, const std::vector<AskedPtr>& asks) {
  std::vector<AskedPtr> over;
  {
    const std::lock_guard lock(mutex_);
    auto& group = groups_[key];
    group.used = steady_clock::now();
    for (const auto& asked : asks) {
      asked->tried.insert(node);
      if (asked->ask.keeper) refresh(key, group);  // who holds all of it will be known to the next
      if (stopping_ || !assign(key, group, asked)) over.push_back(asked);
    }
  }
  for (const auto& asked : over) end(asked);
}

void PeerClient::shun(const GroupKey& key, const std::string& node, const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    auto& until = groups_[key].shunned[node];
    const bool news = until == SteadyTime{};
    until = steady_clock::now() + options_.shun;
    if (!news) return;
  }
  spdlog::info("{}: node {} is not asked for a while: {}", show(key.first), node, why);
}

/// A stream is over: what it has not brought is asked for elsewhere.
void PeerClient::ended(const std::shared_ptr<Stream>& stream, const Status& status) {
  const auto& key = stream->key();
  const bool busy = !status && status.error().code == Code::resource_exhausted;
  // A reader's keeper that brings nothing may wait for a limit, as the reader does: it is alive.
  const bool slow = !status && status.error().code == Code::aborted && stream->for_readers();
  const bool failed = !status && !busy && !slow;
  if (failed) shun(key, stream->peer().node, status.error().message);
  auto left = stream->unfinished();
  if (busy) return wait_for(stream, left);
  if (failed) {  // nor does what waits for the next stream go to a peer that has failed
    const std::lock_guard lock(mutex_);
    for (const bool readers : {false, true}) {
      auto& queue = groups_[key].links[{stream->peer().node, readers}].queue;
      left.insert(left.end(), queue.begin(), queue.end());
      queue.clear();
    }
  }
  again(key, stream->peer().node, left);
  const std::lock_guard lock(mutex_);
  const bool readers = stream->for_readers();
  auto& link = groups_[key].links[{stream->peer().node, readers}];
  --link.streams;
  if (!link.queue.empty()) front_.post([this, key, peer = stream->peer(), readers] { pump(key, peer, readers); });
  streams_.erase(stream);
  idle_.notify_all();
}

/// A peer that serves all it can is asked again, and nobody else: who reads what is agreed on.
void PeerClient::wait_for(const std::shared_ptr<Stream>& stream, const std::vector<AskedPtr>& asks) {
  const auto key = stream->key();
  const auto peer = stream->peer();
  const bool readers = stream->for_readers();
  const std::lock_guard lock(mutex_);
  auto& link = groups_[key].links[{peer.node, readers}];
  --link.streams;
  link.queue.insert(link.queue.begin(), asks.begin(), asks.end());
  // The task keeps its own handle.
  const auto handle = std::make_shared<TimerHandle>();
  *handle =
      front_.post_at(steady_clock::now() + kAskAgain, [this, key, peer, readers, handle] { pump(key, peer, readers); });
  streams_.erase(stream);
  idle_.notify_all();
}

void PeerClient::end(const AskedPtr& asked) {
  writers_.post([asked] { asked->ask.done(); });
}

void ControllerPeers::find(const DatasetId& dataset, const GenerationId& generation,
                           std::function<void(Result<std::vector<Peer>>)> done) {
  using Async = v1::Controller::Stub::async_interface;
  v1::PeersRequest request;
  *request.mutable_dataset() = to_wire(dataset);
  request.set_generation(generation.bytes());
  call_async<Async, v1::PeersRequest, v1::PeersReply>(
      auth_, stub_->async(), &Async::Peers, "Controller.Peers", std::move(request), kFindTimeout, peer_,
      [done = std::move(done)](const Result<v1::PeersReply>& reply) {
        if (!reply) return done(fail(reply.error()));
        std::vector<Peer> peers;
        for (const auto& peer : reply->peers())
          peers.push_back({peer.node(), peer.address(),
                           peer.role() == v1::Peer::ROLE_HOLDS         ? PeerRole::holds
                           : peer.role() == v1::Peer::ROLE_FILLS_FIRST ? PeerRole::fills_first
                                                                       : PeerRole::fills_later});
        done(std::move(peers));
      });
}

}  // namespace atlas::agent
