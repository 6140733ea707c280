// A cache disk that is full, fails or hangs: a real ext4 on a block device whose sectors are served by the slow origin.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "cache-agent/jobs/job_table.h"
#include "tests/support/loop_disk.h"
#include "tests/support/origin_tree.h"
#include "tests/support/slow_origin_process.h"
#include "tests/support/stall_governor.h"
#include "tests/support/view_job.h"

namespace atlas::agent {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

constexpr std::size_t kMega = 1 << 20;
constexpr int kFiles = 24;

class DiskFault : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it makes file systems";
    for (const char* name : {"origin", "sectors", "device", "tier"})
      std::filesystem::create_directory(temp_.path(name));
    directory("ds", kAlice, 0755);
    for (int i = 0; i < kFiles; ++i) file(name(i), bytes(i));
  }
  static std::string name(int i) { return "ds/" + std::to_string(i); }
  static std::string bytes(int i) { return random_bytes(kMega + 1000, static_cast<unsigned>(i)); }
  [[nodiscard]] NodeParts::Options options() const {
    NodeParts::Options o;
    o.origin = origin();
    o.tiers = {{"nvme", temp_.path("tier"), kGiB}};
    return o;
  }
  /// Somebody else's bytes on the disk, so that this part of it is used.
  void others_fill(double part) const {
    const auto disk = look_at_disk(temp_.path("tier"));
    ASSERT_TRUE(disk);
    const auto want = static_cast<std::uint64_t>(static_cast<double>(disk->usable.bytes) * part);
    ASSERT_LT(disk->used.bytes, want);
    const UniqueFd fd(open(temp_.path("tier/other").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    struct stat st {};
    ASSERT_EQ(fstat(fd.get(), &st), 0);
    ASSERT_EQ(fallocate(fd.get(), 0, st.st_size, static_cast<off_t>(want - disk->used.bytes)), 0) << strerror(errno);
  }
  [[nodiscard]] double used_part() const {
    const auto disk = look_at_disk(temp_.path("tier"));
    return disk ? static_cast<double>(disk->used.bytes) / static_cast<double>(disk->usable.bytes) : 2;
  }
  /// Takes what is left of the disk.
  void fill_disk() const {
    const UniqueFd fd(open(temp_.path("tier/other").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    off_t end = 0;
    for (off_t size = 64 * kMega; size >= 4096; size /= 2)
      while (fallocate(fd.get(), 0, end, size) == 0) end += size;
  }
  static void expect_all(const ViewJobs::Job& job, const char* when) {
    for (int i = 0; i < kFiles; ++i)
      EXPECT_TRUE(content(job.path(std::to_string(i))) == bytes(i)) << when << ", " << name(i);
  }
  [[nodiscard]] std::string difference_to_origin(const NodeParts& node) const {
    return difference_to(origin("ds"), node);
  }
};

/// The disk behind a switch, and the store on it.
struct Disk {
  explicit Disk(const TempDir& temp, std::uint64_t size)
      : sectors(temp.path("sectors"), temp.path("device"), {}),
        loop(temp.path("device/image"), size, temp.path("tier")) {}
  SlowOrigin sectors;
  LoopDisk loop;
};

/// A node with a warm-up of "ds" that stands still after so many files.
struct StalledNode {
  StalledNode(NodeParts::Options options, unsigned files) : governor(files), node(with(std::move(options), governor)) {
    running = node.start({{"o", "ds"}, user(kAlice), {}, {}, false});
    governor.wait_until_stalled();
  }
  Result<WarmProgress> finish() {
    governor.release_all();
    return running.get();
  }
  static NodeParts::Options with(NodeParts::Options options, Governor& governor) {
    options.governor = &governor;
    return options;
  }
  StallGovernor governor;
  NodeParts node;
  std::future<Result<WarmProgress>> running;
};

TEST_F(DiskFault, ADiskThatFillsUpDuringAWarmUpEndsItAndTheSpaceIsGivenBack) {
  const LoopDisk disk(temp_.path("image"), 64 * kMega, temp_.path("tier"));
  StalledNode stalled(options(), 5);
  NodeParts& node = stalled.node;
  fill_disk();
  const auto failed = stalled.finish();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::resource_exhausted) << failed.error().message;
  EXPECT_EQ(node.store->tiers()[0].state, "ok") << "full is not broken";
  std::filesystem::remove(temp_.path("tier/other"));
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(difference_to_origin(node), "");
}

TEST_F(DiskFault, ADiskThatFillsUpWhileAJobReadsThroughFailsNoRead) {
  const LoopDisk disk(temp_.path("image"), 64 * kMega, temp_.path("tier"));
  NodeParts node(options());
  ViewJobs jobs(kAlice);
  auto job = jobs.start(node);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(content(job.path(std::to_string(i))) == bytes(i));
  const auto kept = job.replica->files_resident();
  EXPECT_GT(kept, 0U);
  fill_disk();
  expect_all(job, "full");
  job.mount_again();
  expect_all(job, "full, from the store or the origin");
  EXPECT_EQ(node.store->tiers()[0].state, "ok") << "full is not broken";
  std::filesystem::remove(temp_.path("tier/other"));
  ASSERT_TRUE(disk.sync());
  job.mount_again();
  disk.forget();
  expect_all(job, "with room again");
  EXPECT_GT(job.replica->files_resident(), kept) << "and what is read is kept again";
}

TEST_F(DiskFault, OthersWhoFillTheDiskAreGivenWayToAndNoJobNoticesIt) {
  const LoopDisk disk(temp_.path("image"), 128 * kMega, temp_.path("tier"));
  for (const char* other : {"old", "held"}) {
    directory(other, kAlice, 0755);
    for (int i = 0; i < 12; ++i)
      file(std::string(other) + "/" + std::to_string(i), random_bytes(kMega, 100U + static_cast<unsigned>(i)));
  }
  auto o = options();
  o.tiers[0].low = 0.7;
  o.tiers[0].high = 0.85;
  NodeParts node(o);
  std::string said;
  node.store->on_giving_way([&](const std::string& what) { said = what; });
  ASSERT_TRUE(node.warm("old", user(kAlice)));
  ASSERT_TRUE(node.warm("held", user(kAlice)));
  node.store->lease(*node.store->newest_complete({"o", "held"}), 7);
  ViewJobs jobs(kAlice);
  auto job = jobs.start(node);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(content(job.path(std::to_string(i))) == bytes(i));

  others_fill(0.8);
  node.store->give_way();
  EXPECT_TRUE(node.store->newest_complete({"o", "old"})) << "between the marks nothing happens";
  EXPECT_EQ(said, "");
  others_fill(0.86);
  node.store->give_way();
  EXPECT_FALSE(node.store->newest_complete({"o", "old"})) << "nobody needs it";
  EXPECT_TRUE(node.store->newest_complete({"o", "held"})) << "a job holds it";
  EXPECT_THAT(said, HasSubstr("others fill the disk of tier nvme: 1 replicas, 12"));
  others_fill(0.92);
  node.store->give_way();
  EXPECT_THAT(said, HasSubstr("nothing more is written until there is room"));
  const auto kept = job.replica->files_resident();
  EXPECT_GE(kept, 8U);
  EXPECT_LT(kept, unsigned(kFiles));
  const double before = used_part();
  expect_all(job, "crowded");
  job.mount_again();
  expect_all(job, "crowded, from the store or the origin");
  EXPECT_EQ(job.replica->files_resident(), kept) << "nothing more is kept";
  EXPECT_LT(used_part(), before + 0.01);
  const auto refused = node.warm("old", user(kAlice), true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::resource_exhausted) << refused.error().message;
  EXPECT_TRUE(node.store->newest_complete({"o", "held"}));
  EXPECT_EQ(node.store->tiers()[0].state, "crowded") << "the controller sends nothing there";

  std::filesystem::remove(temp_.path("tier/other"));
  node.store->give_way();
  EXPECT_THAT(said, HasSubstr("has room again"));
  EXPECT_EQ(node.store->tiers()[0].state, "ok");
  job.mount_again();
  expect_all(job, "with room again");
  EXPECT_GT(job.replica->files_resident(), kept) << "and what is read is kept again";
  const auto again = node.warm("old", user(kAlice), true);
  EXPECT_TRUE(again) << again.error().message;
}

TEST_F(DiskFault, AWarmUpEndsWellBeforeTheDiskThatOthersFillIsFull) {
  const LoopDisk disk(temp_.path("image"), 128 * kMega, temp_.path("tier"));
  StallGovernor governor(5);
  auto o = options();
  o.governor = &governor;
  o.tiers[0].low = 0.7;
  o.tiers[0].high = 0.85;
  NodeParts node(o);
  auto running = node.start({{"o", "ds"}, user(kAlice), {}, {}, false});
  governor.wait_until_stalled();
  others_fill(0.9);
  node.store->give_way();
  governor.release_all();
  const auto failed = running.get();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::resource_exhausted) << failed.error().message;
  EXPECT_THAT(failed.error().message, HasSubstr("others fill the disk of tier nvme"));
  EXPECT_LT(used_part(), 0.91) << "what it had written is given back";
}

TEST_F(DiskFault, ADiskThatIsFilledWithFilesHasNoRoomEither) {
  const LoopDisk disk(temp_.path("image"), 64 * kMega, temp_.path("tier"));
  auto o = options();
  o.tiers[0].low = 0.5;
  o.tiers[0].high = 0.6;
  NodeParts node(o);
  ASSERT_TRUE(node.warm("ds", user(kAlice)));
  const auto before = look_at_disk(temp_.path("tier"));
  ASSERT_TRUE(before);
  std::filesystem::create_directory(temp_.path("tier/others"));
  for (std::uint64_t i = 0; i <= before->room(0.6).inodes; ++i)
    write_file(temp_.path("tier/others/" + std::to_string(i)), "");
  ASSERT_NE(look_at_disk(temp_.path("tier"))->beyond(0.6).inodes, 0U);
  node.store->give_way();
  EXPECT_FALSE(node.store->newest_complete({"o", "ds"}));
  const auto refused = node.warm("ds", user(kAlice));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("and 0 inodes free"));
}

