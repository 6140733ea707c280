// The store on a real directory: what is evicted, what is not, what a restart brings back.
#include "cache-agent/store/store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <barrier>
#include <csignal>
#include <fstream>
#include <thread>

#include "cache-agent/store/remove_tree.h"
#include "cache-agent/store/replica_state.h"
#include "cache-agent/store/scrubber.h"
#include "tests/support/eventually.h"
#include "tests/support/node_parts.h"
#include "tests/support/own_mounts.h"

namespace atlas::agent {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StoreOnDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: replicas keep their owners";
    std::filesystem::create_directory(temp_.path("origin"));
  }
  /// A dataset of one directory with a few files of a MiB each.
  void dataset(const std::string& name, int mebibytes) {
    std::filesystem::create_directory(temp_.path("origin/" + name));
    for (int i = 0; i < mebibytes; ++i)
      write_file(temp_.path("origin/" + name + "/" + std::to_string(i)), random_bytes(1 << 20, ++seed_));
  }
  [[nodiscard]] NodeParts::Options options(Bytes quota) const {
    NodeParts::Options o;
    o.origin = temp_.path("origin");
    o.tiers = {{"nvme", temp_.path("tier"), quota}};
    return o;
  }
  static GenerationId warm(NodeParts& node, const std::string& name) {
    const auto done = node.warm(name, user(0), true);
    EXPECT_TRUE(done) << done.error().message;
    return done ? done->generation.id : GenerationId{};
  }
  static bool has(const NodeParts& node, const std::string& name) {
    return node.store->newest_complete({"o", name}) != nullptr;
  }
  [[nodiscard]] std::vector<std::string> directories() const {
    std::vector<std::string> found;
    for (const auto& dataset : std::filesystem::directory_iterator(temp_.path("tier/replicas")))
      for (const auto& generation : std::filesystem::directory_iterator(dataset)) found.push_back(generation.path());
    for (const auto& trash : std::filesystem::directory_iterator(temp_.path("tier/trash")))
      found.push_back(trash.path());
    return found;
  }

  TempDir temp_;
  unsigned seed_ = 0;
};

TEST_F(StoreOnDisk, TheLeastRecentlyUsedGivesWay) {
  for (const char* name : {"a", "b", "c"}) dataset(name, 3);
  NodeParts node(options(Bytes{8 * kMiB.count}));
  warm(node, "a");
  warm(node, "b");
  node.store->touch(*node.store->newest_complete({"o", "a"}));
  warm(node, "c");
  EXPECT_TRUE(has(node, "a"));
  EXPECT_FALSE(has(node, "b"));
  EXPECT_TRUE(has(node, "c"));
  EXPECT_EQ(directories().size(), 2U) << "what was evicted is gone from the disk";
  EXPECT_LE(node.store->tiers()[0].used.count, 8 * kMiB.count);
}

TEST_F(StoreOnDisk, WhatPendingJobsReadStaysTheSoonerTheLonger) {
  for (const char* name : {"a", "b", "c", "d", "e"}) dataset(name, 3);
  NodeParts node(options(Bytes{11 * kMiB.count}));
  warm(node, "a");
  warm(node, "b");
  warm(node, "c");
  node.store->want({{"o", "a"}, {"o", "b"}});
  warm(node, "d");
  EXPECT_TRUE(has(node, "a") && has(node, "b")) << "the least recently used, but jobs wait to read them";
  EXPECT_FALSE(has(node, "c"));
  node.store->want({{"o", "a"}, {"o", "d"}, {"o", "b"}});
  warm(node, "e");
  EXPECT_TRUE(has(node, "a") && has(node, "d"));
  EXPECT_FALSE(has(node, "b")) << "it is read last";
  node.store->want({{"o", "e"}});
  warm(node, "c");
  EXPECT_FALSE(has(node, "a")) << "nobody waits for it any more";
}

