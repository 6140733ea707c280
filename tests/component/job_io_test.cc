// What jobs do with storage by themselves, on real cgroups and a real block device.
#include "cache-agent/job_io/job_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "cache-agent/limit/limit_governor.h"
#include "common/note.h"
#include "tests/support/eventually.h"
#include "tests/support/job_in_cgroup.h"
#include "tests/support/loop_disk.h"
#include "tests/support/node_parts.h"

namespace atlas::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr std::uint32_t kJob = 7, kAlice = 30001;

class JobDisks : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: agents run as root";
    fs::create_directories(temp_.path("disk"));
    disk_ = std::make_unique<LoopDisk>(temp_.path("image"), 64 * kMiB.count, temp_.path("disk"));
    write_file(temp_.path("disk/data"), random_bytes(6 * kMiB.count, 1));
    ASSERT_TRUE(disk_->sync());
    device_ = disk_of(mounts_now(), temp_.path("disk"));
    ASSERT_THAT(device_, ::testing::StartsWith("7:"));
  }
  void TearDown() override {
    if (io_) io_->released(kJob);
    io_.reset();
  }
  JobIo::Options options(DiskRates rates) const {
    JobIo::Options out;
    out.run_dir = temp_.path("run");
    out.disks = {"n" + std::to_string(::getpid()), rates, {temp_.path("disk"), temp_.path("not/there")}};
    return out;
  }
  void start(DiskRates rates) {
    io_.reset();
    io_ = std::make_unique<JobIo>(clock_, governor_, options(rates));
    io_->only({JobKey{"test", kJob, 0, {}}});
  }
  [[nodiscard]] fs::path group() const {
    return "/sys/fs/cgroup/blkio/atlas/n" + std::to_string(::getpid()) + "/job_" + std::to_string(kJob);
  }
  [[nodiscard]] std::string set(const std::string& file) const { return read_note(group() / file); }
  /// What the kernel has counted in the job's cgroup for our disk.
  [[nodiscard]] std::uint64_t counted(const std::string& kind) const {
    std::istringstream lines(read_note(group() / "blkio.throttle.io_service_bytes"));
    std::string device, what;
    for (std::uint64_t bytes = 0; lines >> device >> what >> bytes;)
      if (device == device_ && what == kind) return bytes;
    return 0;
  }

  TempDir temp_;
  SystemClock clock_;
  UnlimitedGovernor governor_;
  std::unique_ptr<LoopDisk> disk_;
  std::string device_;
  std::unique_ptr<JobIo> io_;
};

class JobDisksV1 : public JobDisks {
 protected:
  void SetUp() override {
    if (!fs::exists("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device") ||
        !fs::exists("/sys/fs/cgroup/freezer/cgroup.procs"))
      GTEST_SKIP() << "no cgroup v1 here with blkio and freezer";
    JobDisks::SetUp();
    if (IsSkipped()) return;
    job_ = std::make_unique<testing::JobInCgroup>("/sys/fs/cgroup/freezer", kJob);
  }
  void TearDown() override {
    job_.reset();
    JobDisks::TearDown();
  }
  /// A process of the job that reads the file once and tells how long it took, in tenths of a second.
  pid_t reader() {
    return job_->spawn([path = temp_.path("disk/data")] {
      const auto begin = std::chrono::steady_clock::now();
      if (testing::read_directly(path) != 0) return 255;
      return static_cast<int>((std::chrono::steady_clock::now() - begin) / 100ms);
    });
  }
  std::unique_ptr<testing::JobInCgroup> job_;
};

TEST_F(JobDisksV1, AJobReadsADiskNoFasterThanItsLimit) {
  start({Bytes{4 * kMiB.count}, {}, 0});
  const auto task = reader();
  ASSERT_TRUE(test::eventually([&] { return !read_note(job_->path() / "step_0/cgroup.procs").empty(); }));
  io_->attached(kJob, {kAlice, kAlice, {}}, task);
  EXPECT_EQ(set("blkio.throttle.read_bps_device"), device_ + " 4194304\n");
  EXPECT_EQ(set("blkio.throttle.write_bps_device"), "");
  EXPECT_EQ(set("cgroup.procs"), std::to_string(task) + "\n");
  job_->go(task);
  const int tenths = job_->finish(task);
  ASSERT_NE(tenths, 255);
  EXPECT_GE(tenths, 12) << "6 MiB at 4 MiB/s";
  EXPECT_GE(counted("Read"), 6 * kMiB.count);
  EXPECT_THAT(io_->warnings(), IsEmpty());
}

