// Warm-ups of real files by real users: run as root, skipped (and said so) otherwise.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <fstream>

#include "tests/support/origin_on_node.h"

namespace atlas::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

using Warm = OriginOnNode;

TEST_F(Warm, WhatAJobSeesEqualsTheOrigin) {
  nasty_tree();
  NodeParts node(options(Bytes{64 * kMiB.count}));
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->phase, WarmPhase::complete);
  EXPECT_EQ(done->bytes_done, done->bytes_total);
  EXPECT_EQ(done->generation.outward_links, 1U);
  const auto replica = node.replica("ds", *done);
  ASSERT_TRUE(replica->mountable_for(user(kAlice))) << replica->why_not_mountable_for(user(kAlice));
  const Principal alice = user(kAlice);
  EXPECT_EQ(difference(through(*replica, &alice), look(origin("ds"), &alice)), "");
  EXPECT_THAT(through(*replica, &alice), Contains(HasSubstr("mode600")));
  const Principal bob = user(kBob);
  EXPECT_FALSE(replica->mountable_for(bob)) << "it holds entries that only a walk by bob can judge";

  struct stat st {};
  const auto mounts = replica->mounts(1, {}).value();
  ASSERT_EQ(fstatat(mounts[0].get(), "sparse", &st, 0), 0);
  EXPECT_LT(st.st_blocks * 512, 4 << 20) << "it must stay sparse";
  EXPECT_LT(done->origin_bytes.count, 20U << 20) << "holes must not be read";
}

TEST_F(Warm, AMountCannotBeWrittenAndHonoursNoSetuidNoDevices) {
  nasty_tree();
  NodeParts node(options());
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  const auto mounts = node.replica("ds", *done)->mounts(2, {});
  ASSERT_TRUE(mounts) << mounts.error().message;
  EXPECT_EQ(mounts->size(), 2U);
  EXPECT_LT(openat((*mounts)[0].get(), "plain", O_WRONLY), 0);
  EXPECT_EQ(errno, EROFS);
  EXPECT_LT(openat((*mounts)[0].get(), "device", O_RDONLY), 0);
  EXPECT_EQ(errno, EACCES);
}

TEST_F(Warm, NobodyReadsThroughTheAgentWhatTheOriginRefuses) {
  nasty_tree();
  NodeParts node(options());
  const auto done = node.warm("ds", user(kBob));
  ASSERT_TRUE(done) << done.error().message;
  const auto replica = node.replica("ds", *done);
  // Bob may not enter "a dir" (0750 of alice): nothing in it is known, nothing of it was read.
  const auto manifest = replica->manifest().value();
  const auto closed = manifest->find("a dir");
  ASSERT_TRUE(closed);
  EXPECT_TRUE(manifest->at(*closed).opaque());
  EXPECT_FALSE(manifest->find("a dir/big"));
  const Principal bob = user(kBob), alice = user(kAlice);
  EXPECT_EQ(difference(through(*replica, &bob), look(origin("ds"), &bob)), "");
  EXPECT_TRUE(replica->mountable_for(bob));
  EXPECT_FALSE(replica->mountable_for(alice));
  EXPECT_THAT(replica->why_not_mountable_for(alice), HasSubstr("cached for other users"));
}

TEST_F(Warm, ADatasetTheUserMayNotEnterIsRefusedWithPathAndUser) {
  directory("ds", kAlice, 0700);
  file("ds/f", "x");
  NodeParts node(options());
  ASSERT_TRUE(node.warm("ds", user(kAlice)));
  const auto refused = node.warm("ds", user(kBob));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::permission_denied);
  EXPECT_THAT(refused.error().message, HasSubstr(origin("ds")));
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(kBob)));
}