TEST_F(StoreOnDisk, WhatAJobThatFollowsOnAnotherReadsDoesNotGoAtAll) {
  for (const char* name : {"a", "b", "c"}) dataset(name, 3);
  NodeParts node(options(Bytes{8 * kMiB.count}));
  warm(node, "a");
  warm(node, "b");
  node.store->want({{"o", "a"}, {"o", "b"}}, 2);
  EXPECT_FALSE(node.warm("c", user(0), true)) << "both are spoken for";
  EXPECT_TRUE(has(node, "a") && has(node, "b"));
  node.store->want({{"o", "a"}, {"o", "b"}}, 1);
  warm(node, "c");
  EXPECT_TRUE(has(node, "a"));
  EXPECT_FALSE(has(node, "b")) << "wanted, but not held";
}

TEST_F(StoreOnDisk, WhatIsUsedOftenStaysLongerThanWhatWasUsedOnceSince) {
  for (const char* name : {"a", "b", "c"}) dataset(name, 3);
  NodeParts node(options(Bytes{8 * kMiB.count}));
  warm(node, "a");
  for (std::uint32_t job = 1; job <= 8; ++job) {
    node.store->lease(*node.store->newest_complete({"o", "a"}), job);
    node.store->unlease(job);
  }
  warm(node, "b");
  warm(node, "c");
  EXPECT_TRUE(has(node, "a"));
  EXPECT_FALSE(has(node, "b"));
}

TEST_F(StoreOnDisk, AnOlderVersionGoesBeforeAnythingElse) {
  for (const char* name : {"a", "b", "c"}) dataset(name, 3);
  NodeParts node(options(Bytes{11 * kMiB.count}));
  warm(node, "b");
  const auto old = warm(node, "a");
  for (int i = 0; i < 3; ++i)  // all of it is new: nothing is shared with the old version
    write_file(temp_.path("origin/a/" + std::to_string(i)), random_bytes(1 << 20, ++seed_));
  warm(node, "a");
  ASSERT_NE(node.store->find({"o", "a"}, old), nullptr);
  node.store->want({{"o", "a"}});
  warm(node, "c");
  EXPECT_EQ(node.store->find({"o", "a"}, old), nullptr);
  EXPECT_TRUE(has(node, "a") && has(node, "b") && has(node, "c"));
}

TEST_F(StoreOnDisk, FilesAreCountedLikeBytes) {
  for (const char* name : {"a", "b", "c"}) dataset(name, 3);
  auto o = options(kGiB);
  o.tiers[0].inodes = 20;  // 3 files, their directory, and what a replica has beside its tree: 10
  {
    NodeParts node(o);
    warm(node, "a");
    warm(node, "b");
    EXPECT_EQ(node.store->tiers()[0].inodes_used, 20U);
    node.store->touch(*node.store->newest_complete({"o", "a"}));
    warm(node, "c");
    EXPECT_TRUE(has(node, "a"));
    EXPECT_FALSE(has(node, "b"));
    EXPECT_TRUE(has(node, "c"));
  }
  NodeParts node(o);
  EXPECT_EQ(node.store->tiers()[0].inodes_used, 20U) << "after a restart, too";
  dataset("many", 17);
  const auto refused = node.warm("many", user(0));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::resource_exhausted);
  EXPECT_THAT(refused.error().message, HasSubstr("a quota of 1G and 20 inodes"));
  EXPECT_TRUE(has(node, "a")) << "nothing is evicted in vain";
  node.store->lease(*node.store->newest_complete({"o", "a"}), 7);
  node.store->lease(*node.store->newest_complete({"o", "c"}), 7);
  dataset("d", 1);
  const auto no_inodes = node.warm("d", user(0));
  ASSERT_FALSE(no_inodes);
  EXPECT_THAT(no_inodes.error().message, HasSubstr("and 0 inodes free within its quota"));
}

TEST_F(StoreOnDisk, WhatANewGenerationSharesTakesNoFurtherInodes) {
  dataset("a", 4);
  NodeParts node(options(kGiB));
  const auto first = warm(node, "a");
  write_file(temp_.path("origin/a/0"), random_bytes(1 << 20, 99));
  const auto second = warm(node, "a");
  ASSERT_NE(first, second);
  EXPECT_EQ(node.store->tiers()[0].inodes_used, 11U + 11U - 3U);
  EXPECT_EQ(node.store->evict({"o", "a"}, first).replicas, 1U);
  EXPECT_EQ(node.store->tiers()[0].inodes_used, 11U) << "those of the shared files are the other one's now";
}

