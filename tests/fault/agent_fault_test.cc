// Warm-ups that are killed, starved of space, lied to and left hanging.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <fstream>

#include "tests/support/node_parts.h"
#include "tests/support/slow_origin_process.h"
#include "tests/support/stall_governor.h"

namespace atlas::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

constexpr std::uint32_t kAlice = 30001;

class AgentFault : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts file systems and reads as other users";
    std::filesystem::create_directory(temp_.path("origin"));
    std::filesystem::create_directory(temp_.path("mnt"));
  }
  void files(int count, std::size_t size) const {
    std::filesystem::create_directories(temp_.path("origin/ds"));
    for (int i = 0; i < count; ++i)
      write_file(temp_.path("origin/ds/" + std::to_string(i)), random_bytes(size, static_cast<unsigned>(i)));
  }
  [[nodiscard]] NodeParts::Options options(const std::string& origin = "origin") const {
    NodeParts::Options o;
    o.origin = temp_.path(origin);
    o.tiers = {{"nvme", temp_.path("tier"), kGiB}};
    return o;
  }
  [[nodiscard]] std::string difference_to_origin(const NodeParts& node) const {
    return difference_to(temp_.path("origin/ds"), node);
  }

  TempDir temp_;
};

TEST_F(AgentFault, AWarmUpKilledHalfWayIsResumedNotRepeated) {
  files(100, 100'000);
  write_file(temp_.path("origin/ds/big"), random_bytes(70 << 20, 99));
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl(STALLED_WARM, STALLED_WARM, temp_.path("origin").c_str(), temp_.path("tier").c_str(), "ds", "30001", "60",
          nullptr);
    _exit(127);
  }
  close(ends[1]);
  char byte = 0;
  ASSERT_EQ(read(ends[0], &byte, 1), 1);
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  close(ends[0]);

  NodeParts node(options());
  const auto left = node.store->inventory();
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(left[0].state, ReplicaState::partial);
  EXPECT_EQ(left[0].files_resident, 60U);
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(node.origin.counters().bytes, done->bytes_total.count - left[0].bytes_resident.count);
  EXPECT_EQ(difference_to_origin(node), "");
}

TEST_F(AgentFault, AFullDiskEndsTheWarmUpWithAReasonAndGivesTheSpaceBack) {
  files(20, 1 << 20);
  std::filesystem::create_directory(temp_.path("tier"));
  ASSERT_EQ(mount("tmpfs", temp_.path("tier").c_str(), "tmpfs", 0, "size=40m"), 0) << strerror(errno);
  {
    StallGovernor governor(5);
    auto o = options();
    o.governor = &governor;
    NodeParts node(o);
    auto running = node.start({{"o", "ds"}, user(kAlice), {}, {}, false});
    governor.wait_until_stalled();
    {  // somebody else fills the disk meanwhile
      const UniqueFd fd(open(temp_.path("tier/other").c_str(), O_WRONLY | O_CREAT, 0600));
      for (off_t size = 40 << 20; size > 0; size /= 2)
        while (posix_fallocate(fd.get(), lseek(fd.get(), 0, SEEK_END), size) == 0) {
        }
    }
    governor.release_all();
    const auto failed = running.get();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::resource_exhausted) << failed.error().message;
    EXPECT_THAT(failed.error().message, HasSubstr("tier nvme"));
    EXPECT_THAT(node.store->inventory(), IsEmpty());
    EXPECT_EQ(node.store->tiers()[0].used.count, 0U);
    EXPECT_EQ(node.store->tiers()[0].state, "ok") << "full is not broken";
    std::filesystem::remove(temp_.path("tier/other"));
    const auto done = node.warm("ds", user(kAlice));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(difference_to_origin(node), "");
  }
  EXPECT_EQ(umount2(temp_.path("tier").c_str(), MNT_DETACH), 0);
}

