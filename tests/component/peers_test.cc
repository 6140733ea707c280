// Several nodes in one process, over real gRPC with real munge, on one origin that counts what is read from it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <fstream>
#include <thread>

#include "cache-agent/rpc/peer_client.h"
#include "cache-agent/store/block_map.h"
#include "proto/client.h"
#include "proto/convert.h"
#include "tests/support/origin_tree.h"
#include "tests/support/peer_nodes.h"
#include "tests/support/private_munged.h"
#include "tests/support/slow_origin_process.h"

namespace atlas::agent {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

class Peers : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it reads files as other users";
    if (!munged_.running()) GTEST_SKIP() << "no munged";
    std::filesystem::create_directory(origin());
    std::filesystem::permissions(origin(), std::filesystem::perms(0755));
  }
  PeerNode& add(std::chrono::milliseconds silence = 30s) { return add("", silence); }
  PeerNode& add(const std::string& store, std::chrono::milliseconds silence = 30s) {
    const std::string name = "n" + std::to_string(nodes_.size() + 1);
    NodeParts::Options options;
    options.origin = served_from_.empty() ? origin() : served_from_;
    options.tiers = {{"nvme", temp_.path("tier-" + name + store), kGiB}};
    options.chunk = Bytes{4 << 20};
    PeerClientOptions ask;
    ask.silence = silence;
    nodes_.push_back(std::make_unique<PeerNode>(name, auth_, finder_, options, ask));
    return *nodes_.back();
  }
  void know(PeerRole role) {
    std::vector<Peer> peers;
    for (const auto& node : nodes_) peers.push_back(node->as(role));
    finder_.set(peers);
  }
  static WarmRequest request(const Principal& as = user(kAlice)) {
    return {{"o", "ds"}, as, {"test", 1, 0, {}}, {}, false};
  }
  std::vector<Result<WarmProgress>> warm_all() {
    std::vector<std::future<Result<WarmProgress>>> under_way;
    for (const auto& node : nodes_) under_way.push_back(node->parts.start(request()));
    std::vector<Result<WarmProgress>> out;
    for (auto& one : under_way) out.push_back(one.get());
    return out;
  }
  void is_like_the_origin(const PeerNode& node, const WarmProgress& done, const Principal& as = user(kAlice)) {
    const auto mounts = node.parts.replica("ds", done)->mounts(1, {});
    ASSERT_TRUE(mounts) << mounts.error().message;
    EXPECT_EQ(difference(look("/proc/self/fd/" + std::to_string(mounts->front().get()), &as), look(origin("ds"), &as)),
              "");
  }
  std::uint64_t small_files(int count, std::size_t size) {
    directory("ds", kAlice, 0755);
    for (int i = 0; i < count; ++i) file("ds/f" + std::to_string(i), random_bytes(size, static_cast<unsigned>(i)));
    return static_cast<std::uint64_t>(count) * size;
  }
  std::uint64_t read_by_all() const {
    std::uint64_t bytes = 0;
    for (const auto& node : nodes_) bytes += node->parts.origin.counters().bytes;
    return bytes;
  }
  /// What a user's own call of the service gets him.
  grpc::Status call_as(std::uint32_t uid, const PeerNode& node, const GenerationId& generation) {
    v1::FetchRequest fetch;
    *fetch.mutable_dataset() = to_wire(DatasetId{"o", "ds"});
    fetch.set_generation(generation.bytes());
    fetch.add_extents()->set_file(1);
    grpc::ClientContext ctx;
    std::thread([&] {  // of this thread alone
      ASSERT_EQ(syscall(SYS_setresgid, uid, uid, uid), 0);
      ASSERT_EQ(syscall(SYS_setresuid, uid, uid, uid), 0);
      ASSERT_TRUE(auth_.sign_request(ctx, "Agent.Fetch", fetch));
    })
        .join();
    const auto stub = v1::Agent::NewStub(make_channel(node.address));
    const auto reader = stub->Fetch(&ctx, fetch);
    v1::FetchReply reply;
    while (reader->Read(&reply)) EXPECT_EQ(reply.pieces_size(), 0);
    return reader->Finish();
  }

  test::PrivateMunged munged_;
  Authenticator auth_{Munge(munged_.socket()), {0}};
  FixedPeers finder_;
  std::string served_from_;  ///< empty = the origin's own directory
  std::vector<std::unique_ptr<PeerNode>> nodes_;
};

