// A dataset that changes: only the difference is fetched, equal files are one file on the disk.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "cache-agent/store/replica_state.h"
#include "cache-agent/store/scrubber.h"
#include "tests/support/origin_on_node.h"

namespace atlas::agent {
namespace {

using ::testing::IsEmpty;

constexpr std::size_t kSize = 30'000;

class Generations : public OriginOnNode {
 protected:
  void many_files() const {
    directory("ds", kAlice, 0755);
    directory("ds/sub", kAlice, 0755);
    for (unsigned i = 0; i < 40; ++i)
      file((i % 2 == 0 ? "ds/f" : "ds/sub/f") + std::to_string(i), random_bytes(kSize, i));
  }
  std::string compare(NodeParts& node, const WarmProgress& done) const {
    const Principal alice = user(kAlice);
    const auto mounts = node.replica("ds", done)->mounts(1, {});
    if (!mounts) return mounts.error().message;
    return difference(look("/proc/self/fd/" + std::to_string(mounts->front().get()), &alice),
                      look(origin("ds"), &alice));
  }
  static ino_t inode(const Replica& replica, const char* name) {
    const auto mounts = replica.mounts(1, {});
    struct stat st {};
    EXPECT_EQ(fstatat(mounts->front().get(), name, &st, 0), 0);
    return st.st_ino;
  }
};

TEST_F(Generations, OnlyTheDifferenceIsFetched) {
  many_files();
  NodeParts node(options());
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old) << old.error().message;
  const auto before = node.origin.counters();
  const auto used = node.store->tiers()[0].used;

  file("ds/f0", random_bytes(kSize, 100));
  file("ds/new", random_bytes(kSize, 101));
  std::filesystem::remove(origin("ds/f2"));
  std::filesystem::rename(origin("ds/sub/f1"), origin("ds/sub/renamed"));
  const auto fresh = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(fresh) << fresh.error().message;
  EXPECT_EQ(node.origin.counters().bytes - before.bytes, 3 * kSize) << "changed, new, renamed";
  EXPECT_EQ(compare(node, *fresh), "");
  EXPECT_EQ(inode(*node.replica("ds", *old), "f4"), inode(*node.replica("ds", *fresh), "f4"));
  EXPECT_LT((node.store->tiers()[0].used - used).count, 10 * kSize) << "what is shared takes no room twice";
  const auto verified = node.store->verify(node.replica("ds", *fresh));
  ASSERT_TRUE(verified);
  EXPECT_EQ(verified->checked, 40U);
  EXPECT_EQ(verified->bad, 0U);
}

TEST_F(Generations, ARewriteOfEqualSizeAndTimeIsSeen) {
  many_files();
  NodeParts node(options());
  ASSERT_TRUE(node.warm("ds", user(kAlice)));
  struct stat st {};
  ASSERT_EQ(stat(origin("ds/f0").c_str(), &st), 0);
  write_file(origin("ds/f0"), random_bytes(kSize, 100));
  set_times(origin("ds/f0"), st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  const auto fresh = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(fresh) << fresh.error().message;
  EXPECT_EQ(compare(node, *fresh), "");
}

TEST_F(Generations, AChangedAclOrModeIsNotShared) {
  many_files();
  NodeParts node(options());
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old);
  give_read(origin("ds/f0"), kBob);
  ASSERT_EQ(chmod(origin("ds/f2").c_str(), 0600), 0);
  const auto fresh = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(fresh) << fresh.error().message;
  EXPECT_EQ(compare(node, *fresh), "");
  EXPECT_NE(inode(*node.replica("ds", *old), "f2"), inode(*node.replica("ds", *fresh), "f2"))
      << "the old generation keeps its mode";
}

TEST_F(Generations, TheSpaceOfSharedFilesIsCountedUntilTheLastOneGoes) {
  many_files();
  NodeParts node(options());
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old);
  file("ds/f0", random_bytes(kSize, 100));
  const auto fresh = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(fresh);
  const auto both = node.store->tiers()[0].used.count;
  EXPECT_THAT(node.store->evict({"o", "ds"}, old->generation.id).kept, IsEmpty());
  const auto one = node.store->tiers()[0].used.count;
  EXPECT_GE(one, 40 * kSize) << "the files stay, so does their charge";
  EXPECT_LE(one, both);
  EXPECT_EQ(compare(node, *fresh), "") << "eviction unlinks names, not what others share";
  EXPECT_THAT(node.store->evict({"o", "ds"}, std::nullopt).kept, IsEmpty());
  EXPECT_EQ(node.store->tiers()[0].used.count, 0U);
}