TEST_F(JobDisksV1, WhatTheJobStartsLaterIsHeldTooAndNobodyElse) {
  start({Bytes{4 * kMiB.count}, {}, 0});
  const auto task = reader();
  ASSERT_TRUE(test::eventually([&] { return !read_note(job_->path() / "step_0/cgroup.procs").empty(); }));
  io_->attached(kJob, {kAlice, kAlice, {}}, task);
  const auto later = reader();  // by slurmstepd, which is in no cgroup of the job's
  EXPECT_TRUE(test::eventually([&] { return set("cgroup.procs").find(std::to_string(later)) != std::string::npos; }));
  EXPECT_EQ(set("cgroup.procs").find(std::to_string(::getpid())), std::string::npos);
  job_->finish(task);
  job_->finish(later);
}

TEST_F(JobDisksV1, AnAgentThatIsStartedAnewKeepsThem) {
  start({Bytes{4 * kMiB.count}, Bytes{2 * kMiB.count}, 500});
  const auto task = reader();
  ASSERT_TRUE(test::eventually([&] { return !read_note(job_->path() / "step_0/cgroup.procs").empty(); }));
  io_->attached(kJob, {kAlice, kAlice, {}}, task);
  io_.reset();
  EXPECT_EQ(set("blkio.throttle.read_bps_device"), device_ + " 4194304\n") << "also while there is no agent";
  start({Bytes{8 * kMiB.count}, Bytes{2 * kMiB.count}, 500});
  EXPECT_TRUE(test::eventually([&] { return set("blkio.throttle.read_bps_device") == device_ + " 8388608\n"; }));
  EXPECT_EQ(set("blkio.throttle.write_iops_device"), device_ + " 500\n");
  EXPECT_EQ(set("cgroup.procs"), std::to_string(task) + "\n");
  start({});  // the site wants none any more
  EXPECT_TRUE(test::eventually([&] { return set("blkio.throttle.read_bps_device").empty(); }));
}

TEST_F(JobDisksV1, NothingIsLeftWhenTheJobIsOver) {
  start({Bytes{4 * kMiB.count}, {}, 0});
  const auto task = reader();
  ASSERT_TRUE(test::eventually([&] { return !read_note(job_->path() / "step_0/cgroup.procs").empty(); }));
  io_->attached(kJob, {kAlice, kAlice, {}}, task);
  ASSERT_TRUE(fs::exists(group()));
  io_->released(kJob);  // while one of its processes is still there
  EXPECT_TRUE(test::eventually([&] { return set("blkio.throttle.read_bps_device").empty(); }));
  job_->finish(task);
  EXPECT_TRUE(test::eventually([&] { return !fs::exists(group()); }));
  EXPECT_THAT(fs::directory_iterator(temp_.path("run/jobs")), fs::directory_iterator());
}

TEST_F(JobDisksV1, WhatEndedWithoutAnAgentIsTidiedByTheNext) {
  start({Bytes{4 * kMiB.count}, {}, 0});
  const auto task = reader();
  ASSERT_TRUE(test::eventually([&] { return !read_note(job_->path() / "step_0/cgroup.procs").empty(); }));
  io_->attached(kJob, {kAlice, kAlice, {}}, task);
  io_.reset();
  job_->finish(task);
  io_ = std::make_unique<JobIo>(clock_, governor_, options({Bytes{4 * kMiB.count}, {}, 0}));
  io_->only({});
  EXPECT_TRUE(test::eventually([&] { return !fs::exists(group()); }));
}

TEST_F(JobDisks, AJobWithoutACgroupStartsAndTheNodeSaysWhy) {
  start({Bytes{4 * kMiB.count}, {}, 0});
  io_->attached(kJob, {kAlice, kAlice, {}}, ::getpid());
  EXPECT_TRUE(test::eventually([&] { return !io_->warnings().empty(); }));
  EXPECT_THAT(io_->warnings(), ElementsAre(HasSubstr("ProctrackType")));
}