TEST_F(AgentFault, AFileThatChangesWhileItIsCopiedLeadsToANewWalk) {
  files(30, 10'000);
  StallGovernor governor(~0U);
  governor.before = [&](unsigned number) {
    if (number == 10) write_file(temp_.path("origin/ds/29"), random_bytes(10'000, 777));
  };
  auto o = options();
  o.governor = &governor;
  NodeParts node(o);
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(difference_to_origin(node), "");
  EXPECT_EQ(node.store->inventory().size(), 1U) << "the generation that nobody can complete any more is gone";
}

TEST_F(AgentFault, ADatasetThatNeverStopsChangingFailsWithTheFilesName) {
  files(30, 10'000);
  StallGovernor governor(~0U);
  governor.before = [&](unsigned number) { write_file(temp_.path("origin/ds/29"), random_bytes(10'000, number)); };
  auto o = options();
  o.governor = &governor;
  NodeParts node(o);
  const auto failed = node.warm("ds", user(kAlice));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::aborted);
  EXPECT_THAT(failed.error().message, HasSubstr("ds/29 changed"));
}

TEST_F(AgentFault, AnOriginErrorFailsTheWarmUpByNameAndTheNextOneGoesOn) {
  files(60, 20'000);
  SlowOrigin slow(temp_.path("origin"), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  slow.tell({"fail", "*ds/17", "--errno", "EIO", "read"});
  const auto failed = node.warm("ds", user(kAlice));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::unavailable) << failed.error().message;
  EXPECT_THAT(failed.error().message, HasSubstr("ds/17"));
  const auto left = node.store->inventory();
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(left[0].files_resident, 59U);
  ASSERT_EQ(node.store->tiers().size(), 1U);
  EXPECT_EQ(node.store->tiers()[0].state, "ok") << "the node's own disk is not to blame";
  slow.tell({"heal"});
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(node.origin.counters().bytes, 60U * 20'000U) << "each byte once";
  EXPECT_EQ(difference_to_origin(node), "");
}

TEST_F(AgentFault, AHungOriginHoldsUpNobodyElseAndCanBeCancelled) {
  files(60, 20'000);
  std::filesystem::create_directories(temp_.path("origin/other"));
  write_file(temp_.path("origin/other/f"), "x");
  SlowOrigin slow(temp_.path("origin"), temp_.path("mnt"), {});
  {
    NodeParts node(options("mnt"));
    ASSERT_TRUE(node.warm("other", user(kAlice)));
    slow.tell({"hang", "--path", "*ds/*", "read"});
    auto hanging = node.start({{"o", "ds"}, user(kAlice), {}, {}, false});
    const auto warm = node.warm("other", user(kAlice));
    EXPECT_TRUE(warm) << "what is here is answered although the origin's threads hang";
    while (node.fetcher->in_flight() < 60) std::this_thread::yield();  // all its files have been asked for
    const auto looked = node.engine->survey({"o", "other"}, user(kAlice), 20s);
    ASSERT_TRUE(looked) << looked.error().message;
    EXPECT_EQ(looked->message, "") << "a walk does not wait behind the hanging reads of a warm-up";
    EXPECT_EQ(looked->files_total, 1U);
    ASSERT_TRUE(node.engine->cancel({"o", "ds"}, user(kAlice)));
    ASSERT_EQ(hanging.wait_for(5s), std::future_status::ready) << "cancelling must not wait for the origin";
    const auto cancelled = hanging.get();
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, Code::cancelled);
    EXPECT_FALSE(node.engine->cancel({"o", "ds"}, user(kAlice)));
    slow.tell({"resume"});
    const auto done = node.warm("ds", user(kAlice));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(difference_to_origin(node), "");
  }
}

TEST_F(AgentFault, ASlowOriginIsKeptBusyWithDozensOfOperations) {
  files(600, 10'000);
  SlowOrigin slow(temp_.path("origin"), temp_.path("mnt"), {"--latency", "5"});
  NodeParts node(options("mnt"));
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  const std::string stats = slow.tell({"stats"});
  const std::string key = "\"max_in_flight\":";
  const auto at = stats.find(key);
  ASSERT_NE(at, std::string::npos) << stats;
  EXPECT_GE(std::stoul(stats.substr(at + key.size())), 32U) << stats;
  EXPECT_EQ(node.origin.counters().bytes, done->bytes_total.count);
}

}  // namespace
}  // namespace atlas::agent