TEST_F(StoreOnDisk, NothingIsEvictedInVain) {
  for (const char* name : {"a", "b", "c"}) dataset(name, 3);
  NodeParts node(options(Bytes{8 * kMiB.count}));
  warm(node, "a");
  warm(node, "b");
  node.store->lease(*node.store->newest_complete({"o", "b"}), 7);
  dataset("large", 7);
  const auto refused = node.warm("large", user(0));
  ASSERT_FALSE(refused);
  EXPECT_TRUE(has(node, "a")) << "it would not have been enough";
  ASSERT_TRUE(node.warm("c", user(0)));
  EXPECT_FALSE(has(node, "a"));
}

TEST_F(StoreOnDisk, LeasedPinnedAndHeldReplicasStay) {
  for (const char* name : {"a", "b", "c", "d"}) dataset(name, 2);
  NodeParts node(options(Bytes{7 * kMiB.count}));
  warm(node, "a");
  warm(node, "b");
  warm(node, "c");
  node.store->lease(*node.store->newest_complete({"o", "a"}), 7);
  ASSERT_TRUE(node.store->pin({"o", "b"}, true));
  {
    const auto held = node.store->newest_complete({"o", "c"});
    const auto refused = node.warm("d", user(0));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::resource_exhausted);
    EXPECT_THAT(refused.error().message, HasSubstr("3 replicas there are in use or pinned"));
  }
  const auto kept = node.store->evict({"o", "a"}, std::nullopt);
  EXPECT_EQ(kept.replicas, 0U);
  EXPECT_THAT(kept.kept, Contains(HasSubstr("job 7 holds it")));
  node.store->unlease(7);
  ASSERT_TRUE(node.warm("d", user(0))) << "c or a could go";
  EXPECT_TRUE(has(node, "b"));
  EXPECT_EQ(node.store->evict({"o", "b"}, std::nullopt).replicas, 1U) << "who asks for it may evict what is pinned";
}