TEST_F(JobDisks, ATierOnNoDiskIsNamed) {
  auto wanted = options({Bytes{4 * kMiB.count}, {}, 0});
  wanted.disks.directories = {"/proc"};
  io_ = std::make_unique<JobIo>(clock_, governor_, wanted);
  io_->only({});
  EXPECT_TRUE(test::eventually([&] { return !io_->warnings().empty(); }));
  EXPECT_THAT(io_->warnings(), ElementsAre("[disk] cannot be kept: /proc is on no disk of the node"));
}

// ---- what is read past Atlas ----

/// The loop disk is an origin here; the job's processes read it by themselves.
class ReadPastAtlas : public JobDisksV1 {
 protected:
  void SetUp() override {
    JobDisksV1::SetUp();
    if (IsSkipped()) return;
    limits_.set_budgets({{LimitKind::user, "alice", kAlice, {1e6, kNoRate}, kDefaultBurst, 0}}, 1);
  }
  void start_counting(DiskRates rates = {}) {
    auto wanted = options(rates);
    wanted.disks.directories = {temp_.path("scratch"), "/proc"};
    auto& bypass = wanted.bypass.emplace();
    bypass.origins = {{"o", temp_.path("disk")}};
    bypass.caches = wanted.disks.directories;
    bypass.through = [this](const std::string&) { return through_.load(); };
    io_.reset();
    io_ = std::make_unique<JobIo>(clock_, limits_, wanted);
    io_->only({JobKey{"test", kJob, 0, {}}});
    // Its first look is over.
    EXPECT_TRUE(!rates.any() || test::eventually([&] { return !io_->warnings().empty(); }));
  }
  pid_t attach(pid_t task) {
    EXPECT_TRUE(test::eventually([&] { return !read_note(job_->path() / "step_0/cgroup.procs").empty(); }));
    io_->attached(kJob, {kAlice, kAlice, {}}, task);
    EXPECT_TRUE(test::eventually([&] { return fs::exists(temp_.path("run/jobs/" + std::to_string(kJob))); }));
    return task;
  }
  /// Has it read its file?
  [[nodiscard]] static bool has_read(pid_t task) {
    return process_reads(read_note("/proc/" + std::to_string(task) + "/io")).value_or(0) >= 6 * kMiB.count;
  }
  /// May this user read through Atlas at once?
  [[nodiscard]] bool may_read(std::uint32_t uid) {
    const auto grant = limits_.try_admit({"o", uid, uid, kJob, Urgency::fault, Bytes{1}, 1});
    if (grant) limits_.settle(*grant, Bytes{1}, 1);
    return grant.has_value();
  }

  ThreadExecutor timers_{1};
  LimitGovernor limits_{"n1", clock_, timers_};
  std::atomic<std::uint64_t> through_ = 0;
};

TEST_F(ReadPastAtlas, IsChargedToTheUsersLimit) {
  start_counting();
  EXPECT_TRUE(may_read(kAlice));
  const auto task = attach(reader());
  job_->go(task);
  EXPECT_TRUE(test::eventually([&] { return io_->bypassed(kJob).count >= 6 * kMiB.count; }));
  EXPECT_LE(io_->bypassed(kJob).count, 7 * kMiB.count) << "and once only";
  EXPECT_EQ(io_->bypassed_by_user().at(kAlice), io_->bypassed(kJob));
  EXPECT_FALSE(may_read(kAlice)) << "she has had six seconds' worth";
  EXPECT_TRUE(may_read(kAlice + 1));
  job_->finish(task);
  io_->released(kJob);
  EXPECT_TRUE(test::eventually([&] { return io_->bypassed(kJob).count == 0; }));
  EXPECT_GE(io_->bypassed_by_user().at(kAlice).count, 6 * kMiB.count);
}

TEST_F(ReadPastAtlas, WhatAtlasHasReadIsNotTheJobs) {
  start_counting();
  const auto task = attach(reader()), second = reader(), third = reader();
  for (const auto reading : {task, second}) {
    through_ += 6 * kMiB.count;  // as if what the disk is going to count were the agent's
    job_->go(reading);
    EXPECT_TRUE(test::eventually([&] { return has_read(reading); }));
  }
  job_->go(third);
  EXPECT_TRUE(test::eventually([&] { return io_->bypassed(kJob).count >= 5 * kMiB.count; }));
  EXPECT_LE(io_->bypassed(kJob).count, 7 * kMiB.count) << "of eighteen";
  for (const auto reading : {task, second, third}) job_->finish(reading);
}