TEST_F(Peers, ThreeNodesThatWarmOneDatasetReadTheOriginOnce) {
  nasty_tree();
  for (int i = 0; i < 200; ++i) file("ds/s" + std::to_string(i), random_bytes(40'000, static_cast<unsigned>(i)));
  file("ds/large", random_bytes((37 << 20) + 5, 77));
  for (int i = 0; i < 3; ++i) add();
  know(PeerRole::fills_first);
  std::uint64_t peers = 0;
  for (std::size_t i = 0; const auto& done : warm_all()) {
    ASSERT_TRUE(done) << done.error().message;
    is_like_the_origin(*nodes_[i], *done);
    EXPECT_EQ(done->origin_bytes.count, nodes_[i]->parts.origin.counters().bytes);
    EXPECT_GT(done->origin_bytes.count, 0U) << "each reads a share of it";
    EXPECT_EQ(nodes_[i]->parts.fetcher->counters_of_job(1).peer_bytes, done->peer_bytes.count);
    peers += done->peer_bytes.count;
    ++i;
  }
  NodeParts::Options alone;
  alone.origin = origin();
  alone.tiers = {{"nvme", temp_.path("tier-alone"), kGiB}};
  NodeParts one(alone);
  const auto done = one.warm("ds", user(kAlice));
  ASSERT_TRUE(done);
  EXPECT_EQ(read_by_all(), one.origin.counters().bytes) << "as much as one node by itself";
  EXPECT_EQ(peers, 2 * one.origin.counters().bytes);
}

/// What the storage is asked for, of which the nodes know nothing themselves. Every node walks the tree as the user:
/// that decides what he may have of it, and no other node's word would do. So what is asked for about names and
/// attributes grows with the nodes; what is asked for to get the data does not.
TEST_F(Peers, HoweverManyNodesWarmItItsDataIsAskedForOnce) {
  small_files(300, 40'000);
  file("ds/large", random_bytes((37 << 20) + 5, 77));
  struct Asked {
    std::uint64_t bytes = 0, data = 0, names = 0;
  };
  std::map<std::size_t, Asked> asked;
  for (const std::size_t count : {1U, 2U, 4U}) {
    std::vector<std::unique_ptr<SlowOrigin>> clients;  // each node has one, which knows nothing of the others' caches
    for (std::size_t i = 0; i < count; ++i) {
      served_from_ = temp_.path("mnt-" + std::to_string(i));
      std::filesystem::create_directory(served_from_);
      clients.push_back(std::make_unique<SlowOrigin>(origin(), served_from_, std::vector<std::string>{}));
      add("-of-" + std::to_string(count));
    }
    know(PeerRole::fills_first);
    for (const auto& client : clients) client->tell({"reset"});
    for (const auto& done : warm_all()) ASSERT_TRUE(done) << done.error().message;
    auto& now = asked[count];
    for (const auto& client : clients) {
      const auto data = client->operations("open") + client->operations("read");
      now.bytes += client->read_bytes();
      now.data += data;
      now.names += client->operations() - data;
    }
    std::printf("%zu nodes: %llu bytes, %llu opens and reads, %llu other operations\n", count,
                static_cast<unsigned long long>(now.bytes), static_cast<unsigned long long>(now.data),
                static_cast<unsigned long long>(now.names));
    EXPECT_LE(now.bytes * 100, asked[1].bytes * 102);
    EXPECT_LE(now.data * 100, asked[1].data * 110);
    EXPECT_LE(now.names * 10, asked[1].names * count * 11) << "a walk each, and no more";
    nodes_.clear();
  }
}

TEST_F(Peers, ALateNodeCopiesFromAllHoldersAndLeavesTheOriginAlone) {
  const auto bytes = small_files(300, 40'000);
  add();
  add();
  know(PeerRole::fills_first);
  for (const auto& done : warm_all()) ASSERT_TRUE(done) << done.error().message;
  const auto sent_before = nodes_[0]->service.sent() + nodes_[1]->service.sent();
  EXPECT_EQ(read_by_all(), bytes);
  know(PeerRole::holds);
  auto& late = add();
  const auto done = late.parts.start(request()).get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(late.parts.origin.counters().bytes, 0U);
  EXPECT_EQ(done->peer_bytes.count, bytes);
  EXPECT_EQ(nodes_[0]->service.sent() + nodes_[1]->service.sent() - sent_before, bytes);
  is_like_the_origin(late, *done);
}

/// A way to a server that takes its time: one connection at a time, and nothing passes for a while after each is made,
/// as on a machine with too much to do.
class SlowWay {
 public:
  SlowWay(const std::string& to, std::chrono::milliseconds pause)
      : to_(static_cast<std::uint16_t>(std::stoi(to.substr(to.rfind(':') + 1)))), pause_(pause) {
    auto here = loopback(0);
    socklen_t size = sizeof here;
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&here), size), 0);
    EXPECT_EQ(listen(listener_.get(), 8), 0);
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&here), &size);
    address_ = "127.0.0.1:" + std::to_string(ntohs(here.sin_port));
    carrier_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested())
        if (ready(listener_.get())) carry(UniqueFd(accept(listener_.get(), nullptr, nullptr)), stop);
    });
  }
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_port = htons(port);
    out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return out;
  }
  static bool ready(int fd) {
    pollfd one{fd, POLLIN, 0};
    return poll(&one, 1, 20) > 0;
  }
  static bool pass(int from, int to) {
    char buffer[65536];
    const ssize_t got = recv(from, buffer, sizeof buffer, 0);
    return got > 0 && send(to, buffer, static_cast<std::size_t>(got), MSG_NOSIGNAL) == got;
  }
  void carry(const UniqueFd& client, const std::stop_token& stop) {
    const auto until = std::chrono::steady_clock::now() + pause_;
    while (std::chrono::steady_clock::now() < until && !stop.stop_requested()) std::this_thread::sleep_for(10ms);
    const UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto there = loopback(to_);
    if (connect(server.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there) != 0) return;
    pollfd both[] = {{client.get(), POLLIN, 0}, {server.get(), POLLIN, 0}};
    while (!stop.stop_requested()) {
      if (poll(both, 2, 20) <= 0) continue;
      if (both[0].revents != 0 && !pass(client.get(), server.get())) return;
      if (both[1].revents != 0 && !pass(server.get(), client.get())) return;
    }
  }

  const std::uint16_t to_;
  const std::chrono::milliseconds pause_;
  UniqueFd listener_{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::string address_;
  std::jthread carrier_;
};