TEST_F(StoreOnDisk, AMountedReplicaStaysEvenWithoutALease) {
  dataset("a", 1);
  NodeParts node(options(Bytes{8 * kMiB.count}));
  warm(node, "a");
  // As in a job: a namespace of its own in which the replica is mounted, kept by a process.
  auto mounts = node.store->newest_complete({"o", "a"})->mounts(1, {});
  ASSERT_TRUE(mounts) << mounts.error().message;
  std::filesystem::create_directory(temp_.path("mnt"));
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  const std::string point = temp_.path("mnt");
  const pid_t job = fork();
  if (job == 0) {  // system calls only: other threads of the test may hold locks
    const bool ok = ::atlas::testing::own_mounts() && syscall(SYS_move_mount, mounts->front().get(), "", AT_FDCWD,
                                                              point.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0;
    const char answer = ok ? 'y' : 'n';
    if (write(ready[1], &answer, 1) == 1) pause();
    _exit(0);
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  mounts->clear();
  const auto kept = node.store->evict({"o", "a"}, std::nullopt);
  kill(job, SIGKILL);
  ASSERT_EQ(waitpid(job, nullptr, 0), job);
  EXPECT_THAT(kept.kept, Contains(HasSubstr("it is mounted")));
  EXPECT_EQ(node.store->evict({"o", "a"}, std::nullopt).replicas, 1U);
}

TEST_F(StoreOnDisk, ADatasetLargerThanTheQuotaIsRefusedAtOnce) {
  dataset("a", 4);
  NodeParts node(options(Bytes{2 * kMiB.count}));
  const auto refused = node.warm("a", user(0));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::resource_exhausted);
  EXPECT_THAT(refused.error().message, HasSubstr("a quota of 2M"));
  EXPECT_EQ(node.origin.counters().bytes, 0U);
  EXPECT_EQ(node.store->tiers()[0].used.count, 0U);
  EXPECT_THAT(directories(), IsEmpty());
}

TEST_F(StoreOnDisk, WritersThatOutgrowAnEstimateTogetherShareWhatOneOfThemGot) {
  dataset("a", 1);
  NodeParts node(options(Bytes{64 * kMiB.count}));
  const auto done = node.warm("a", user(0));
  ASSERT_TRUE(done) << done.error().message;
  const auto replica = node.replica("a", *done);
  auto& state = replica->internals();
  state.room.set_used(state.charged);  // from here on everything is beyond the estimate
  std::atomic<int> refused = 0;
  std::vector<std::jthread> writers;
  std::barrier together(16);
  for (int i = 0; i < 16; ++i)
    writers.emplace_back([&] {
      together.arrive_and_wait();
      for (int block = 0; block < 64; ++block) refused += state.charge(4096) ? 0 : 1;
    });
  writers.clear();
  EXPECT_EQ(refused, 0) << "4 MiB were asked for, and 62 were free";
  EXPECT_GE(state.charged, state.room.used());
  EXPECT_LE(node.store->tiers()[0].used.count, 64 * kMiB.count);
}

TEST_F(StoreOnDisk, TheSecondTierTakesWhatTheFirstCannot) {
  dataset("a", 2);
  dataset("b", 2);
  auto both = options(Bytes{3 * kMiB.count});
  both.tiers.push_back({"disk", temp_.path("tier2"), Bytes{8 * kMiB.count}});
  NodeParts node(both);
  warm(node, "a");
  warm(node, "b");
  EXPECT_EQ(node.store->newest_complete({"o", "a"})->tier(), "nvme");
  EXPECT_EQ(node.store->newest_complete({"o", "b"})->tier(), "disk");
}

TEST_F(StoreOnDisk, ARestartBringsBackReplicasPinsAndWhoMayMount) {
  dataset("a", 2);
  write_file(temp_.path("origin/a/secret"), "x");
  chmod(temp_.path("origin/a/secret").c_str(), 0600);
  GenerationId generation;
  {
    NodeParts node(options(Bytes{8 * kMiB.count}));
    const auto done = node.warm("a", user(4711));
    ASSERT_TRUE(done) << done.error().message;
    generation = done->generation.id;
    ASSERT_TRUE(node.store->pin({"o", "a"}, true));
  }
  for (const char* boot : {"boot-1", "boot-2"}) {
    auto again = options(Bytes{8 * kMiB.count});
    again.boot = boot;
    NodeParts node(again);
    const auto replica = node.store->find({"o", "a"}, generation);
    ASSERT_TRUE(replica) << boot;
    EXPECT_EQ(replica->state(), ReplicaState::complete);
    EXPECT_TRUE(replica->mountable_for(user(4711)));
    EXPECT_FALSE(replica->mountable_for(user(4712)));
    EXPECT_TRUE(node.store->info(*replica).pinned);
    EXPECT_GT(node.store->tiers()[0].used.count, 2 * kMiB.count);
    EXPECT_TRUE(node.store->verify(replica));
    EXPECT_EQ(replica->state(), ReplicaState::complete);
  }
}

TEST_F(StoreOnDisk, TwoAgentsCannotShareATier) {
  NodeParts node(options(Bytes{8 * kMiB.count}));
  StoreOptions second;
  second.tiers = {{"nvme", temp_.path("tier"), kMiB}};
  const auto refused = Store::open(second, node.clock);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::failed_precondition);
}

TEST_F(StoreOnDisk, ATierThatCannotBeOpenedIsOutAndTheOthersWork) {
  dataset("a", 1);
  write_file(temp_.path("a file"), "in the way");
  auto both = options(Bytes{8 * kMiB.count});
  both.tiers.insert(both.tiers.begin(), {"broken", temp_.path("a file"), Bytes{8 * kMiB.count}});
  NodeParts node(both);
  EXPECT_EQ(node.store->tiers()[0].state, "out");
  warm(node, "a");
  EXPECT_EQ(node.store->newest_complete({"o", "a"})->tier(), "nvme");
}

