// Large files of partial replicas that the kernel reads from the store by itself. Run as root, on Linux 6.9 and later,
// built with libfuse 3.17 and later; skipped (and said so) otherwise.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/support/eventually.h"
#include "tests/support/node_parts.h"
#include "tests/support/origin_tree.h"
#include "tests/support/view_job.h"

namespace atlas::agent {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

constexpr std::uint64_t kMega = 1 << 20;

UniqueFd opened(const std::string& path, int flags = O_RDONLY) {
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC));
  EXPECT_TRUE(fd) << path << ": " << strerror(errno);
  return fd;
}

std::string rest_of(const UniqueFd& fd, std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t done = 0;
  for (ssize_t got = 1; done < size && got > 0; done += got > 0 ? std::size_t(got) : 0)
    got = pread(fd.get(), bytes.data() + done, size - done, off_t(done));
  return bytes.substr(0, done);
}

std::string mapped(const UniqueFd& fd, std::size_t size) {
  void* at = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  EXPECT_NE(at, MAP_FAILED) << strerror(errno);
  if (at == MAP_FAILED) return {};
  std::string bytes(static_cast<const char*>(at), size);
  munmap(at, size);
  return bytes;
}

ino_t inode(int fd) {
  struct stat st {};
  EXPECT_EQ(fstat(fd, &st), 0);
  return st.st_ino;
}

class Passthrough : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts file systems and reads as other users";
    if (const auto why = view::why_no_passthrough(); !why.empty()) GTEST_SKIP() << "no passthrough: " << why;
    std::filesystem::create_directory(origin());
    std::filesystem::create_directory(temp_.path("tier"));
    directory("ds", kAlice, 0755);
    one_ = random_bytes(5 * kMega + 77, 1);
    two_ = random_bytes(kMega, 2);
    file("ds/one", one_);
    file("ds/two", two_);
    file("ds/small", "below 128 KiB");
  }
  [[nodiscard]] NodeParts::Options options() const {
    NodeParts::Options o;
    o.origin = origin();
    o.tiers = {{"nvme", temp_.path("tier"), kGiB}};
    return o;
  }
  /// Reads everything, so that it is here, and has the disk take it.
  static void complete(const ViewJobs::Job& job, NodeParts& node) {
    for (const char* name : {"one", "two", "small"}) (void)content(job.path(name));
    node.store->flush_what_is_read();
    ASSERT_EQ(job.replica->files_resident(), 3U);
  }
  /// Where the store keeps a file.
  [[nodiscard]] std::string stored(const std::string& name) const {
    for (const auto& at : std::filesystem::recursive_directory_iterator(temp_.path("tier")))
      if (at.path().filename() == name && at.path().parent_path().filename() == "tree") return at.path();
    return {};
  }

  /// The same of a dataset that is one file.
  [[nodiscard]] std::string stored_alone() const {
    for (const auto& at : std::filesystem::recursive_directory_iterator(temp_.path("tier")))
      if (at.path().filename() == "tree" && at.is_regular_file()) return at.path();
    return {};
  }

  std::string one_, two_;
  ViewJobs jobs_{kAlice};
};

TEST_F(Passthrough, AFileThatIsAllHereIsReadByTheKernelItself) {
  NodeParts node(options());
  const auto job = jobs_.start(node);
  EXPECT_EQ(content(job.path("one")), one_);
  EXPECT_EQ(job.view->counters().passed, 0U) << "it was not here";
  complete(job, node);
  const auto before = job.view->counters();
  const auto fd = opened(job.path("one"));
  EXPECT_EQ(job.view->counters().passed, before.passed + 1);
  EXPECT_EQ(rest_of(fd, one_.size() + 1), one_);
  EXPECT_EQ(mapped(fd, one_.size()), one_);
  std::minstd_rand random(7);
  std::string some(4096, '\0');
  for (int i = 0; i < 200; ++i) {
    const std::size_t at = random() % (one_.size() - some.size());
    ASSERT_EQ(pread(fd.get(), some.data(), some.size(), off_t(at)), ssize_t(some.size()));
    ASSERT_EQ(one_.compare(at, some.size(), some), 0) << at;
  }
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_DATA), 0);
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_END), off_t(one_.size()));
  EXPECT_EQ(content(job.path("two")), two_) << "exactly one block";
  const auto after = job.view->counters();
  EXPECT_EQ(after.passed, before.passed + 2);
  EXPECT_EQ(after.hits + after.misses, before.hits + before.misses) << "nobody asked this process for a byte";
  EXPECT_EQ(content(job.path("small")), "below 128 KiB");
  EXPECT_EQ(job.view->counters().passed, after.passed) << "small files are read as ever";
}

