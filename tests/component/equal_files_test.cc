// Equal files of several datasets on one tier: one inode, and nobody sees a difference.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "cache-agent/store/replica_state.h"
#include "tests/support/origin_tree.h"

namespace atlas::agent {
namespace {

constexpr std::size_t kMega = 1 << 20;

class EqualFiles : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: replicas keep their owners";
    std::filesystem::create_directory(temp_.path("origin"));
    for (const char* name : {"a", "b"}) directory(name, kAlice, 0755);
  }
  /// The same bytes, owner, mode and time under both names.
  void in_both(const std::string& name, const std::string& bytes, mode_t mode = 0644) {
    for (const char* dataset : {"a/", "b/"}) {
      file(dataset + name, bytes, kAlice, mode);
      set_time(dataset + name, 1'600'000'000);
    }
  }
  void set_time(const std::string& name, std::int64_t seconds) const { set_times(origin(name), seconds, 5); }
  [[nodiscard]] NodeParts::Options options() const {
    NodeParts::Options o;
    o.origin = origin();
    o.tiers = {{"nvme", temp_.path("tier"), kGiB}};
    return o;
  }
  static std::shared_ptr<Replica> warm(NodeParts& node, const std::string& dataset, std::uint32_t uid = kAlice) {
    const auto done = node.warm(dataset, user(uid), true);
    EXPECT_TRUE(done) << done.error().message;
    return done ? node.replica(dataset, *done) : nullptr;
  }
  static std::string in_tier(const Replica& replica, const std::string& name) {
    return replica.internals().path + "/tree/" + name;
  }
  static struct stat stat_of(const Replica& replica, const std::string& name) {
    struct stat st {};
    EXPECT_EQ(lstat(in_tier(replica, name).c_str(), &st), 0) << name;
    return st;
  }
  static bool one_inode(const Replica& a, const Replica& b, const std::string& name) {
    return stat_of(a, name).st_ino == stat_of(b, name).st_ino;
  }
  void expect_right(const Replica& replica, const std::string& dataset) const {
    EXPECT_EQ(difference(look(in_tier(replica, ""), nullptr), look(origin(dataset), nullptr)), "") << dataset;
  }
};

TEST_F(EqualFiles, AreStoredOnceAndKeepAllThatTheOriginShows) {
  in_both("large", random_bytes(3 * kMega + 17, 1));
  in_both("small", "a few bytes");
  for (const char* name : {"a/sub", "b/sub"}) directory(name, kAlice, 0750);
  in_both("sub/deep", random_bytes(kMega, 2));
  file("b/own", random_bytes(kMega, 3));
  for (const char* name : {"b/sub", "b"}) set_time(name, 1'500'000'000);
  NodeParts node(options());
  const auto a = warm(node, "a");
  const auto one = node.store->tiers()[0];
  const auto b = warm(node, "b");
  ASSERT_TRUE(a && b);
  for (const char* name : {"large", "small", "sub/deep"}) EXPECT_TRUE(one_inode(*a, *b, name)) << name;
  expect_right(*a, "a");
  expect_right(*b, "b");
  const auto both = node.store->tiers()[0];
  EXPECT_LT(both.used.count - one.used.count, 2 * kMega) << "only what is its own is charged";
  EXPECT_EQ(both.inodes_used - one.inodes_used, one.inodes_used + 1 - 3);
}

TEST_F(EqualFiles, AnyDifferenceInWhatAnInodeCarriesKeepsThemApart) {
  unsigned seed = 0;
  for (const char* name : {"owner", "group", "mode", "time", "xattr", "acl", "bytes", "same"})
    in_both(name, random_bytes(kMega, ++seed));
  ASSERT_EQ(chown(origin("b/owner").c_str(), kBob, kAlice), 0);
  ASSERT_EQ(chown(origin("b/group").c_str(), kAlice, kBob), 0);
  ASSERT_EQ(chmod(origin("b/mode").c_str(), 0645), 0);
  set_time("b/time", 1'600'000'001);
  ASSERT_EQ(setxattr(origin("b/xattr").c_str(), "user.note", "x", 1, 0), 0);
  give_read(origin("b/acl"), kBob);
  ASSERT_EQ(chmod(origin("a/acl").c_str(), 0640), 0);  // as the other one looks
  file("b/bytes", random_bytes(kMega, 99), kAlice, 0644);
  set_time("b/bytes", 1'600'000'000);
  NodeParts node(options());
  const auto a = warm(node, "a"), b = warm(node, "b");
  ASSERT_TRUE(a && b);
  for (const char* name : {"owner", "group", "mode", "time", "xattr", "acl", "bytes"})
    EXPECT_FALSE(one_inode(*a, *b, name)) << name;
  EXPECT_TRUE(one_inode(*a, *b, "same"));
  expect_right(*a, "a");
  expect_right(*b, "b");
}

TEST_F(EqualFiles, WhatTheWarmingUserMayNotReadStaysWithoutData) {
  in_both("secret", random_bytes(kMega, 1), 0600);
  NodeParts node(options());
  const auto a = warm(node, "a");
  const auto b = warm(node, "b", kBob);  // sees that it is there, no more
  ASSERT_TRUE(a && b);
  EXPECT_FALSE(one_inode(*a, *b, "secret"));
  EXPECT_EQ(stat_of(*b, "secret").st_blocks, 0);
  EXPECT_NE(b->why_not_mountable_for(user(kAlice)), "") << "whoever may read it gets another generation";
}

TEST_F(EqualFiles, TwoNamesOfOneFileStayThat) {
  in_both("x", random_bytes(kMega, 1));
  std::filesystem::create_hard_link(origin("b/x"), origin("b/y"));
  NodeParts node(options());
  const auto a = warm(node, "a"), b = warm(node, "b");
  ASSERT_TRUE(a && b);
  EXPECT_EQ(stat_of(*b, "x").st_ino, stat_of(*b, "y").st_ino);
  expect_right(*b, "b");
}

TEST_F(EqualFiles, ARottenBlockIsPutRightInBoth) {
  const auto bytes = random_bytes(2 * kMega, 1);
  in_both("x", bytes);
  NodeParts node(options());
  const auto a = warm(node, "a");
  auto b = warm(node, "b");
  ASSERT_TRUE(a && b);
  ASSERT_TRUE(one_inode(*a, *b, "x"));
  {
    const UniqueFd fd(open(in_tier(*a, "x").c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(pwrite(fd.get(), "rot", 3, kMega + 9), 3);
  }
  const auto found = node.store->verify(b);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->bad, 1U);
  ASSERT_TRUE(warm(node, "b"));
  EXPECT_TRUE(one_inode(*a, *b, "x"));
  const auto again = node.store->verify(a);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bad, 0U) << "the other one's repair was its own";
  for (const auto& [replica, name] : {std::pair(a, "a"), std::pair(b, "b")}) {
    EXPECT_EQ(replica->state(), ReplicaState::complete);
    expect_right(*replica, name);
  }
}

TEST_F(EqualFiles, WhoStaysIsChargedWhatHeShared) {
  in_both("x", random_bytes(4 * kMega, 1));
  in_both("y", random_bytes(kMega, 2));
  Bytes both, alone;
  GenerationId first, second;
  {
    NodeParts node(options());
    auto a = warm(node, "a"), b = warm(node, "b");
    ASSERT_TRUE(a && b);
    first = a->generation();
    second = b->generation();
    alone = node.store->info(*a).charged;
    both = node.store->tiers()[0].used;
    EXPECT_LT(both.count, 6 * kMega);
  }
  NodeParts node(options());
  EXPECT_EQ(node.store->tiers()[0].used, both) << "after a restart, too";
  EXPECT_EQ(node.store->evict({"o", "a"}, first).replicas, 1U);
  const auto b = node.store->find({"o", "b"}, second);
  ASSERT_TRUE(b);
  EXPECT_EQ(node.store->info(*b).charged, node.store->tiers()[0].used);
  EXPECT_GE(node.store->tiers()[0].used.count, 5 * kMega);
  EXPECT_LE(node.store->tiers()[0].used, alone);
  expect_right(*b, "b");
}

TEST_F(EqualFiles, WhatComesAndGoesLeavesNoTraceInTheAccounts) {
  in_both("x", random_bytes(4 * kMega, 1));
  in_both("y", "few bytes, a whole block on the disk");
  file("b/own", random_bytes(2 * kMega, 3));
  NodeParts node(options());
  ASSERT_TRUE(warm(node, "a"));
  const auto alone = node.store->tiers()[0];
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(warm(node, "b"));
    EXPECT_GT(node.store->tiers()[0].used, alone.used);
    ASSERT_EQ(node.store->evict({"o", "b"}, std::nullopt).replicas, 1U);
    EXPECT_EQ(node.store->tiers()[0].used, alone.used);
    EXPECT_EQ(node.store->tiers()[0].inodes_used, alone.inodes_used);
  }
  file("a/more", random_bytes(kMega, 4));  // a new generation shares the rest of the old one's files
  ASSERT_TRUE(warm(node, "a"));
  ASSERT_EQ(node.store->evict({"o", "a"}, std::nullopt).replicas, 2U);
  EXPECT_EQ(node.store->tiers()[0].used, Bytes{});
  EXPECT_EQ(node.store->tiers()[0].inodes_used, 0U);
}

TEST_F(EqualFiles, ADamagedListOfKeysCostsSpaceAndNothingElse) {
  in_both("x", random_bytes(kMega, 1));
  NodeParts node(options());
  const auto a = warm(node, "a");
  ASSERT_TRUE(a);
  std::filesystem::resize_file(a->internals().path + "/keys", 40);
  const auto b = warm(node, "b");
  ASSERT_TRUE(b);
  EXPECT_FALSE(one_inode(*a, *b, "x"));
  expect_right(*b, "b");
}

TEST_F(EqualFiles, AreLookedForAmongSoManyOthersAtMostTheOwnersOwnFirst) {
  const auto add = [&](const std::string& dataset, std::uint32_t owner, int files, unsigned seed) {
    directory(dataset, owner, 0755);
    for (int i = 0; i < files; ++i) {
      file(dataset + "/f" + std::to_string(i), random_bytes(kMega, seed + static_cast<unsigned>(i)), kAlice, 0644);
      set_time(dataset + "/f" + std::to_string(i), 1'600'000'000);
    }
  };
  add("many", kAlice, 6, 1);
  add("some", kAlice, 3, 100);
  add("hers", kBob, 2, 200);
  add("last", kBob, 2, 300);
  for (const char* from : {"many/f0", "some/f0", "hers/f0", "last/f0"}) {  // each has one that is also in "new"
    const std::string to = "new/" + std::string(1, from[0]);
    directory("new", kAlice, 0755);
    std::filesystem::copy_file(origin(from), origin(to));
    ASSERT_EQ(chown(origin(to).c_str(), kAlice, kAlice), 0);
    set_time(to, 1'600'000'000);
  }
  auto few = options();
  few.equal_files_among = 6;  // less than four times the new one's own
  NodeParts node(few);
  const auto many = warm(node, "many"), some = warm(node, "some"), hers = warm(node, "hers"), last = warm(node, "last");
  ASSERT_TRUE(many && some && hers && last);
  const auto shared = [&](const Replica& one, const Replica& other, const std::string& mine) {
    return stat_of(one, mine).st_ino == stat_of(other, "f0").st_ino;
  };
  {
    const auto all = warm(node, "new");
    ASSERT_TRUE(all);
    EXPECT_TRUE(shared(*all, *many, "m") && shared(*all, *some, "s") && shared(*all, *hers, "h"));
    const auto looked = node.store->share_equal_files(all);
    EXPECT_EQ(looked.files, 13U) << "sixteen are allowed for its four";
    EXPECT_EQ(looked.replicas, 4U);
  }
  ASSERT_EQ(node.store->evict({"o", "new"}, std::nullopt).replicas, 1U);
  for (const char* name : {"m", "l", "h"}) std::filesystem::remove(origin("new/" + std::string(name)));
  const auto one = warm(node, "new");  // of one file: six others are looked at
  ASSERT_TRUE(one);
  EXPECT_TRUE(shared(*one, *some, "s"));
  expect_right(*one, "new");
  node.store->touch(*many);
  const auto looked = node.store->share_equal_files(one);
  EXPECT_EQ(looked.files, 6U);
  EXPECT_EQ(looked.replicas, 1U) << "the owner's own that was used last";
  node.store->touch(*some);
  const auto again = node.store->share_equal_files(one);
  EXPECT_EQ(again.files, 5U) << "three of the owner's, then two of what fits";
  EXPECT_EQ(again.replicas, 2U);
}

}  // namespace
}  // namespace atlas::agent
