// Partial replicas through real FUSE mounts: run as root, skipped (and said so) otherwise.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "tests/support/eventually.h"
#include "tests/support/node_parts.h"
#include "tests/support/origin_tree.h"
#include "tests/support/slow_origin_process.h"
#include "tests/support/view_job.h"

namespace atlas::agent {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

constexpr std::uint64_t kMega = 1 << 20;

class FuseView : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts file systems and reads as other users";
    std::filesystem::create_directory(origin());
    std::filesystem::create_directory(temp_.path("mnt"));
    directory("ds", kAlice, 0755);
  }
  [[nodiscard]] NodeParts::Options options(const std::string& at = "origin") const {
    NodeParts::Options o;
    o.origin = temp_.path(at);
    o.tiers = {{"nvme", temp_.path("tier"), kGiB}};
    return o;
  }
  using Job = ViewJobs::Job;
  /// A job of Alice's with a view of "ds" of which `most` bytes may be kept.
  Job start(NodeParts& node, Bytes most = {}, std::chrono::milliseconds deadline = 30s, std::uint32_t job = 7) {
    return jobs_.start(node, most, deadline, job);
  }
  [[nodiscard]] std::vector<std::string> warned() { return jobs_.warned(); }

  ViewJobs jobs_{kAlice};
};

TEST_F(FuseView, WhatAJobSeesEqualsTheOriginBeforeAndAfterItIsResident) {
  nasty_tree();
  NodeParts node(options());
  const auto job = start(node);
  const Principal alice = user(kAlice);
  const auto at_origin = look(origin("ds"), &alice);
  EXPECT_EQ(job.replica->files_resident(), 0U);
  EXPECT_EQ(difference(look(job.path(), &alice), at_origin), "");
  EXPECT_EQ(job.replica->state(), ReplicaState::partial);
  EXPECT_EQ(job.replica->files_resident(), job.replica->summary().files - 1) << "what was read is kept; an empty file"
                                                                                " is read by nobody";
  EXPECT_EQ(difference(look(job.path(), &alice), at_origin), "") << "from the store";
  // A later mount asks anew: nothing of it is in the kernel's caches.
  auto again = job.view->mount();
  ASSERT_TRUE(again) << again.error().message;
  const auto before = node.origin.counters().bytes;
  EXPECT_EQ(difference(look("/proc/self/fd/" + std::to_string(again->get()), &alice), at_origin), "");
  EXPECT_EQ(node.origin.counters().bytes, before) << "all of it from the node";
}

TEST_F(FuseView, ModesAndAclsAreEnforcedForOthers) {
  file("ds/open", "for all");
  file("ds/mine", "alice's own", kAlice, 0600);
  file("ds/with bob", "by acl", kAlice, 0640);
  give_read(origin("ds/with bob"), kBob);
  directory("ds/closed", kAlice, 0700);
  file("ds/closed/f", "inside", kAlice, 0644);
  NodeParts node(options());
  const auto job = start(node);
  const Principal bob = user(kBob);
  EXPECT_EQ(difference(look(job.path(), &bob), look(origin("ds"), &bob)), "");
}

TEST_F(FuseView, TheMountIsReadOnlyAndHonoursNoSetuid) {
  file("ds/f", "x");
  NodeParts node(options());
  const auto job = start(node);
  EXPECT_EQ(open(job.path("f").c_str(), O_WRONLY), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(open(job.path("new").c_str(), O_CREAT | O_WRONLY, 0644), -1);
  EXPECT_EQ(errno, EROFS);
  struct statvfs st {};
  ASSERT_EQ(fstatvfs(job.mount.get(), &st), 0);
  EXPECT_EQ(st.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV), unsigned{ST_RDONLY | ST_NOSUID | ST_NODEV});
}