TEST_F(Warm, WhatIsNotADatasetIsNamed) {
  directory("ds", kAlice, 0755);
  std::filesystem::create_directory_symlink("ds", origin("link"));
  ASSERT_EQ(mkfifo(origin("fifo").c_str(), 0644), 0);
  NodeParts node(options());
  EXPECT_EQ(node.warm("nowhere", user(kAlice)).error().code, Code::not_found);
  EXPECT_EQ(node.warm("link", user(kAlice)).error().code, Code::invalid_argument);
  EXPECT_EQ(node.warm("link/x", user(kAlice)).error().code, Code::invalid_argument);
  EXPECT_EQ(node.warm("fifo", user(kAlice)).error().code, Code::invalid_argument);
  EXPECT_EQ(node.warm("../ds", user(kAlice)).error().code, Code::invalid_argument);
  EXPECT_EQ(node.start({{"other", "ds"}, user(kAlice), {}, {}, false}).get().error().code, Code::not_found);
}

TEST_F(Warm, ASecondWarmUpReadsNothing) {
  nasty_tree();
  NodeParts node(options());
  const auto first = node.warm("ds", user(kAlice));
  ASSERT_TRUE(first) << first.error().message;
  const auto after = node.origin.counters();
  const auto vouched = node.warm("ds", user(kAlice));
  ASSERT_TRUE(vouched) << vouched.error().message;
  EXPECT_EQ(vouched->phase, WarmPhase::complete);
  EXPECT_EQ(vouched->generation.id, first->generation.id);
  EXPECT_EQ(node.origin.counters().operations, after.operations) << "a recent walk vouches";
  const auto walked = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(walked) << walked.error().message;
  EXPECT_EQ(walked->generation.id, first->generation.id);
  EXPECT_GT(node.origin.counters().operations, after.operations);
  EXPECT_EQ(node.origin.counters().bytes, after.bytes) << "nothing changed, so no data is read";
}

TEST_F(Warm, NobodysWalkVouchesForAnother) {
  directory("ds", kAlice, 0755);
  file("ds/f", "x");
  directory("ds2", kAlice, 0755);
  directory("closed", kAlice, 0755);
  file("closed/f", "x");
  NodeParts node(options());
  ASSERT_TRUE(node.warm("ds", user(kAlice)));
  const auto bytes = node.origin.counters().bytes;
  const auto same = node.warm("ds", user(kBob));
  ASSERT_TRUE(same);
  EXPECT_EQ(node.origin.counters().bytes, bytes) << "he looks himself, and reads nothing twice";
  ASSERT_EQ(chmod(origin("ds/f").c_str(), 0600), 0);
  const auto closed = node.warm("ds", user(kCarol));
  ASSERT_TRUE(closed);
  EXPECT_NE(closed->generation.id, same->generation.id) << "closed since the others looked";
  ASSERT_TRUE(node.warm("closed", user(kAlice)));
  ASSERT_EQ(chmod(origin("closed").c_str(), 0700), 0);
  EXPECT_EQ(node.warm("closed", user(kBob)).error().code, Code::permission_denied);
}

TEST_F(Warm, AChangedFileMakesANewGenerationAndLeavesTheOldOneAlone) {
  directory("ds", kAlice, 0755);
  file("ds/f", "old");
  NodeParts node(options());
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old) << old.error().message;
  file("ds/f", "new");
  const auto fresh = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(fresh) << fresh.error().message;
  EXPECT_NE(fresh->generation.id, old->generation.id);
  EXPECT_EQ(node.store->newest_complete({"o", "ds"}), node.replica("ds", *fresh));
  const Principal alice = user(kAlice);
  EXPECT_EQ(difference(through(*node.replica("ds", *fresh), &alice), look(origin("ds"), &alice)), "");
  const auto mounts = node.replica("ds", *old)->mounts(1, {}).value();
  const UniqueFd fd(openat(mounts[0].get(), "f", O_RDONLY));
  char text[4] = {};
  EXPECT_EQ(read(fd.get(), text, 3), 3);
  EXPECT_STREQ(text, "old");
}