TEST_F(Peers, APeerThatIsSlowToTakeTheConnectionIsWaitedFor) {
  const auto bytes = small_files(50, 40'000);
  auto& holder = add();
  ASSERT_TRUE(holder.parts.start(request()).get());
  const SlowWay way(holder.address, 1500ms);
  auto& late = add();
  finder_.set({{holder.name, way.address(), PeerRole::holds}});
  const auto done = late.parts.start(request()).get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->peer_bytes.count, bytes);
  EXPECT_EQ(late.parts.origin.counters().bytes, 0U);
}

TEST_F(Peers, WhenThePeerGoesInMidTransferTheOriginGivesTheRest) {
  directory("ds", kAlice, 0755);
  file("ds/large", random_bytes(96 << 20, 1));
  auto& holder = add();
  ASSERT_TRUE(holder.parts.start(request()).get());
  know(PeerRole::holds);
  auto& late = add();
  auto under_way = late.parts.start(request());
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (holder.service.sent() < (8U << 20) && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  holder.shut();
  const auto done = under_way.get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_GT(done->peer_bytes.count, 0U);
  EXPECT_GT(done->origin_bytes.count, 0U);
  EXPECT_EQ(done->peer_bytes.count + done->origin_bytes.count, 96U << 20) << "nothing is read twice";
  is_like_the_origin(late, *done);
}

TEST_F(Peers, APeerThatIsNotThereOrDoesNotWarmCostsNoMoreThanAMoment) {
  const auto bytes = small_files(50, 40'000);
  auto& node = add();
  auto& idle = add();  // was to warm it too, but nobody told it
  finder_.set(
      {node.as(PeerRole::fills_first), idle.as(PeerRole::fills_first), {"gone", "127.0.0.1:1", PeerRole::fills_first}});
  const auto done = node.parts.start(request()).get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->origin_bytes.count, bytes);
  is_like_the_origin(node, *done);
}

TEST_F(Peers, ASilentPeerIsGivenUp) {
  const auto bytes = small_files(50, 40'000);
  std::atomic<int> asked = 0;
  FetchService service(
      [&](auto* ctx, const auto* fetch) { return new Silent(auth_.sign_stream(*ctx, "Agent.Fetch", *fetch), asked); });
  std::string address;
  const auto server = serve_on_loopback(service, address);
  auto& node = add(500ms);
  finder_.set({{"stopped", address, PeerRole::holds}});
  const auto done = node.parts.start(request()).get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->origin_bytes.count, bytes);
  EXPECT_GT(asked, 0);
  EXPECT_LE(asked, 2) << "it is not asked again and again";
  server->Shutdown(std::chrono::system_clock::now());
}

/// Sends the first extent as it is told, then ends.
class Liar final : public grpc::ServerWriteReactor<v1::FetchReply> {
 public:
  Liar(const Status& greeted, v1::FetchReply reply) : reply_(std::move(reply)) {
    if (greeted) {
      StartWrite(&reply_);
    } else {
      Finish(to_status(greeted.error()));
    }
  }
  void OnWriteDone(bool) override { Finish(grpc::Status::OK); }
  void OnDone() override { delete this; }

 private:
  v1::FetchReply reply_;
};

TEST_F(Peers, DataThatIsDamagedOnItsWayIsNotKept) {
  directory("ds", kAlice, 0755);
  const std::string content = random_bytes(40'000, 1);
  file("ds/f", content);
  std::atomic<int> asked = 0;
  FetchService service([&](auto* ctx, const v1::FetchRequest* fetch) {
    ++asked;
    v1::FetchReply reply;
    auto& piece = *reply.add_pieces();
    piece.set_length(content.size());
    std::string damaged = content;
    damaged[12'345] = static_cast<char>(damaged[12'345] ^ 1);
    piece.set_data(damaged);
    piece.add_sums(sum_of(std::as_bytes(std::span(content))));
    piece.mutable_meta();
    return new Liar(auth_.sign_stream(*ctx, "Agent.Fetch", *fetch), reply);
  });
  std::string address;
  const auto server = serve_on_loopback(service, address);
  auto& node = add();
  finder_.set({{"n9", address, PeerRole::holds}});
  const auto done = node.parts.start(request()).get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(done->peer_bytes.count, 0U);
  EXPECT_EQ(done->origin_bytes.count, content.size());
  is_like_the_origin(node, *done);
  server->Shutdown(std::chrono::system_clock::now());
}

TEST_F(Peers, ABlockThatHasRottenAtThePeerIsNotSent) {
  directory("ds", kAlice, 0755);
  file("ds/large", random_bytes(3 << 20, 1));
  auto& holder = add();
  const auto first = holder.parts.start(request()).get();
  ASSERT_TRUE(first);
  const auto replica = holder.parts.replica("ds", *first);
  const auto mounts = replica->mounts(1, {});
  ASSERT_TRUE(mounts);
  for (const auto& found : std::filesystem::recursive_directory_iterator(temp_.path("tier-n1"))) {
    if (found.path().filename() != "large") continue;
    std::fstream disk(found.path(), std::ios::in | std::ios::out | std::ios::binary);
    disk.seekp((1 << 20) + 17);
    disk.put('!');
    disk.seekp((1 << 20) + 18);
    disk.put('?');
  }
  know(PeerRole::holds);
  auto& late = add();
  const auto done = late.parts.start(request()).get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_GE(done->origin_bytes.count, 1U << 20);
  EXPECT_GE(done->peer_bytes.count, 1U << 20) << "what is before it is good";
  is_like_the_origin(late, *done);
  const auto manifest = replica->manifest().value();
  EXPECT_FALSE(replica->resident(*manifest, {manifest->find("large").value(), Bytes{1 << 20}, Bytes{1 << 20}}))
      << "it will be fetched again";
}

TEST_F(Peers, NoUserMayAskANode) {
  small_files(3, 1'000);
  auto& holder = add();
  const auto done = holder.parts.start(request()).get();
  ASSERT_TRUE(done);
  const auto refused = call_as(kAlice, holder, done->generation.id);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(refused.error_message(), HasSubstr("agents"));
  EXPECT_EQ(holder.service.sent(), 0U);
  grpc::ClientContext nobody;
  const auto stub = v1::Agent::NewStub(make_channel(holder.address));
  EXPECT_EQ(stub->Fetch(&nobody, v1::FetchRequest())->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(Peers, WhoIsRefusedByTheOriginGetsNothingFromAPeer) {
  directory("ds", kAlice, 0700);
  file("ds/f", random_bytes(40'000, 1), kAlice, 0600);
  auto& holder = add();
  ASSERT_TRUE(holder.parts.start(request()).get());
  know(PeerRole::holds);
  auto& late = add();
  const auto done = late.parts.start(request(user(kBob))).get();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::permission_denied);
  EXPECT_EQ(holder.service.sent(), 0U);
  EXPECT_TRUE(late.parts.store->inventory().empty());
}

TEST_F(Peers, AGroupsFilesComeFromAPeerAndTheOwnersOwnDoNot) {
  constexpr std::uint32_t kGroup = 30100;
  directory("ds", kAlice, 0750);
  file("ds/ours", random_bytes(40'000, 1), kAlice, 0640);
  ASSERT_EQ(chown(origin("ds").c_str(), kAlice, kGroup), 0);
  ASSERT_EQ(chown(origin("ds/ours").c_str(), kAlice, kGroup), 0);
  const Principal alice{kAlice, kGroup, {kGroup}}, bob{kBob, kBob, {kBob, kGroup}};
  auto& holder = add();
  ASSERT_TRUE(holder.parts.start(request(alice)).get());
  know(PeerRole::holds);
  auto& late = add();
  const auto shared = late.parts.start(request(bob)).get();
  ASSERT_TRUE(shared) << shared.error().message;
  EXPECT_EQ(shared->peer_bytes.count, 40'000U) << "bob's own walk has shown the very same tree";
  EXPECT_EQ(late.parts.origin.counters().bytes, 0U);
  is_like_the_origin(late, *shared, bob);

  const auto sent = holder.service.sent();
  file("ds/mine", random_bytes(50'000, 2), kAlice, 0600);
  auto alices = request(alice);
  alices.revalidate = true;
  const auto whole = holder.parts.start(alices).get();
  ASSERT_TRUE(whole) << whole.error().message;
  auto bobs = request(bob);
  bobs.revalidate = true;
  const auto part = late.parts.start(bobs).get();
  ASSERT_TRUE(part) << part.error().message;
  EXPECT_NE(part->generation.id, whole->generation.id) << "he is shown another tree";
  EXPECT_EQ(part->generation.opaque, 1U);
  EXPECT_EQ(holder.service.sent(), sent) << "and nothing of hers is sent for it";
  is_like_the_origin(late, *part, bob);
}

}  // namespace
}  // namespace atlas::agent