TEST_F(DiskFault, BytesThatTheDiskCannotGiveBackComeFromTheOrigin) {
  const Disk disk(temp_, 96 * kMega);
  NodeParts node(options());
  ViewJobs jobs(kAlice);
  auto job = jobs.start(node);
  expect_all(job, "cold");
  ASSERT_EQ(job.replica->files_resident(), unsigned(kFiles));
  ASSERT_TRUE(disk.loop.sync());
  disk.loop.forget();
  job.mount_again();
  const auto before = node.origin.counters().bytes;
  disk.sectors.tell({"fail", "*image", "--errno", "EIO", "read"});
  expect_all(job, "while the disk fails");
  EXPECT_GT(node.origin.counters().bytes, before + kFiles * kMega / 2) << "the disk did fail";
  disk.sectors.tell({"heal"});
  job.mount_again();
  expect_all(job, "healed");
}

TEST_F(DiskFault, WhatTheDiskDidNotTakeIsNeverComplete) {
  const Disk disk(temp_, 96 * kMega);
  StalledNode stalled(options(), 5);
  const NodeParts& node = stalled.node;
  disk.sectors.tell({"fail", "*image", "--errno", "EIO", "write"});
  const auto failed = stalled.finish();
  ASSERT_FALSE(failed) << "its bytes are nowhere but in memory";
  EXPECT_FALSE(node.store->newest_complete({"o", "ds"}));
  EXPECT_EQ(node.store->tiers()[0].state, "suspect") << failed.error().message;
  disk.sectors.tell({"heal"});
}