TEST_F(StoreOnDisk, AFlippedBitIsFoundAndOnlyThatBlockIsFetchedAgain) {
  std::filesystem::create_directory(temp_.path("origin/a"));
  write_file(temp_.path("origin/a/big"), random_bytes(40 << 20, 1));
  write_file(temp_.path("origin/a/small"), "small");
  NodeParts node(options(kGiB));
  const GenerationId generation = warm(node, "a");
  auto replica = node.store->find({"o", "a"}, generation);
  {
    const std::string file = directories().at(0) + "/tree/big";
    const UniqueFd fd(open(file.c_str(), O_RDWR));
    char byte = 0;
    ASSERT_EQ(pread(fd.get(), &byte, 1, 12'345'678), 1);
    byte ^= 1;
    ASSERT_EQ(pwrite(fd.get(), &byte, 1, 12'345'678), 1);
  }
  std::vector<std::byte> data(1000);
  const auto manifest = replica->manifest().value();
  const FileIndex big = *manifest->find("big");
  EXPECT_TRUE(replica->read({big, Bytes{0}, Bytes{1000}}, data, Verify::yes));
  const auto verified = node.store->verify(replica);
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_EQ(verified->bad, 1U);
  EXPECT_EQ(verified->checked, 41U);
  EXPECT_EQ(replica->state(), ReplicaState::partial);
  EXPECT_EQ(replica->read({big, Bytes{12'345'000}, Bytes{1000}}, data, Verify::yes).error().code, Code::not_found);
  replica.reset();
  const auto before = node.origin.counters().bytes;
  warm(node, "a");
  EXPECT_LE(node.origin.counters().bytes - before, 4 * kMiB.count) << "not the whole file again";
  replica = node.store->find({"o", "a"}, generation);
  EXPECT_EQ(replica->state(), ReplicaState::complete);
  EXPECT_EQ(node.store->verify(replica)->bad, 0U);
}

TEST_F(StoreOnDisk, AnEmptyFileThatIsGoneIsNoticedAndMadeAgain) {
  std::filesystem::create_directory(temp_.path("origin/a"));
  write_file(temp_.path("origin/a/empty"), "");
  write_file(temp_.path("origin/a/small"), "small");
  NodeParts node(options(kGiB));
  const GenerationId generation = warm(node, "a");
  const std::string file = directories().at(0) + "/tree/empty";
  ASSERT_TRUE(std::filesystem::remove(file));
  {
    const auto replica = node.store->find({"o", "a"}, generation);
    const auto verified = node.store->verify(replica);
    ASSERT_TRUE(verified) << verified.error().message;
    EXPECT_EQ(verified->bad, 1U);
    EXPECT_EQ(replica->state(), ReplicaState::partial);
    EXPECT_EQ(replica->files_resident(), 1U);
  }
  warm(node, "a");
  EXPECT_EQ(node.store->find({"o", "a"}, generation)->state(), ReplicaState::complete);
  EXPECT_TRUE(std::filesystem::is_regular_file(file));
}