TEST_F(Passthrough, AFileThatBecomesCompleteWhileItIsOpenIsReadBothWays) {
  NodeParts node(options());
  const auto job = jobs_.start(node);
  const auto early = opened(job.path("one"));
  EXPECT_EQ(rest_of(early, 10), one_.substr(0, 10));
  complete(job, node);
  const auto before = job.view->counters().passed;
  const auto late = opened(job.path("one"));
  EXPECT_EQ(job.view->counters().passed, before + 1) << "the next open";
  EXPECT_EQ(rest_of(early, one_.size()), one_);
  EXPECT_EQ(mapped(early, one_.size()), one_);
  EXPECT_EQ(rest_of(late, one_.size()), one_);
  EXPECT_EQ(mapped(late, one_.size()), one_);
  EXPECT_EQ(inode(early.get()), inode(late.get())) << "one file to whoever looks";
  // By its descriptor, not by its path: there is nothing to be looked up again.
  for (const auto* fd : {&early, &late}) {
    const auto again = opened("/proc/self/fd/" + std::to_string(fd->get()));
    EXPECT_EQ(rest_of(again, one_.size()), one_);
  }
  EXPECT_EQ(job.view->counters().passed, before + 2);
}

TEST_F(Passthrough, AnOpenByDescriptorFailsNeitherBeforeAnyOtherOpen) {
  NodeParts node(options());
  const auto job = jobs_.start(node);
  const auto early = opened(job.path("one"));
  complete(job, node);
  for (int i = 0; i < 3; ++i) {
    const auto again = opened("/proc/self/fd/" + std::to_string(early.get()));
    EXPECT_EQ(rest_of(again, one_.size()), one_);
  }
  EXPECT_EQ(content(job.path("one")), one_);
}

TEST_F(Passthrough, WhatAJobSeesEqualsTheOrigin) {
  nasty_tree();
  file("ds/large", random_bytes(96 * kMega, 3));  // so that the files are large on average
  NodeParts node(options());
  const auto job = jobs_.start(node);
  const Principal alice = user(kAlice);
  const auto at_origin = look(origin("ds"), &alice);
  EXPECT_EQ(difference(look(job.path(), &alice), at_origin), "");
  node.store->flush_what_is_read();
  EXPECT_EQ(difference(look(job.path(), &alice), at_origin), "");
  EXPECT_GE(job.view->counters().passed, 3U);
}