/// Until a tier says so, a minute at most.
std::string state_after(const NodeParts& node, const std::string& wanted) {
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (node.store->tiers()[0].state != wanted && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(1ms);
  return node.store->tiers()[0].state;
}

TEST_F(DiskFault, ATierThatErredIsUsedAgainOnceItsDiskHasBeenSeenToWork) {
  const Disk disk(temp_, 96 * kMega);
  auto o = options();
  o.probe.period = 20ms;
  NodeParts node(o);
  EXPECT_EQ(state_after(node, "ok"), "ok");
  disk.sectors.tell({"fail", "*image", "--errno", "EIO", "write"});
  EXPECT_EQ(state_after(node, "suspect"), "suspect") << "the probe has found it before any job did";
  const auto refused = node.warm("ds", user(kAlice));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("tier nvme is suspect"));
  disk.sectors.tell({"heal"});
  EXPECT_EQ(state_after(node, "ok"), "ok");
  const auto warmed = node.warm("ds", user(kAlice));
  ASSERT_TRUE(warmed) << warmed.error().message;
  EXPECT_EQ(difference_to_origin(node), "");
}

TEST_F(DiskFault, AnErrorMetWhileALossIsDealtWithIsNotForgotten) {
  std::atomic<unsigned> settled{0};
  std::atomic<TierProbe*> self{nullptr};
  TierProbe probe(temp_.path("tier"), {1ms, 10s, 3}, [&] {
    if (++settled == 1) self.load()->doubt();
    return true;
  });
  self = &probe;
  probe.doubt();
  while (settled == 0) std::this_thread::sleep_for(1ms);
  while (probe.health() != TierProbe::Health::good) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(settled, 2U) << "it has to be seen to work again";
}