TEST_F(Warm, ADatasetOfOneFile) {
  directory("d", kAlice, 0755);
  const std::string content = random_bytes((3 << 20) + 7, 9);
  file("d/data.lmdb", content);
  NodeParts node(options());
  const auto done = node.warm("d/data.lmdb", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  const auto replica = node.replica("d/data.lmdb", *done);
  EXPECT_TRUE(replica->is_file());
  const Principal alice = user(kAlice);
  EXPECT_EQ(difference(through(*replica, &alice), look(origin("d/data.lmdb"), &alice)), "");
}

TEST_F(Warm, ManyWhoWaitShareOneTransfer) {
  directory("ds", kAlice, 0755);
  for (int i = 0; i < 200; ++i) file("ds/f" + std::to_string(i), random_bytes(50'000, static_cast<unsigned>(i)));
  NodeParts node(options());
  std::vector<std::future<Result<WarmProgress>>> waiting;
  for (std::uint32_t job = 1; job <= 50; ++job)
    waiting.push_back(node.start({{"o", "ds"}, user(job % 2 == 0 ? kAlice : kBob), {"test", job, 0, {}}, {}, false}));
  for (auto& one : waiting) {
    const auto done = one.get();
    ASSERT_TRUE(done) << done.error().message;
  }
  EXPECT_EQ(node.origin.counters().bytes, 200U * 50'000U);
  EXPECT_EQ(node.store->inventory().size(), 1U);
}

TEST_F(Warm, ProgressComesAtOnceAndAtEveryPhase) {
  directory("ds", kAlice, 0755);
  file("ds/f", random_bytes(3 << 20, 1));
  NodeParts node(options());
  std::mutex mutex;
  std::vector<WarmPhase> phases;
  const auto done = node.start({{"o", "ds"}, user(kAlice), {}, {}, false},
                               [&](const WarmProgress& p) {
                                 const std::lock_guard lock(mutex);
                                 EXPECT_EQ(p.node, "n1");
                                 if (phases.empty() || phases.back() != p.phase) phases.push_back(p.phase);
                               })
                        .get();
  ASSERT_TRUE(done) << done.error().message;
  const std::lock_guard lock(mutex);
  EXPECT_THAT(phases, ElementsAreArray({WarmPhase::walking, WarmPhase::fetching, WarmPhase::sealing}));
  EXPECT_EQ(done->origin_bytes.count, 3U << 20);
}

TEST_F(Warm, AJobFillsNoMoreThanItsCacheLimit) {
  directory("a", kAlice, 0755);
  directory("b", kAlice, 0755);
  file("a/f", random_bytes(3 << 20, 1));
  file("b/f", random_bytes(3 << 20, 2));
  NodeParts node(options());
  EXPECT_EQ(node.warm("a", user(kAlice), false, Bytes{2 << 20}).error().code, Code::resource_exhausted);
  EXPECT_TRUE(node.warm("a", user(kAlice), false, Bytes{4 << 20}));
  const auto both = node.warm("b", user(kAlice), false, Bytes{4 << 20});
  ASSERT_FALSE(both);
  EXPECT_THAT(both.error().message, HasSubstr("--cache allows 4M"));
  EXPECT_TRUE(node.warm("b", user(kAlice), false, Bytes{4 << 20}, 2)) << "another job has a limit of its own";
}

TEST_F(Warm, ASurveyCountsWithoutCopying) {
  directory("ds", kAlice, 0755);
  file("ds/f", random_bytes(3 << 20, 1));
  file("ds/g", "x");
  NodeParts node(options());
  const auto seen = node.engine->survey({"o", "ds"}, user(kAlice), std::chrono::seconds(10));
  ASSERT_TRUE(seen) << seen.error().message;
  EXPECT_EQ(seen->bytes_total.count, (3U << 20) + 1);
  EXPECT_EQ(seen->files_total, 2U);
  EXPECT_EQ(seen->bytes_done.count, 0U);
  EXPECT_EQ(node.origin.counters().bytes, 0U);
  const auto walked = node.origin.counters().operations;
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done);
  EXPECT_EQ(done->generation.id, seen->generation.id);
  EXPECT_LE(node.origin.counters().operations, walked + 12) << "the survey's walk is not done again";
  EXPECT_EQ(node.engine->survey({"o", "ds"}, user(kAlice), std::chrono::seconds(10))->bytes_done, seen->bytes_total);
}

}  // namespace
}  // namespace atlas::agent