TEST_F(Passthrough, ModesCountAsEver) {
  file("ds/mine", random_bytes(2 * kMega, 3), kAlice, 0600);
  NodeParts node(options());
  const auto job = jobs_.start(node);
  EXPECT_EQ(content(job.path("mine")), random_bytes(2 * kMega, 3));
  node.store->flush_what_is_read();
  EXPECT_EQ(content(job.path("mine")), random_bytes(2 * kMega, 3));
  ASSERT_EQ(job.view->counters().passed, 1U);
  as_user(user(kBob), [&] { EXPECT_EQ(content(job.path("mine")), "open: Permission denied"); });
  EXPECT_EQ(open(job.path("mine").c_str(), O_RDWR), -1);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(Passthrough, AnOverlayOnTopReadsOnWhenFilesBecomeComplete) {
  NodeParts node(options());
  const auto job = jobs_.start(node);
  for (const char* name : {"upper", "work", "merged"}) std::filesystem::create_directory(temp_.path(name));
  const std::string layers =
      "lowerdir=" + job.path() + ",upperdir=" + temp_.path("upper") + ",workdir=" + temp_.path("work");
  const std::string merged = temp_.path("merged");
  ASSERT_EQ(mount("overlay", merged.c_str(), "overlay", 0, layers.c_str()), 0) << strerror(errno);
  const auto early = opened(merged + "/one");
  EXPECT_EQ(rest_of(early, 100), one_.substr(0, 100));
  complete(job, node);
  EXPECT_EQ(content(merged + "/one"), one_);
  EXPECT_EQ(content(job.path("one")), one_);  // this open looks it up again
  EXPECT_EQ(content(merged + "/one"), one_);
  EXPECT_EQ(content(merged + "/two"), two_);
  EXPECT_EQ(rest_of(early, one_.size()), one_);
  EXPECT_EQ(umount2(merged.c_str(), MNT_DETACH), 0);
}

TEST_F(Passthrough, DatasetsOfSmallFilesDoWithout) {
  for (int i = 0; i < 100; ++i) file("ds/" + std::to_string(i), "small");
  NodeParts node(options());
  const auto job = jobs_.start(node);
  for (const char* name : {"one", "two"}) (void)content(job.path(name));
  node.store->flush_what_is_read();
  EXPECT_EQ(content(job.path("one")), one_);
  EXPECT_EQ(job.view->counters().passed, 0U) << "opens without a request pay more";
}

TEST_F(Passthrough, ItCanBeSwitchedOff) {
  NodeParts node(options());
  jobs_.passthrough = false;
  const auto job = jobs_.start(node);
  complete(job, node);
  EXPECT_EQ(content(job.path("one")), one_);
  EXPECT_EQ(job.view->counters().passed, 0U);
}

TEST_F(Passthrough, ABadBlockOfAnOpenFileIsFetchedAgainIntoTheSameFile) {
  NodeParts node(options());
  const auto job = jobs_.start(node);
  complete(job, node);
  const auto held = opened(job.path("one"));
  EXPECT_EQ(rest_of(held, one_.size()), one_);
  {
    const auto on_disk = opened(stored("one"), O_RDWR);
    ASSERT_EQ(pwrite(on_disk.get(), "!", 1, 3 * kMega + 5), 1);
  }
  const auto verified = node.store->verify(job.replica);
  ASSERT_TRUE(verified) << verified.error().message;
  ASSERT_EQ(verified->bad, 1U);
  EXPECT_EQ(content(job.path("one")), one_) << "whoever opens it now waits for the block";
  EXPECT_TRUE(test::eventually([&] { return rest_of(held, one_.size()) == one_; }))
      << "and who had it open gets it, too";
  node.store->flush_what_is_read();
  const auto before = job.view->counters().passed;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(content(job.path("one")), one_);
  EXPECT_GE(job.view->counters().passed, before + 1) << "all is well again";
}

TEST_F(Passthrough, ABadBlockOfAnOpenFileIsMendedThoughNobodyOpensItAgain) {
  NodeParts node(options());
  const auto job = jobs_.start(node);
  complete(job, node);
  const auto held = opened(job.path("one"));
  {
    const auto on_disk = opened(stored("one"), O_RDWR);
    ASSERT_EQ(pwrite(on_disk.get(), "!", 1, 5), 1);
  }
  ASSERT_TRUE(node.store->verify(job.replica));
  EXPECT_TRUE(test::eventually([&] { return rest_of(held, one_.size()) == one_; }));
}

TEST_F(Passthrough, ADatasetOfOneFileIsReadByTheKernelItselfOnceItIsAllHere) {
  jobs_.dataset = "ds/one";
  NodeParts node(options());
  const auto job = jobs_.start(node);
  auto early = opened(job.path());
  EXPECT_EQ(rest_of(early, one_.size() + 1), one_);
  node.store->flush_what_is_read();
  EXPECT_EQ(content(job.path()), one_) << "somebody has it open the other way, and it has one node only";
  EXPECT_EQ(job.view->counters().passed, 0U);
  early.reset();
  UniqueFd late;
  ASSERT_TRUE(test::eventually([&] {  // that it was closed is told a moment later
    late.reset();
    late = opened(job.path());
    return job.view->counters().passed != 0;
  }));
  const auto before = job.view->counters();
  EXPECT_EQ(rest_of(late, one_.size() + 1), one_);
  EXPECT_EQ(mapped(late, one_.size()), one_);
  const auto again = opened(job.path());
  EXPECT_EQ(rest_of(again, one_.size() + 1), one_);
  EXPECT_EQ(inode(late.get()), inode(again.get()));
  const auto after = job.view->counters();
  EXPECT_EQ(after.passed, before.passed + 1);
  EXPECT_EQ(after.hits + after.misses, before.hits + before.misses) << "nobody asked this process for a byte";
}

TEST_F(Passthrough, ABadBlockOfADatasetOfOneFileIsWaitedForByWhoOpensIt) {
  jobs_.dataset = "ds/one";
  NodeParts node(options());
  const auto job = jobs_.start(node);
  EXPECT_EQ(content(job.path()), one_);
  node.store->flush_what_is_read();
  UniqueFd held;
  ASSERT_TRUE(test::eventually([&] {
    held.reset();
    held = opened(job.path());
    return job.view->counters().passed != 0;
  }));
  {
    const auto on_disk = opened(stored_alone(), O_RDWR);
    ASSERT_EQ(pwrite(on_disk.get(), "!", 1, 3 * kMega + 5), 1);
  }
  const auto verified = node.store->verify(job.replica);
  ASSERT_TRUE(verified) << verified.error().message;
  ASSERT_EQ(verified->bad, 1U);
  EXPECT_EQ(content(job.path()), one_) << "whoever opens it now waits for the block";
  EXPECT_EQ(rest_of(held, one_.size()), one_) << "it is one file to all of them";
}

TEST_F(Passthrough, ReadersOfADatasetOfOneFileNoticeNothingWhileItIsCompleted) {
  const std::string bytes = random_bytes(64 * kMega + 5, 9);
  file("ds/big", bytes);
  jobs_.dataset = "ds/big";
  NodeParts node(options());
  const auto job = jobs_.start(node);
  std::atomic<bool> over{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (unsigned seed = 0; seed < 4; ++seed)
    readers.emplace_back([&, seed] {
      std::minstd_rand random(seed + 1);
      for (int step = 0; !over || step < 200; ++step) {
        const UniqueFd fd(open(job.path().c_str(), O_RDONLY | O_CLOEXEC));
        for (int n = 0; n < 3; ++n) {
          std::string some(10'000, '\0');
          const std::size_t at = random() % (bytes.size() - some.size());
          if (!fd || pread(fd.get(), some.data(), some.size(), off_t(at)) != ssize_t(some.size()) ||
              bytes.compare(at, some.size(), some) != 0)
            ++wrong;
        }
      }
    });
  const auto warmed = node.start({{"o", "ds/big"}, user(kAlice), {"test", 7, 0, {}}, {}, false}).get();
  EXPECT_TRUE(warmed) << warmed.error().message;
  node.store->flush_what_is_read();
  over = true;
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(test::eventually([&] { return content(job.path()) == bytes && job.view->counters().passed != 0; }));
}

TEST_F(Passthrough, AViewThatEndsHoldsNoFileOfTheStore) {
  ASSERT_EQ(::mount("tmpfs", temp_.path("tier").c_str(), "tmpfs", 0, "size=64m"), 0) << strerror(errno);
  {
    NodeParts node(options());
    auto job = jobs_.start(node);
    complete(job, node);
    const auto held = opened(job.path("one"));
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(content(job.path("one")), one_);
      EXPECT_EQ(content(job.path("two")), two_);
    }
    EXPECT_GE(job.view->counters().passed, 20U);
    job.view->close();
  }
  EXPECT_TRUE(test::eventually([&] { return umount2(temp_.path("tier").c_str(), 0) == 0; })) << strerror(errno);
}

TEST_F(Passthrough, AStoreThatTheKernelCannotReadSoIsReadAsEver) {
  // The kernel stacks no such file system on an overlay.
  for (const char* name : {"lower", "upper", "work"}) std::filesystem::create_directory(temp_.path(name));
  const std::string layers =
      "lowerdir=" + temp_.path("lower") + ",upperdir=" + temp_.path("upper") + ",workdir=" + temp_.path("work");
  ASSERT_EQ(::mount("overlay", temp_.path("tier").c_str(), "overlay", 0, layers.c_str()), 0) << strerror(errno);
  {
    NodeParts node(options());
    const auto job = jobs_.start(node);
    complete(job, node);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(content(job.path("one")), one_);
      EXPECT_EQ(content(job.path("two")), two_);
    }
    auto fresh = job.view->mount();  // finds the files complete at the first lookup
    ASSERT_TRUE(fresh);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(content("/proc/self/fd/" + std::to_string(fresh->get()) + "/one"), one_);
    EXPECT_EQ(job.view->counters().passed, 0U);
    EXPECT_THAT(jobs_.warned(), Contains(HasSubstr("does not read files of tier nvme by itself")));
  }
  EXPECT_EQ(umount2(temp_.path("tier").c_str(), MNT_DETACH), 0);
}

TEST_F(Passthrough, ReadersNoticeNothingWhileAWarmUpCompletesTheirFiles) {
  constexpr int kFiles = 40;
  std::vector<std::string> bytes;
  for (int i = 0; i < kFiles; ++i) {
    bytes.push_back(random_bytes(kMega + std::size_t(i) * 100'000, unsigned(i)));
    file("ds/n" + std::to_string(i), bytes.back());
  }
  NodeParts node(options());
  const auto job = jobs_.start(node);
  std::atomic<bool> over{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (unsigned seed = 0; seed < 4; ++seed)
    readers.emplace_back([&, seed] {
      std::minstd_rand random(seed + 1);
      std::vector<UniqueFd> held;  // some stay open, and are read from much later
      std::vector<std::size_t> which;
      for (int step = 0; !over || step < 200; ++step) {
        const auto n = std::size_t(random() % kFiles);
        UniqueFd fd(open(job.path("n" + std::to_string(n)).c_str(), O_RDONLY | O_CLOEXEC));
        const auto good = [&](int from, std::size_t of) {
          std::string some(10'000, '\0');
          const std::size_t at = random() % (bytes[of].size() - some.size());
          return pread(from, some.data(), some.size(), off_t(at)) == ssize_t(some.size()) &&
                 bytes[of].compare(at, some.size(), some) == 0;
        };
        if (!fd || !good(fd.get(), n)) ++wrong;
        if (held.size() < 20) {
          held.push_back(std::move(fd));
          which.push_back(n);
        } else {
          const auto old = std::size_t(random() % held.size());
          if (!good(held[old].get(), which[old])) ++wrong;
          if (random() % 2 == 0) {
            held[old] = std::move(fd);
            which[old] = n;
          }
        }
      }
    });
  const auto warmed = node.start({{"o", "ds"}, user(kAlice), {"test", 7, 0, {}}, {}, false}).get();
  EXPECT_TRUE(warmed) << warmed.error().message;
  node.store->flush_what_is_read();
  for (int i = 0; i < kFiles; ++i) EXPECT_EQ(content(job.path("n" + std::to_string(i))), bytes[std::size_t(i)]);
  over = true;
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(job.view->counters().passed, unsigned{kFiles});
}

}  // namespace
}  // namespace atlas::agent