TEST_F(DiskFault, ADiskThatHangsIsNotWaitedForByJobsThatStart) {
  const Disk disk(temp_, 96 * kMega);
  auto o = options();
  o.probe = {20ms, 200ms, 3};
  NodeParts node(o);
  ASSERT_TRUE(node.warm("ds", user(kAlice)));
  JobTable table(*node.store, nullptr, {{"o", {origin(), false}}});
  ASSERT_TRUE(table.plan({{"test", 7, 0, {}}, user(kAlice), {{{"o", "ds"}, {}, {}, {}}}, "", {}}));
  const auto view = [&] {
    const auto views = table.views_of(7, user(kAlice), node.clock.now() + 20s);
    EXPECT_TRUE(views) << views.error().message;
    return views ? views->views.at(0) : view::PlannedView{};
  };
  EXPECT_TRUE(view().mount);
  disk.sectors.tell({"hang", "--path", "*image", "write"});
  EXPECT_EQ(state_after(node, "suspect"), "suspect");
  EXPECT_FALSE(view().mount);
  EXPECT_THAT(view().reason, HasSubstr("(tier nvme) does not answer"));
  disk.sectors.tell({"resume"});
  EXPECT_EQ(state_after(node, "ok"), "ok");
  EXPECT_TRUE(view().mount);
}

TEST_F(DiskFault, WritesThatTheDiskLosesWhileAJobReadsThroughGiveNoWrongByte) {
  const Disk disk(temp_, 96 * kMega);
  NodeParts node(options());
  ViewJobs jobs(kAlice);
  auto job = jobs.start(node);
  EXPECT_TRUE(content(job.path("0")) == bytes(0));
  ASSERT_TRUE(disk.loop.sync());
  disk.sectors.tell({"fail", "*image", "--errno", "EIO", "write"});
  expect_all(job, "while the disk takes nothing");
  static_cast<void>(disk.loop.sync());  // the kernel gives up what it could not write
  disk.sectors.tell({"heal"});
  disk.loop.forget();
  job.mount_again();
  expect_all(job, "after that");
}