TEST_F(Generations, WithoutRoomForBothTheOldOneGoesIfNothingCanBeShared) {
  directory("ds", kAlice, 0755);
  file("ds/f", random_bytes(3'000'000, 1));
  NodeParts node(options(Bytes{5'000'000}));
  ASSERT_TRUE(node.warm("ds", user(kAlice)));
  file("ds/f", random_bytes(3'000'000, 2));
  const auto fresh = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(fresh) << fresh.error().message;
  EXPECT_EQ(compare(node, *fresh), "");
  EXPECT_EQ(node.store->inventory().size(), 1U);
}

TEST_F(Generations, WithoutRoomForTwoCopiesTheDifferenceStillFits) {
  many_files();
  NodeParts node(options(Bytes{40 * kSize + 600'000}));
  ASSERT_TRUE(node.warm("ds", user(kAlice)));
  const auto before = node.origin.counters().bytes;
  file("ds/f0", random_bytes(kSize, 100));
  const auto fresh = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(fresh) << fresh.error().message;
  EXPECT_EQ(node.origin.counters().bytes - before, kSize);
  EXPECT_EQ(compare(node, *fresh), "");
}

class Integrity : public Generations {
 protected:
  /// A bit of a replica's file flips, as on a bad disk.
  static void flip(const Replica& replica, const char* name) {
    const auto path = temporary_tree(replica) + "/" + name;
    const UniqueFd fd(::open(path.c_str(), O_RDWR));
    char byte = 0;
    ASSERT_EQ(pread(fd.get(), &byte, 1, 1000), 1);
    byte = static_cast<char>(byte ^ 4);
    ASSERT_EQ(pwrite(fd.get(), &byte, 1, 1000), 1);
  }
  static std::string temporary_tree(const Replica& replica) { return replica.internals().path + "/tree"; }
  static Result<WarmProgress> verify(NodeParts& node, const Principal& as, std::vector<WarmPhase>& phases) {
    std::promise<Result<WarmProgress>> done;
    node.engine->verify(
        {{"o", "ds"}, as, {}, {}, false}, [&](const WarmProgress& now) { phases.push_back(now.phase); },
        [&](Result<WarmProgress> last) { done.set_value(std::move(last)); });
    return done.get_future().get();
  }
};

TEST_F(Integrity, VerifyFindsWhatDiffersAndFetchesThatAgain) {
  many_files();
  NodeParts node(options());
  const auto warm = node.warm("ds", user(kAlice));
  ASSERT_TRUE(warm);
  flip(*node.replica("ds", *warm), "f4");
  flip(*node.replica("ds", *warm), "sub/f5");
  const auto before = node.origin.counters().bytes;
  std::vector<WarmPhase> phases;
  const auto done = verify(node, user(kAlice), phases);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->bad_blocks, 2U);
  EXPECT_EQ(done->phase, WarmPhase::complete);
  EXPECT_EQ(phases.front(), WarmPhase::verifying);
  EXPECT_EQ(node.origin.counters().bytes - before, 2 * kSize);
  EXPECT_EQ(compare(node, *done), "");
  const auto again = verify(node, user(kAlice), phases);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bad_blocks, 0U);
}

TEST_F(Integrity, VerifyIsForThoseWhoMayRead) {
  directory("ds", kAlice, 0700);
  file("ds/f", "x");
  NodeParts node(options());
  ASSERT_TRUE(node.warm("ds", user(kAlice)));
  std::vector<WarmPhase> phases;
  const auto refused = verify(node, user(kBob), phases);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::permission_denied);
  EXPECT_THAT(phases, IsEmpty());
}

TEST_F(Integrity, TheScrubberFindsABadBlockAndTheNextJobFetchesIt) {
  many_files();
  NodeParts node(options());
  const auto warm = node.warm("ds", user(kAlice));
  ASSERT_TRUE(warm);
  flip(*node.replica("ds", *warm), "f4");
  std::promise<std::string> found;
  {
    const Scrubber scrubber(*node.store, node.clock, {std::chrono::milliseconds(1), {}},
                            [&](const std::string& what) { found.set_value(what); });
    const auto future = found.get_future();
    ASSERT_EQ(future.wait_for(std::chrono::seconds(30)), std::future_status::ready);
  }
  EXPECT_EQ(node.replica("ds", *warm)->state(), ReplicaState::partial);
  const auto before = node.origin.counters().bytes;
  const auto again = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(node.origin.counters().bytes - before, kSize);
  EXPECT_EQ(compare(node, *again), "");
}

}  // namespace
}  // namespace atlas::agent
