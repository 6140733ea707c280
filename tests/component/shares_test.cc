// Jobs on several nodes whose data does not fit one of them: each keeps a share and serves the others. Several nodes in
// one process, with real views, over real gRPC with real munge, on an origin that counts.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "cache-agent/limit/limit_governor.h"
#include "proto/convert.h"
#include "tests/support/origin_tree.h"
#include "tests/support/peer_nodes.h"
#include "tests/support/private_munged.h"
#include "tests/support/view_job.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMega = 1 << 20;

class Divided : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts file systems and reads files as other users";
    if (!munged_.running()) GTEST_SKIP() << "no munged";
    std::filesystem::create_directory(origin());
    directory("ds", kAlice, 0755);
  }
  void TearDown() override {
    jobs_.clear();  // before the nodes
    governor_.open();
  }
  /// 200 small files and two large ones; says how much it is.
  std::uint64_t dataset() {
    for (int i = 0; i < 200; ++i) file("ds/f" + std::to_string(i), random_bytes(50'000, static_cast<unsigned>(i)));
    file("ds/large", random_bytes(41 * kMega + 5, 1000));
    file("ds/data.mdb", random_bytes(23 * kMega, 1001));
    file("ds/empty", "");
    return 200 * 50'000 + 64 * kMega + 5;
  }
  PeerNode& add(Bytes quota = kGiB, std::chrono::milliseconds silence = 20s, Governor* governor = nullptr,
                std::optional<std::chrono::milliseconds> wait = {}) {
    const std::string name = "n" + std::to_string(nodes_.size() + 1);
    NodeParts::Options options;
    options.origin = origin();
    options.tiers = {{"nvme", temp_.path("tier-" + name), quota}};
    options.node = name;
    options.chunk = Bytes{2 * kMega};
    PeerClientOptions ask;
    options.governor = governor;
    ask.reader_silence = silence;
    ask.reader_wait = wait.value_or(silence);
    nodes_.push_back(std::make_unique<PeerNode>(name, auth_, finder_, options, ask));
    return *nodes_.back();
  }
  [[nodiscard]] std::vector<NodeAddress> addresses(std::initializer_list<std::size_t> which = {}) const {
    std::vector<NodeAddress> out;
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      if (which.size() == 0 || std::find(which.begin(), which.end(), i) != which.end())
        out.push_back({nodes_[i]->name, nodes_[i]->address});
    return out;
  }
  [[nodiscard]] static JobKey key(std::uint32_t job) { return {"test", job, 0, {}}; }
  /// The job's warm-up on a node.
  std::future<Result<WarmProgress>> warm(PeerNode& node, const std::vector<NodeAddress>& divided, Bytes limit = {},
                                         std::uint32_t job = 1) const {
    WarmRequest request{{"o", "ds"}, user(kAlice), key(job), limit, false};
    request.divided = divided;
    return node.parts.start(request);
  }
  /// A view as the agent makes it for a job on several nodes.
  const ViewJobs::Job& view(PeerNode& node, const std::vector<NodeAddress>& divided, Bytes limit = {},
                            std::uint32_t job = 1) {
    const Division division{key(job), divided, limit};
    const auto replica = node.parts.engine->open_partial({"o", "ds"}, user(kAlice), limit, node.parts.clock.now() + 20s,
                                                         {}, "", division);
    EXPECT_TRUE(replica) << replica.error().message;
    const auto share = node.parts.engine->share_of(division, user(kAlice), **replica);
    jobs_.push_back(readers_.show(node.parts, *replica, 30s, job, share));
    return jobs_.back();
  }
  [[nodiscard]] std::uint64_t read_by_all() const {
    std::uint64_t bytes = 0;
    for (const auto& node : nodes_) bytes += node->parts.origin.counters().bytes;
    return bytes;
  }
  [[nodiscard]] std::uint64_t kept_by_all() const {
    std::uint64_t bytes = 0;
    for (const auto& node : nodes_)
      for (const auto& replica : node->parts.store->replicas_of({"o", "ds"})) bytes += replica->bytes_resident().count;
    return bytes;
  }
  /// Everything is read on all nodes at once, past what the kernel remembers, and compared with the origin.
  void epoch() {
    const Principal alice = user(kAlice);
    const auto right = look(origin("ds"), &alice);
    std::vector<std::thread> readers;
    for (auto& job : jobs_) {
      job.mount_again();
      readers.emplace_back([&] { EXPECT_EQ(difference(look(job.path(), &alice), right), ""); });
    }
    for (auto& reader : readers) reader.join();
  }

  test::PrivateMunged munged_;
  Authenticator auth_{Munge(munged_.socket()), {0}};
  SystemClock clock_;
  ThreadExecutor timers_{1};
  LimitGovernor governor_{"n1", clock_, timers_};  ///< of a node whose limits are another's than the others'
  FixedPeers finder_;
  std::vector<std::unique_ptr<PeerNode>> nodes_;
  ViewJobs readers_{kAlice};
  std::list<ViewJobs::Job> jobs_;
};

class DividedAmong : public Divided, public ::testing::WithParamInterface<unsigned> {};

TEST_P(DividedAmong, NodesWarmTheirSharesAndReadTheRestFromEachOther) {
  const std::uint64_t size = dataset();
  const unsigned n = GetParam();
  const Bytes limit{size / n + 4 * kMega};
  for (unsigned i = 0; i < n; ++i) add();
  std::vector<std::future<Result<WarmProgress>>> under_way;
  for (const auto& node : nodes_) under_way.push_back(warm(*node, addresses(), limit));
  for (auto& one : under_way) {
    const auto done = one.get();
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_GT(done->skipped, 0U) << "nobody takes it for complete";
    EXPECT_LE(done->bytes_done, limit);
    EXPECT_GE(done->bytes_done.count, size / n - 2 * kMega) << "shares are even, but for a chunk";
  }
  EXPECT_EQ(read_by_all(), size) << "each byte by one node";
  EXPECT_EQ(kept_by_all(), size);
  for (const auto& node : nodes_) view(*node, addresses(), limit);
  for (int i = 0; i < 2; ++i) epoch();
  EXPECT_EQ(read_by_all(), size) << "nothing more is read from the origin";
  EXPECT_EQ(kept_by_all(), size) << "nobody keeps what another one has";
}

TEST_P(DividedAmong, TheFirstEpochOfAColdJobReadsTheOriginOnce) {
  const std::uint64_t size = dataset();
  const unsigned n = GetParam();
  const Bytes limit{size / n + 4 * kMega};
  for (unsigned i = 0; i < n; ++i) add();
  for (const auto& node : nodes_) view(*node, addresses(), limit);
  epoch();
  EXPECT_GE(read_by_all(), size);
  EXPECT_LE(read_by_all(), size + size / 50) << "what one misses another brings and keeps";
  const auto first = read_by_all();
  epoch();
  EXPECT_EQ(read_by_all(), first);
  std::uint64_t passed = 0;
  for (const auto& node : nodes_) passed += node->parts.fetcher->counters_of_job(1).peer_bytes;
  EXPECT_GE(passed, 2 * (n - 1) * size) << "each reads the others' shares from them, twice";
}

/// The kernel asks for what it likes, also for the end of one node's chunk and the beginning of another's at once.
TEST_P(DividedAmong, AReadAcrossSharesLeavesEachWhereItBelongs) {
  dataset();
  const unsigned n = GetParam();
  for (unsigned i = 0; i < n; ++i) add();
  for (const auto& node : nodes_) view(*node, addresses(), Bytes{60 * kMega});
  const auto right = content(origin("ds/large"));
  for (const auto& job : jobs_) {
    const UniqueFd fd(open((job.path() + "/large").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    ASSERT_TRUE(fd) << strerror(errno);
    for (std::size_t at = 2 * kMega; at < right.size(); at += 2 * kMega) {
      std::string bytes(8192, '\0');
      ASSERT_EQ(pread(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(at - 4096)), ssize_t(bytes.size()));
      EXPECT_EQ(bytes == right.substr(at - 4096, bytes.size()), true) << "at " << at;
    }
  }
  EXPECT_EQ(kept_by_all(), 40 * kMega) << "all but the first and the last block, each by one node";
  EXPECT_EQ(read_by_all(), kept_by_all()) << "and read once";
}

INSTANTIATE_TEST_SUITE_P(Nodes, DividedAmong, ::testing::Values(2U, 4U, 8U));

TEST_F(Divided, WhatFitsEachNodeIsNotDivided) {
  const std::uint64_t size = dataset();
  for (int i = 0; i < 2; ++i) add();
  for (const auto& node : nodes_) {
    const auto done = warm(*node, addresses()).get();
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(node->parts.replica("ds", *done)->state(), ReplicaState::complete);
  }
  EXPECT_EQ(kept_by_all(), 2 * size);
}

TEST_F(Divided, ATierThatIsTooSmallIsReasonEnough) {
  const std::uint64_t size = dataset();
  for (int i = 0; i < 2; ++i) add(Bytes{size * 2 / 3});
  for (const auto& node : nodes_) {
    const auto done = warm(*node, addresses()).get();
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_GT(done->skipped, 0U);
  }
  EXPECT_EQ(read_by_all(), size);
  for (const auto& node : nodes_) view(*node, addresses());
  epoch();
  EXPECT_EQ(read_by_all(), size);
}

TEST_F(Divided, AJobOnOneNodeDividesNothing) {
  const std::uint64_t size = dataset();
  auto& node = add();
  EXPECT_FALSE(warm(node, addresses(), Bytes{size / 2}).get()) << "as ever: it needs more than --cache allows";
  EXPECT_EQ(view(node, addresses(), Bytes{size / 2}).view->parts().share, nullptr);
  epoch();
  EXPECT_GE(kept_by_all(), size / 2 - 4 * kMega) << "as much as there is room for";
}

TEST_F(Divided, WhenANodeDiesTheOriginGivesWhatItHad) {
  const std::uint64_t size = dataset();
  const Bytes limit{size / 3 + 4 * kMega};
  for (int i = 0; i < 3; ++i) add();
  for (const auto& node : nodes_) ASSERT_TRUE(warm(*node, addresses(), limit).get());
  for (int i = 0; i < 2; ++i) view(*nodes_[static_cast<std::size_t>(i)], addresses(), limit);
  nodes_[2]->shut();
  epoch();
  const std::uint64_t more = read_by_all() - size;
  EXPECT_GE(more, 2 * (size / 3 - 4 * kMega)) << "both read its share";
  EXPECT_LE(more, 2 * (size / 3 + 4 * kMega)) << "and nothing else";
}

TEST_F(Divided, ANodeThatHangsIsGivenUp) {
  const std::uint64_t size = dataset();
  const Bytes limit{size / 2 + 4 * kMega};
  std::atomic<int> asked = 0;
  FetchService service(
      [&](auto* ctx, const auto* fetch) { return new Silent(auth_.sign_stream(*ctx, "Agent.Fetch", *fetch), asked); });
  std::string address;
  const auto server = serve_on_loopback(service, address);
  auto& node = add(kGiB, 500ms);
  auto nodes = addresses();
  nodes.push_back({"stopped", address});
  view(node, nodes, limit);
  epoch();
  EXPECT_GT(asked, 0);
  EXPECT_EQ(read_by_all(), size);
  server->Shutdown(std::chrono::system_clock::now());
}

TEST_F(Divided, AKeeperThatWaitsForALimitIsWaitedForAndNothingIsReadTwice) {
  file("ds/large", random_bytes(12 * kMega, 1000));
  const Bytes limit{10 * kMega};
  governor_.set_budgets({{LimitKind::user, "alice", kAlice, {1.5e6, kNoRate}, kDefaultBurst, 0}}, 1);
  add(kGiB, 20s, &governor_, 700ms);
  add(kGiB, 20s, nullptr, 700ms);
  view(*nodes_[0], addresses(), limit);
  const auto& job = view(*nodes_[1], addresses(), limit);
  const Principal alice = user(kAlice);
  EXPECT_EQ(difference(look(job.path(), &alice), look(origin("ds"), &alice)), "");
  EXPECT_GT(nodes_[0]->parts.fetcher->counters_of_job(1).bytes, 4 * kMega) << "more than passes at once";
  EXPECT_GT(governor_.throttled(1).time, 1s) << "longer than a node is waited for that brings nothing";
  EXPECT_EQ(read_by_all(), 12 * kMega);
}

TEST_F(Divided, AnotherJobsNodesLeaveAShareWhereItIs) {
  const std::uint64_t size = dataset();
  const Bytes limit{size / 2 + 4 * kMega};
  for (int i = 0; i < 3; ++i) add();
  const auto first = addresses({0, 1}), second = addresses({0, 2});
  for (const std::size_t i : {0U, 1U}) ASSERT_TRUE(warm(*nodes_[i], first, limit).get());
  const auto replica = nodes_[0]->parts.store->replicas_of({"o", "ds"}).at(0);
  const auto manifest = replica->manifest().value();
  std::vector<bool> had;
  const auto look_at = [&] {
    std::vector<bool> here;
    for (FileIndex i = 0; i < manifest->size(); ++i)
      for (std::uint64_t b = 0; b < manifest->at(i).blocks; ++b)
        here.push_back(replica->resident(*manifest, {i, Bytes{b * kMega}, Bytes{1}}));
    return here;
  };
  had = look_at();
  for (const auto& [i, job] : {std::pair(0U, 2U), std::pair(2U, 2U)}) view(*nodes_[i], second, limit, job);
  view(*nodes_[1], first, limit, 1);
  epoch();
  const auto has = look_at();
  for (std::size_t i = 0; i < had.size(); ++i) EXPECT_LE(had[i], has[i]) << "block " << i << " went";
  const auto before = read_by_all();
  epoch();
  EXPECT_LE(read_by_all() - before, size / 2) << "what does not fit beside the first job's share";
}

TEST_F(Divided, AnotherUsersJobGetsNothingBroughtByThisOnes) {
  dataset();
  auto& node = add();
  add();
  view(node, addresses(), Bytes{40 * kMega}, 1);
  const auto replica = node.parts.store->replicas_of({"o", "ds"}).at(0);
  const auto manifest = replica->manifest().value();
  const auto share =
      node.parts.engine->shares().of(key(1), user(kAlice), *manifest, {"o", "ds"}, addresses(), Bytes{40 * kMega});
  ASSERT_TRUE(share);
  FileIndex mine = 0, other = 0;
  for (FileIndex i = 0; i < manifest->size(); ++i) {
    if (manifest->at(i).blocks != 1 || manifest->at(i).attributes.size == 0) continue;
    (share->mine(*manifest, i, 0) ? mine : other) = i;
  }
  const auto whole = [](FileIndex file) { return Extent{file, {}, Bytes{50'000}}; };
  EXPECT_FALSE(node.parts.engine->shares().bring(2, replica, whole(mine), [] {})) << "no such job here";
  EXPECT_FALSE(node.parts.engine->shares().bring(1, replica, whole(other), [] {})) << "not this node's to keep";
  EXPECT_TRUE(node.parts.engine->shares().bring(1, replica, whole(mine), [] {}));
  node.parts.engine->forget_job(1);
  EXPECT_FALSE(node.parts.engine->shares().bring(1, replica, whole(mine), [] {})) << "the job is over";
}

}  // namespace
}  // namespace atlas::agent