TEST_F(StoreOnDisk, ATreeThatIsDeeperThanAnyPathMayBeLongIsRemoved) {
  const std::string name(200, 'd');
  const std::string top = temp_.path("deep");
  std::filesystem::create_directory(top);
  UniqueFd at(open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int level = 0; level < 1200; ++level) {  // more levels than descriptors, too
    ASSERT_EQ(mkdirat(at.get(), name.c_str(), 0700), 0);
    const UniqueFd file(openat(at.get(), "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(symlinkat("/", at.get(), "link"), 0);
    ASSERT_EQ(mkdirat(at.get(), "moved-1", 0700), 0) << "a name that may be in the way";
    at = UniqueFd(openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(at);
  }
  const auto removed = remove_tree(top);
  EXPECT_TRUE(removed) << removed.error().message;
  EXPECT_FALSE(std::filesystem::exists(top));
  EXPECT_TRUE(remove_tree(top)) << "missing is fine";
}

TEST_F(StoreOnDisk, AfterACrashOfTheMachineAPartialReplicaKeepsOnlyWhatMatches) {
  std::filesystem::create_directory(temp_.path("origin/a"));
  for (int i = 0; i < 20; ++i)
    write_file(temp_.path("origin/a/" + std::to_string(i)), random_bytes(100'000, static_cast<unsigned>(i)));
  GenerationId generation;
  {
    NodeParts node(options(kGiB));
    generation = warm(node, "a");
    // As if the machine had gone down before it was sealed: one file lost its data, one is missing.
    const std::string tree = directories().at(0) + "/tree";
    const UniqueFd fd(open((tree + "/3").c_str(), O_WRONLY));
    ASSERT_EQ(ftruncate(fd.get(), 0), 0);
    std::filesystem::remove(tree + "/4");
    ReplicaRow row = node.store->database().replicas()->at(0);
    row.complete = false;
    ASSERT_TRUE(node.store->database().put_replica(row));
  }
  auto again = options(kGiB);
  again.boot = "boot-2";
  NodeParts node(again);
  EXPECT_EQ(node.store->find({"o", "a"}, generation)->state(), ReplicaState::partial);
  warm(node, "a");
  EXPECT_EQ(node.origin.counters().bytes, 200'000U);
  EXPECT_EQ(difference(look(directories().at(0) + "/tree", nullptr), look(temp_.path("origin/a"), nullptr)), "");
}

TEST_F(StoreOnDisk, ADamagedManifestCostsTheReplicaNotTheAgent) {
  dataset("a", 1);
  {
    NodeParts node(options(kGiB));
    warm(node, "a");
    ReplicaRow row = node.store->database().replicas()->at(0);
    row.complete = false;
    ASSERT_TRUE(node.store->database().put_replica(row));
    write_file(directories().at(0) + "/manifest.db", "this is no database, it is only called so by its name....");
  }
  NodeParts node(options(kGiB));
  EXPECT_THAT(node.store->inventory(), IsEmpty());
  node.store->empty_trash({});
  EXPECT_THAT(directories(), IsEmpty());
  warm(node, "a");
  EXPECT_TRUE(has(node, "a"));
}

/// "a" lies on the first tier, "b" on the second.
class TwoTiers : public StoreOnDisk {
 protected:
  void SetUp() override {
    StoreOnDisk::SetUp();
    if (IsSkipped()) return;
    dataset("a", 2);
    dataset("b", 2);
    const auto node = start();
    warm(*node, "a");
    warm(*node, "b");
    ASSERT_EQ(node->store->newest_complete({"o", "a"})->tier(), "nvme");
    ASSERT_EQ(node->store->newest_complete({"o", "b"})->tier(), "disk");
  }
  [[nodiscard]] std::unique_ptr<NodeParts> start(const std::string& first = "nvme") const {
    auto both = options(Bytes{3 * kMiB.count});
    both.tiers[0].name = first;
    both.tiers.push_back({"disk", temp_.path("tier2"), Bytes{8 * kMiB.count}});
    return std::make_unique<NodeParts>(both);
  }
  [[nodiscard]] std::string on_second() const {
    for (const auto& dataset : std::filesystem::directory_iterator(temp_.path("tier2/replicas")))
      for (const auto& generation : std::filesystem::directory_iterator(dataset)) return generation.path();
    return "";
  }
};

TEST_F(TwoTiers, ATierThatIsEmptyAfterARebootTakesNothingElseAlong) {
  std::filesystem::remove_all(temp_.path("tier"));
  const auto node = start();
  EXPECT_FALSE(has(*node, "a"));
  EXPECT_TRUE(has(*node, "b"));
  warm(*node, "b");
  EXPECT_EQ(node->origin.counters().bytes, 0U);
}

TEST_F(TwoTiers, WhatLiesOnATierThatIsOutIsThereWhenItComesBack) {
  std::filesystem::rename(temp_.path("tier"), temp_.path("away"));
  write_file(temp_.path("tier"), "no directory");
  {
    const auto node = start();
    EXPECT_EQ(node->store->tiers()[0].state, "out");
    EXPECT_THAT(node->store->tiers()[0].why, HasSubstr("tier"));
    EXPECT_FALSE(has(*node, "a"));
    EXPECT_TRUE(has(*node, "b"));
  }
  std::filesystem::remove(temp_.path("tier"));
  std::filesystem::rename(temp_.path("away"), temp_.path("tier"));
  const auto node = start();
  EXPECT_TRUE(has(*node, "a") && has(*node, "b"));
}

TEST_F(TwoTiers, WhatCannotBeReadNowStaysAsItIs) {
  const std::string residency = on_second() + "/residency";
  std::filesystem::rename(residency, residency + ".kept");
  std::filesystem::create_symlink(residency + ".kept", residency);  // ELOOP, as good as EIO
  {
    const auto node = start();
    EXPECT_GT(node->store->tiers()[1].used.count, 2 * kMiB.count) << "it takes its room";
    EXPECT_TRUE(has(*node, "a"));
    EXPECT_FALSE(has(*node, "b"));
    node->store->empty_trash({});
  }
  std::filesystem::rename(residency + ".kept", residency);
  const auto node = start();
  EXPECT_EQ(node->store->tiers()[1].state, "ok");
  EXPECT_TRUE(has(*node, "b"));
}

TEST_F(TwoTiers, RecordsThatAnEarlierVersionKeptInTheFirstTierFindTheirOwn) {
  {
    const auto first = NodeManifest::open(temp_.path("tier/node.db"));
    ASSERT_TRUE(first);
    const auto second = NodeManifest::open(temp_.path("tier2/node.db"));
    ASSERT_TRUE(second);
    const auto rows = (*second)->replicas();
    ASSERT_TRUE(rows);
    ASSERT_EQ(rows->size(), 1U);
    ASSERT_TRUE((*first)->put_replica(rows->front()));
  }
  std::filesystem::remove(temp_.path("tier2/node.db"));
  for (int n = 0; n < 2; ++n) {
    const auto node = start();
    EXPECT_TRUE(has(*node, "a") && has(*node, "b"));
    EXPECT_EQ(node->store->newest_complete({"o", "b"})->tier(), "disk");
  }
}

TEST_F(TwoTiers, OfTwoCopiesThatAreThereWhenATierComesBackOneIsKept) {
  std::filesystem::rename(temp_.path("tier2"), temp_.path("away"));
  write_file(temp_.path("tier2"), "no directory");
  {
    const auto node = start();
    ASSERT_EQ(node->store->evict({"o", "a"}, {}).replicas, 1U);
    warm(*node, "b");
    ASSERT_EQ(node->store->newest_complete({"o", "b"})->tier(), "nvme");
  }
  std::filesystem::remove(temp_.path("tier2"));
  std::filesystem::rename(temp_.path("away"), temp_.path("tier2"));
  for (int n = 0; n < 2; ++n) {
    const auto node = start();
    EXPECT_TRUE(has(*node, "b"));
    EXPECT_EQ(node->store->inventory().size(), 1U);
    EXPECT_EQ(node->store->tiers()[1].used.count, 0U) << "the other one is charged to nobody";
    node->store->empty_trash({});
    EXPECT_EQ(on_second(), "");
  }
}

TEST_F(TwoTiers, AManifestThatTheCrashLeftEmptyCostsOneReplica) {
  {
    const auto second = NodeManifest::open(temp_.path("tier2/node.db"));
    ASSERT_TRUE(second);
    auto row = (*second)->replicas()->at(0);
    row.complete = false;
    ASSERT_TRUE((*second)->put_replica(row));
  }
  write_file(on_second() + "/manifest.db", "");
  write_file(temp_.path("tier2/replicas/stray"), "no directory");
  const auto node = start();
  EXPECT_EQ(node->store->tiers()[1].state, "ok");
  EXPECT_TRUE(has(*node, "a"));
  EXPECT_FALSE(has(*node, "b"));
  warm(*node, "b");
  EXPECT_TRUE(has(*node, "b"));
}

TEST_F(TwoTiers, ATierMayBeGivenAnotherName) {
  const auto node = start("ssd");
  ASSERT_TRUE(has(*node, "a"));
  EXPECT_EQ(node->store->newest_complete({"o", "a"})->tier(), "ssd");
}

TEST_F(TwoTiers, WhatAJobHasMountedIsNotThrownAwayWithTheRecords) {
  ASSERT_TRUE(testing::own_mounts());
  const std::string tree = on_second() + "/tree", seen = temp_.path("seen");
  std::filesystem::create_directory(seen);
  ASSERT_EQ(mount(tree.c_str(), seen.c_str(), nullptr, MS_BIND, nullptr), 0);
  std::filesystem::remove(temp_.path("tier2/node.db"));
  {
    const auto node = start();
    EXPECT_FALSE(has(*node, "b"));
    node->store->empty_trash({});
    EXPECT_FALSE(node->warm("b", user(0), true)) << "not over what a job reads";
  }
  EXPECT_TRUE(std::filesystem::exists(seen + "/0"));
  ASSERT_EQ(umount2(seen.c_str(), 0), 0);
  start()->store->empty_trash({});
  EXPECT_EQ(on_second(), "");
  EXPECT_TRUE(std::filesystem::is_empty(temp_.path("tier2/trash")));
}

TEST_F(TwoTiers, WhatIsLeftToDeleteWaitsUntilTheAgentIsUp) {
  std::filesystem::create_directories(temp_.path("tier/trash/old/tree/deep"));
  write_file(temp_.path("tier/trash/old/tree/deep/file"), "x");
  const auto node = start();
  EXPECT_TRUE(std::filesystem::exists(temp_.path("tier/trash/old/tree/deep/file")));
  node->store->empty_trash({});
  EXPECT_TRUE(std::filesystem::is_empty(temp_.path("tier/trash")));
}

TEST_F(StoreOnDisk, ABlockThatAReaderFoundToBeBadIsNoPartOfACompleteReplicaAfterARestart) {
  dataset("a", 2);
  GenerationId generation;
  {
    NodeParts node(options(kGiB));
    generation = warm(node, "a");
    const UniqueFd fd(open((directories().at(0) + "/tree/0").c_str(), O_RDWR));
    ASSERT_EQ(pwrite(fd.get(), "rot", 3, 4711), 3);
    const auto replica = node.store->find({"o", "a"}, generation);
    const auto manifest = replica->manifest().value();
    std::vector<std::byte> data(1000);
    ReplicaState told = ReplicaState::complete;
    node.store->on_change([&](const ReplicaInfo& about) { told = about.state; });
    EXPECT_EQ(replica->read({*manifest->find("0"), Bytes{0}, Bytes{1000}}, data, Verify::yes).error().code,
              Code::data_loss);
    EXPECT_EQ(told, ReplicaState::partial) << "the controller shall know";
    EXPECT_FALSE(node.store->database().replicas()->at(0).complete);
    // The record may not have reached the disk.
    ReplicaRow row = node.store->database().replicas()->at(0);
    row.complete = true;
    ASSERT_TRUE(node.store->database().put_replica(row));
  }
  NodeParts node(options(kGiB));
  EXPECT_EQ(node.store->find({"o", "a"}, generation)->state(), ReplicaState::partial);
  warm(node, "a");
  EXPECT_EQ(node.origin.counters().bytes, kMiB.count);
  EXPECT_EQ(node.store->find({"o", "a"}, generation)->state(), ReplicaState::complete);
}

TEST_F(StoreOnDisk, APartOfSomethingLargeDoesNotDriveOutWhatIsUsedMore) {
  for (const char* name : {"often", "wanted", "once"}) dataset(name, 3);
  dataset("huge", 40);
  NodeParts node(options(Bytes{12 * kMiB.count}));
  const auto huge = node.engine->survey({"o", "huge"}, user(0), {});
  ASSERT_TRUE(huge);
  for (const char* name : {"often", "wanted", "once"}) warm(node, name);
  for (std::uint32_t job = 1; job <= 8; ++job) {
    node.store->lease(*node.store->newest_complete({"o", "often"}), job);
    node.store->unlease(job);
  }
  node.store->want({{"o", "wanted"}});
  ManifestSummary summary;
  summary.generation = huge->generation.id;
  summary.bytes = summary.allocated = huge->bytes_total.count;
  summary.files = summary.blocks = 40;
  summary.entries = 41;
  const auto room = node.store->reserve_some({"o", "huge"}, summary, {});
  ASSERT_TRUE(room) << room.error().message;
  EXPECT_TRUE(has(node, "often"));
  EXPECT_TRUE(has(node, "wanted"));
  EXPECT_FALSE(has(node, "once")) << "that was used once, and nobody waits for it";
}

TEST_F(StoreOnDisk, WhatIsBeingScrubbedMakesWay) {
  dataset("a", 3);
  dataset("b", 3);
  NodeParts node(options(Bytes{4 * kMiB.count}));
  warm(node, "a");
  const Scrubber slow(*node.store, node.clock, {std::chrono::milliseconds(1), Bytes{1}},
                      [](const std::string& found) { ADD_FAILURE() << found; });
  ASSERT_TRUE(test::eventually([&] { return node.store->newest_complete({"o", "a"})->internals().looked_at != 0; }));
  warm(node, "b");
  EXPECT_FALSE(has(node, "a"));
  EXPECT_TRUE(has(node, "b"));
}

}  // namespace
}  // namespace atlas::agent