TEST_F(ReadPastAtlas, WhoReadsADiskOfTheNodeDoesNotPayForWhatANeighbourReads) {
  fs::create_directories(temp_.path("scratch"));
  const LoopDisk scratch(temp_.path("scratch.image"), 64 * kMiB.count, temp_.path("scratch"));
  write_file(temp_.path("scratch/data"), random_bytes(6 * kMiB.count, 2));
  ASSERT_TRUE(scratch.sync());
  start_counting({kGiB, {}, 0});
  // In turn: its own disk, and, when a neighbour of no job has read the origin, a little of that.
  write_file(temp_.path("disk/little"), random_bytes(256 * kKiB.count, 3));
  ASSERT_TRUE(disk_->sync());
  const auto task = attach(job_->spawn([this] { return testing::read_directly(temp_.path("scratch/data")); }));
  const auto last = job_->spawn([this] { return testing::read_directly(temp_.path("disk/little")); });
  EXPECT_TRUE(test::eventually([&] { return set("cgroup.procs").find(std::to_string(last)) != std::string::npos; }));
  job_->go(task);
  ASSERT_EQ(testing::read_directly(temp_.path("disk/data")), 0);
  EXPECT_TRUE(test::eventually([&] { return has_read(task); }));
  job_->go(last);
  EXPECT_TRUE(test::eventually([&] { return io_->bypassed(kJob).count >= 256 * kKiB.count; }));
  EXPECT_LE(io_->bypassed(kJob).count, kMiB.count) << "of the neighbour's six";
  job_->finish(task);
  job_->finish(last);
}

TEST_F(ReadPastAtlas, AnAgentThatIsStartedAnewChargesNothingTwice) {
  start_counting();
  const auto task = attach(reader()), later = reader();
  job_->go(task);
  EXPECT_TRUE(test::eventually([&] { return io_->bypassed(kJob).count >= 6 * kMiB.count; }));
  start_counting({kGiB, {}, 0});
  job_->go(later);
  EXPECT_TRUE(test::eventually([&] { return io_->bypassed(kJob).count >= 5 * kMiB.count; }));
  EXPECT_LE(io_->bypassed(kJob).count, 7 * kMiB.count);
  job_->finish(task);
  job_->finish(later);
}

TEST_F(JobDisks, CgroupV2) {
  std::string hierarchy;
  for (const auto& mount : mounts_now())
    if (mount.type == "cgroup2") hierarchy = mount.point;
  if (hierarchy.empty() || read_note(hierarchy + "/cgroup.controllers").find("io") == std::string::npos)
    GTEST_SKIP() << "no io controller of cgroup v2 here: " << (hierarchy.empty() ? "not mounted" : "it is bound to v1");
  testing::JobInCgroup job(hierarchy, kJob);
  start({Bytes{4 * kMiB.count}, {}, 500});
  const auto task = job.spawn([path = temp_.path("disk/data")] {
    const auto begin = std::chrono::steady_clock::now();
    if (testing::read_directly(path) != 0) return 255;
    return static_cast<int>((std::chrono::steady_clock::now() - begin) / 100ms);
  });
  ASSERT_TRUE(test::eventually([&] { return !read_note(job.path() / "step_0/cgroup.procs").empty(); }));
  std::ofstream(job.path().parent_path().parent_path() / "cgroup.subtree_control") << "+io";  // as systemd delegates it
  io_->attached(kJob, {kAlice, kAlice, {}}, task);
  EXPECT_THAT(read_note(job.path() / "io.max"), HasSubstr(device_ + " rbps=4194304 wbps=max riops=500 wiops=500"));
  job.go(task);
  const int tenths = job.finish(task);
  ASSERT_NE(tenths, 255);
  EXPECT_GE(tenths, 12) << "6 MiB at 4 MiB/s";
  io_->released(kJob);
  EXPECT_TRUE(test::eventually([&] { return read_note(job.path() / "io.max").empty(); }));
}

}  // namespace
}  // namespace atlas::agent