TEST_F(DiskFault, WhatAnotherHasHeardOfALossIsNotKeptFromAWarmUp) {
  const Disk disk(temp_, 96 * kMega);
  {
    StalledNode stalled(options(), 12);
    const NodeParts& node = stalled.node;
    disk.sectors.tell({"fail", "*image", "--errno", "EIO", "write"});
    ASSERT_FALSE(disk.loop.sync()) << "twelve files are lost, and the kernel has told somebody";
    disk.sectors.tell({"heal"});
    const auto done = stalled.finish();
    disk.loop.forget();
    ASSERT_FALSE(done) << "complete, but the disk has other bytes: " << difference_to_origin(node);
    EXPECT_THAT(done.error().message, HasSubstr("has lost what was written to it"));
    EXPECT_EQ(node.store->tiers()[0].state, "suspect");
  }
  NodeParts node(options());
  const auto again = node.warm("ds", user(kAlice));
  ASSERT_TRUE(again) << again.error().message;
  disk.loop.forget();
  EXPECT_EQ(difference_to_origin(node), "") << "what was lost has been fetched again";
}

TEST_F(DiskFault, OnlyWhatMayNotBeOnTheDiskIsComparedWhenItIsRead) {
  const Disk disk(temp_, 96 * kMega);
  {
    auto o = options();
    o.revalidate = 0ms;
    NodeParts node(o);
    ViewJobs jobs(kAlice);
    auto job = jobs.start(node);
    const auto manifest = job.replica->manifest();
    ASSERT_TRUE(manifest);
    const Extent first{*(*manifest)->find("0"), Bytes{0}, Bytes{kMega}};
    expect_all(job, "cold");
    ASSERT_TRUE(node.store->flush("nvme"));
    EXPECT_TRUE(job.replica->proven(**manifest, first));
    file("ds/0", bytes(0));  // a new generation, which this job does not see
    auto second = jobs.start(node);
    ASSERT_NE(second.replica, job.replica);
    expect_all(second, "the other generation");
    EXPECT_TRUE(job.replica->proven(**manifest, first));
    EXPECT_FALSE(second.replica->proven(**second.replica->manifest(), first));
    node.store->flush_what_is_read();
    EXPECT_TRUE(second.replica->proven(**second.replica->manifest(), first));
  }
  NodeParts later(options());
  const auto left = later.store->replicas_of({"o", "ds"});
  ASSERT_EQ(left.size(), 2U);
  for (const auto& replica : left) {
    const auto manifest = replica->manifest();
    ASSERT_TRUE(manifest);
    EXPECT_FALSE(replica->proven(**manifest, {*(*manifest)->find("0"), Bytes{0}, Bytes{kMega}}))
        << "an earlier process may have left it unsynced";
  }
}

TEST_F(DiskFault, ADiskThatHangsHoldsUpNoClosingAndGoesOnAfterwards) {
  const Disk disk(temp_, 96 * kMega);
  NodeParts node(options());
  ViewJobs jobs(kAlice);
  auto job = jobs.start(node);
  expect_all(job, "cold");
  ASSERT_TRUE(disk.loop.sync());
  disk.loop.forget();
  job.mount_again();
  disk.sectors.tell({"hang", "--path", "*image", "read"});
  std::atomic<bool> over = false;
  std::string read;
  std::thread reader([&] {
    read = content(job.path("3"));
    over = true;
  });
  while (disk.sectors.hanging() == 0) std::this_thread::yield();
  EXPECT_FALSE(over);
  job.view->close();  // what the job's end does: nobody is left waiting for the disk
  reader.join();
  EXPECT_THAT(read, HasSubstr("read: "));
  disk.sectors.tell({"resume"});
  auto second = jobs.start(node);
  expect_all(second, "when it answers again");
}

}  // namespace
}  // namespace atlas::agent