TEST_F(FuseView, ADatasetOfOneFile) {
  const std::string bytes = random_bytes(3 * kMega + 5, 1);
  file("ds/one", bytes);
  NodeParts node(options());
  auto replica = node.engine->open_partial({"o", "ds/one"}, user(kAlice), {}, node.clock.now() + 20s);
  ASSERT_TRUE(replica) << replica.error().message;
  view::PartialViews views({&node.origin}, *node.fetcher, node.clock, {});
  const auto mount = views.mount(*replica, {"test", 7, 0, {}}, user(kAlice), {});
  ASSERT_TRUE(mount) << mount.error().message;
  EXPECT_EQ(content("/proc/self/fd/" + std::to_string(mount->get())), bytes);
  const auto read = views.release(7);
  ASSERT_EQ(read.size(), 1U);
  EXPECT_EQ(read.begin()->second.origin_bytes.count, bytes.size());
  EXPECT_TRUE(views.release(7).empty()) << "counters are told once";
}

TEST_F(FuseView, ManyReadersOfOneFileFetchEachByteOnce) {
  const std::string bytes = random_bytes(40 * kMega + 777, 3);
  file("ds/big", bytes);
  for (int i = 0; i < 50; ++i) file("ds/" + std::to_string(i), random_bytes(100'000, unsigned(i)));
  SlowOrigin slow(origin(), temp_.path("mnt"), {"--latency", "2"});
  NodeParts node(options("mnt"));
  // Two connections: their page caches do not know of each other.
  const auto job = start(node), other = start(node, {}, 30s, 8);
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (const auto* who : {&job, &other})
    for (int n = 0; n < 4; ++n)
      readers.emplace_back([&, who] {
        if (content(who->path("big")) != bytes) ++wrong;
        for (int i = 0; i < 50; ++i)
          if (content(who->path(std::to_string(i))) != random_bytes(100'000, unsigned(i))) ++wrong;
      });
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(node.origin.counters().bytes, bytes.size() + 50 * 100'000U);
  const auto counters = job.view->counters(), others = other.view->counters();
  EXPECT_EQ(counters.origin_bytes.count + others.origin_bytes.count, bytes.size() + 50 * 100'000U);
}

TEST_F(FuseView, ReadersAndAWarmUpTogetherReadEachByteOnce) {
  const std::string bytes = random_bytes(60 * kMega, 4);
  file("ds/big", bytes);
  for (int i = 0; i < 200; ++i) file("ds/" + std::to_string(i), random_bytes(50'000, unsigned(i)));
  SlowOrigin slow(origin(), temp_.path("mnt"), {"--latency", "1"});
  NodeParts node(options("mnt"));
  const auto job = start(node);
  auto warming = node.start({{"o", "ds"}, user(kAlice), {"test", 7, 0, {}}, {}, false});
  EXPECT_EQ(content(job.path("big")), bytes);
  for (int i = 199; i >= 0; --i) ASSERT_EQ(content(job.path(std::to_string(i))), random_bytes(50'000, unsigned(i)));
  const auto done = warming.get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(node.origin.counters().bytes, 60 * kMega + 200 * 50'000U);
  EXPECT_EQ(job.replica->state(), ReplicaState::complete);
  const Principal alice = user(kAlice);
  EXPECT_EQ(difference(look(job.path(), &alice), look(origin("ds"), &alice)), "") << "the view goes on after the seal";
}

TEST_F(FuseView, MappedFilesReadRight) {
  const std::string bytes = random_bytes(9 * kMega + 100, 5);
  file("ds/map", bytes);
  NodeParts node(options());
  const auto job = start(node);
  const UniqueFd fd(open(job.path("map").c_str(), O_RDONLY));
  ASSERT_TRUE(fd);
  auto* map = static_cast<char*>(mmap(nullptr, bytes.size(), PROT_READ, MAP_PRIVATE, fd.get(), 0));
  ASSERT_NE(map, MAP_FAILED);
  for (std::size_t step = 0, at = 0; step < 500; ++step, at = (at + 7 * kMega / 3 + 4096) % bytes.size())
    ASSERT_EQ(map[at], bytes[at]) << at;
  EXPECT_EQ(std::memcmp(map, bytes.data(), bytes.size()), 0);
  munmap(map, bytes.size());
}

TEST_F(FuseView, ACacheSmallerThanTheDataKeepsWhatFitsAndReadsTheRestThrough) {
  for (int i = 0; i < 20; ++i) file("ds/" + std::to_string(i), random_bytes(kMega, unsigned(i)));
  file("ds/big", random_bytes(8 * kMega, 99));
  NodeParts node(options());
  const auto job = start(node, Bytes{7 * kMega});
  const auto epoch = [&] {
    auto mount = job.view->mount();  // with no page in the kernel's cache
    ASSERT_TRUE(mount);
    const std::string at = "/proc/self/fd/" + std::to_string(mount->get()) + "/";
    for (int i = 0; i < 20; ++i) ASSERT_EQ(content(at + std::to_string(i)), random_bytes(kMega, unsigned(i)));
    ASSERT_EQ(content(at + "big"), random_bytes(8 * kMega, 99));
  };
  epoch();
  EXPECT_EQ(job.replica->bytes_resident().count, 7 * kMega);
  EXPECT_EQ(node.origin.counters().bytes, 28 * kMega) << "nothing twice";
  const auto before = job.view->counters().hit_bytes.count;
  epoch();
  EXPECT_EQ(job.replica->bytes_resident().count, 7 * kMega) << "what is kept stays";
  EXPECT_EQ(node.origin.counters().bytes, (28 + 21) * kMega) << "what was kept is not read again";
  EXPECT_EQ(job.view->counters().hit_bytes.count - before, 7 * kMega);
}

TEST_F(FuseView, WhatDoesNotFitIsReadAheadInMemoryOnceAndDroppedBehind) {
  const std::string bytes = random_bytes(96 * kMega + 4321, 7);
  file("ds/big", bytes);
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  const auto job = start(node, Bytes{1});
  const UniqueFd fd(open(job.path("big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(fd);
  std::string piece(128 * 1024, '\0');
  const auto read_to = [&](std::size_t from, std::size_t to) {
    for (auto at = from; at < to; at += piece.size()) {
      const auto length = std::min(piece.size(), bytes.size() - at);
      if (pread(fd.get(), piece.data(), piece.size(), off_t(at)) != ssize_t(length) ||
          bytes.compare(at, length, piece, 0, length) != 0)
        return false;
    }
    return true;
  };
  ASSERT_TRUE(read_to(0, 16 * kMega));
  // Nobody has asked for what comes now, and it is asked for, many pieces at a time.
  slow.tell({"hang", "read"});
  std::thread reader([&] { EXPECT_TRUE(read_to(16 * kMega, bytes.size())); });
  EXPECT_TRUE(test::eventually([&] {
    return slow.hanging() != 0 && node.fetcher->in_flight() >= 4 && job.view->counters().window.count >= 16 * kMega;
  })) << slow.hanging()
      << " reads, " << node.fetcher->in_flight() << " fetches, " << job.view->counters().window.count << " bytes";
  slow.tell({"resume"});
  std::uint64_t most = 0;
  std::atomic<bool> over{false};
  std::thread looker([&] {
    while (!over) most = std::max(most, job.view->counters().window.count);
  });
  reader.join();
  over = true;
  looker.join();
  EXPECT_LE(most, 64 * kMega);
  EXPECT_EQ(node.origin.counters().bytes, bytes.size()) << "nothing twice";
  EXPECT_LE(node.origin.counters().operations, 2 * bytes.size() / kMega) << "in pieces that are worth an operation";
  EXPECT_EQ(job.view->counters().window.count, 0U) << "what has been read is gone";
}

TEST_F(FuseView, AReaderInStepsFindsItsNextPiecesOnTheirWay) {
  constexpr std::uint64_t kStep = 3 * kMega, kSteps = 40;
  const std::string bytes = random_bytes(kStep * kSteps + 4321, 8);
  file("ds/big", bytes);
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  const auto job = start(node);
  const UniqueFd fd(open(job.path("big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(fd);
  ASSERT_EQ(posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM), 0);  // the kernel asks for what the reader asks for
  const auto read_at = [&](std::uint64_t step) {
    std::string piece(4096, '\0');
    const auto at = kMega / 2 + step * kStep;
    return pread(fd.get(), piece.data(), piece.size(), off_t(at)) == ssize_t(piece.size()) &&
           bytes.compare(at, piece.size(), piece) == 0;
  };
  for (std::uint64_t step = 0; step < 8; ++step) ASSERT_TRUE(read_at(step));
  ASSERT_TRUE(test::eventually([&] { return node.fetcher->in_flight() == 0; }));
  const auto read_before = node.origin.counters().bytes;
  EXPECT_GE(read_before, 16 * kMega) << "blocks that nobody has asked for yet";
  // The origin gives nothing more: what is ahead of the reader is here, and what is farther has been asked for.
  slow.tell({"hang", "read"});
  ASSERT_TRUE(read_at(8)) << "without the origin";
  ASSERT_TRUE(read_at(9));
  EXPECT_TRUE(test::eventually([&] { return slow.hanging() >= 2 && node.fetcher->in_flight() >= 2; }))
      << slow.hanging() << " reads, " << node.fetcher->in_flight() << " fetches, and no reader waits";
  slow.tell({"resume"});
  for (std::uint64_t step = 10; step < kSteps; ++step) ASSERT_TRUE(read_at(step));
  ASSERT_TRUE(test::eventually([&] { return node.fetcher->in_flight() == 0; }));
  EXPECT_EQ(node.origin.counters().bytes, kSteps * kMega) << "of each step its block, once, and nothing between them";
}

TEST_F(FuseView, ReadersOfWhatDoesNotFitDoNotHaveTheOriginReadTwice) {
  const std::string bytes = random_bytes(64 * kMega, 11);
  file("ds/big", bytes);
  const SlowOrigin slow(origin(), temp_.path("mnt"), {"--latency", "1"});
  NodeParts node(options("mnt"));
  const auto job = start(node, Bytes{1});
  slow.tell({"reset"});
  constexpr unsigned kReaders = 8, kReads = 8;
  std::vector<std::thread> readers;
  for (unsigned i = 0; i < kReaders; ++i)
    readers.emplace_back([&, i] {
      const UniqueFd fd(open(job.path("big").c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT));
      ASSERT_TRUE(fd);
      const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(4096, kMega), &std::free);
      for (unsigned n = 0; n < kReads; ++n) {  // each piece once, in no order
        const auto at = (i + kReaders * ((n * 5 + i) % kReads)) * kMega;
        ASSERT_EQ(pread(fd.get(), memory.get(), kMega, off_t(at)), ssize_t(kMega));
        ASSERT_EQ(std::memcmp(memory.get(), bytes.data() + at, kMega), 0);
      }
    });
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(node.origin.counters().bytes, bytes.size());
  EXPECT_EQ(slow.read_bytes(), bytes.size()) << "what one opens does not throw away what others are just reading";
}

TEST_F(FuseView, AFullDiskFailsNoRead) {
  for (int i = 0; i < 30; ++i) file("ds/" + std::to_string(i), random_bytes(kMega, unsigned(i)));
  std::filesystem::create_directory(temp_.path("tier"));
  ASSERT_EQ(::mount("tmpfs", temp_.path("tier").c_str(), "tmpfs", 0, "size=12m"), 0) << strerror(errno);
  {
    NodeParts node(options());
    const auto job = start(node);
    for (int i = 0; i < 30; ++i) EXPECT_EQ(content(job.path(std::to_string(i))), random_bytes(kMega, unsigned(i)));
    EXPECT_GT(job.replica->bytes_resident().count, 4 * kMega);
  }
  EXPECT_EQ(umount2(temp_.path("tier").c_str(), MNT_DETACH), 0);
}

TEST_F(FuseView, AHungOriginFailsAReadByItsDeadlineAndOtherFilesGoOn) {
  file("ds/hung", random_bytes(100'000, 1));
  file("ds/here", "resident");
  file("ds/other", "not hung");
  directory("ds/dir", kAlice, 0750);
  file("ds/dir/inside", "also resident");
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  {
    const auto job = start(node, {}, 1500ms);
    EXPECT_EQ(content(job.path("here")), "resident");
    slow.tell({"hang", "--path", "*ds/hung", "read"});
    std::string read;
    std::thread reader([&] { read = content(job.path("hung")); });
    EXPECT_EQ(content(job.path("here")), "resident");
    EXPECT_EQ(content(job.path("other")), "not hung");
    EXPECT_EQ(content(job.path("dir/inside")), "also resident");
    reader.join();
    EXPECT_EQ(read, "read: Input/output error");
    EXPECT_THAT(warned(), Contains(HasSubstr("o:ds/hung failed: its origin did not answer within 1.5s")));
    slow.tell({"resume"});
    EXPECT_EQ(content(job.path("hung")), random_bytes(100'000, 1)) << "the next read asks again";
  }
}

TEST_F(FuseView, AKilledReaderIsLetGoAtOnce) {
  file("ds/hung", random_bytes(100'000, 1));
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  {
    const auto job = start(node);  // 30 s would exceed this test's patience
    slow.tell({"hang", "--path", "*ds/hung", "read"});
    // Without read-ahead of its own the kernel waits for each page in the reader's name, and tells us of its signals.
    const std::string path = job.path("hung");
    const pid_t child = fork();
    if (child == 0) {
      signal(SIGUSR1, [](int) {});
      const int fd = open(path.c_str(), O_RDONLY);
      posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
      char byte = 0;
      (void)!read(fd, &byte, 1);
      _exit(0);
    }
    while (node.fetcher->in_flight() == 0) std::this_thread::yield();
    kill(child, SIGUSR1);  // has a handler: the read goes on
    EXPECT_EQ(waitpid(child, nullptr, WNOHANG), 0);
    const auto before = std::chrono::steady_clock::now();
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_LT(std::chrono::steady_clock::now() - before, 20s) << "it waited for the deadline";
    slow.tell({"resume"});
  }
}

TEST_F(FuseView, ClosingAViewFailsWhatWaitsAndLeavesNoMount) {
  file("ds/hung", random_bytes(100'000, 1));
  file("ds/here", "resident");
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  {
    const auto job = start(node);
    EXPECT_EQ(content(job.path("here")), "resident");
    slow.tell({"hang", "--path", "*ds/hung", "read"});
    std::string read;
    std::thread reader([&] { read = content(job.path("hung")); });
    while (node.fetcher->in_flight() == 0) std::this_thread::yield();
    job.view->close();
    reader.join();
    EXPECT_THAT(read, HasSubstr("read: "));
    EXPECT_EQ(open(job.path("other").c_str(), O_RDONLY), -1);
    EXPECT_EQ(errno, ENOTCONN);
    slow.tell({"resume"});
  }
}

TEST_F(FuseView, AFileThatChangedAtTheOriginIsStaleNotMixed) {
  const std::string old = random_bytes(4 * kMega, 1);
  file("ds/changing", old);
  NodeParts node(options());
  const auto job = start(node);
  const UniqueFd fd(open(job.path("changing").c_str(), O_RDONLY));
  ASSERT_TRUE(fd);
  std::string piece(kMega, '\0');
  ASSERT_EQ(posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM), 0);
  ASSERT_EQ(pread(fd.get(), piece.data(), 4096, 0), 4096);
  file("ds/changing", random_bytes(4 * kMega, 2));
  EXPECT_EQ(pread(fd.get(), piece.data(), 4096, 3 * kMega), -1);
  EXPECT_EQ(errno, ESTALE);
  EXPECT_EQ(pread(fd.get(), piece.data(), kMega, 0), ssize_t(kMega)) << "the old bytes that are here";
  EXPECT_EQ(piece, old.substr(0, kMega));
  EXPECT_THAT(warned(), Contains(HasSubstr("ds/changing changed")));
}

}  // namespace
}  // namespace atlas::agent
