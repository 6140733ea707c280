// The agent is killed while the kernel reads large files of its view by itself: another goes on with the same backing
// ids, and no read and no open notices. Run as root, on Linux 6.9 and later, built with libfuse 3.17 and later; skipped
// (and said so) otherwise. ATLAS_KILLS=N kills that often, ATLAS_SEED=N repeats a run.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <random>
#include <thread>

#include "cache-agent/view/fuse/partial_views.h"
#include "tests/support/eventually.h"
#include "tests/support/node_processes.h"
#include "tests/support/origin_tree.h"
#include "tests/support/slow_origin_process.h"

namespace atlas::agent {
namespace {

using ::testing::IsEmpty;
using namespace std::chrono_literals;

constexpr std::uint64_t kMega = 1 << 20, kHuge = 2048 * kMega;
constexpr std::size_t kFiles = 40, kPiece = 3000;

unsigned from_environment(const char* name, unsigned otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

class TakeoverPassthrough : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts file systems and reads as other users";
    if (const auto why = view::why_no_passthrough(); !why.empty()) GTEST_SKIP() << "no passthrough: " << why;
    for (const char* name : {"origin", "mnt", "node"}) std::filesystem::create_directory(temp_.path(name));
    directory("ds", kAlice, 0755);
    for (std::size_t i = 0; i < kFiles; ++i) {
      bytes_.push_back(random_bytes(kMega + i * 10'000, unsigned(i)));
      file("ds/" + std::to_string(i), bytes_.back());
    }
    file("alone", random_bytes(2 * kMega, 99));
    bytes_.push_back(random_bytes(2 * kMega, 99));
    // Never all here, so something always waits for the origin; zeros, which cost no room.
    file("ds/huge", "");
    std::filesystem::resize_file(origin("ds/huge"), kHuge);
    slow_ = std::make_unique<SlowOrigin>(origin(), temp_.path("mnt"), std::vector<std::string>{"--latency", "3"});
    node_ = std::make_unique<NodeProcesses>(temp_.path("node"), NodeProcesses::Options{temp_.path("mnt"), "", false});
    if (!node_->munge_works()) GTEST_SKIP() << "no munged";
    node_->start_holder();
    node_->start_agent();
    mount_ = attach(7, "ds");
    alone_ = attach(8, "alone");
  }
  UniqueFd attach(std::uint32_t job, const std::string& dataset) {
    const auto planned = node_->plan(job, user(kAlice), dataset, 0, false);
    EXPECT_TRUE(planned) << planned.error().message;
    auto mount = node_->attach(job, user(kAlice));
    EXPECT_TRUE(mount) << mount.error().message;
    return mount ? std::move(*mount) : UniqueFd();
  }
  void TearDown() override {
    stop_ = true;
    for (auto& thread : threads_) thread.join();
    for (const pid_t mapper : mappers_) kill(mapper, SIGKILL), waitpid(mapper, nullptr, 0);
  }

  /// The last one is a dataset of its own.
  [[nodiscard]] std::string path(std::size_t file) const {
    return file == kFiles ? "/proc/self/fd/" + std::to_string(alone_.get()) : path(std::to_string(file));
  }
  [[nodiscard]] std::string path(const std::string& name) const {
    return "/proc/self/fd/" + std::to_string(mount_.get()) + "/" + name;
  }
  /// Can a byte be read that nobody has in memory, while no agent answers?
  [[nodiscard]] bool reads_alone(const UniqueFd& fd) const {
    posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    node_->signal_agent(SIGSTOP);
    const pid_t child = fork();
    if (child == 0) {
      char byte = 0;
      _exit(pread(fd.get(), &byte, 1, 0) == 1 ? 0 : 1);
    }
    int status = -1;
    pid_t ended = 0;
    for (int i = 0; i < 200 && ended == 0; ++i) {
      ended = waitpid(child, &status, WNOHANG);
      ::poll(nullptr, 0, 1);
    }
    node_->signal_agent(SIGCONT);
    if (ended == 0) waitpid(child, &status, 0);
    return ended == child && status == 0;
  }

  // ---- what the job does --------------------------------------------------------------------------------------------

  using Random = std::mt19937;
  void complain(const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (complaints_.size() < 20) complaints_.push_back(what);
  }
  [[nodiscard]] std::vector<std::string> complaints() {
    const std::lock_guard lock(mutex_);
    return complaints_;
  }
  [[nodiscard]] bool good(int fd, std::size_t file, Random& random) const {
    std::string piece(kPiece, '\0');
    const std::size_t at = random() % (bytes_[file].size() - kPiece);
    return pread(fd, piece.data(), kPiece, off_t(at)) == ssize_t(kPiece) &&
           bytes_[file].compare(at, kPiece, piece) == 0;
  }
  void read_for_ever(unsigned seed) {
    Random random(seed);
    std::vector<std::pair<UniqueFd, std::size_t>> held(6);  // some stay open over many kills
    while (!stop_) {
      const std::size_t file = random() % bytes_.size();
      UniqueFd fd(open(path(file).c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd) {
        complain("open: " + std::string(strerror(errno)));
        continue;
      }
      if (!good(fd.get(), file, random)) complain("read: " + std::string(strerror(errno)));
      auto& [old, which] = held[random() % held.size()];
      if (old && !good(old.get(), which, random)) complain("read of a held file: " + std::string(strerror(errno)));
      if (random() % 10 == 0) {
        old = std::move(fd);
        which = file;
      }
      ++reads_;
    }
  }
  /// Reads what is not here.
  void read_the_origin(unsigned seed) {
    Random random(seed);
    const UniqueFd fd(open(path("huge").c_str(), O_RDONLY | O_CLOEXEC));
    posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM);
    while (!stop_) {
      char byte = 1;
      if (pread(fd.get(), &byte, 1, off_t(random() % kHuge)) != 1 || byte != 0) complain("read of a huge file");
    }
  }
  /// In a process of its own: an error is a SIGBUS, its end.
  [[nodiscard]] pid_t start_mapper(unsigned seed) const {
    const pid_t mapper = fork();
    if (mapper != 0) return mapper;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Random random(seed);
    for (;;) {
      const std::size_t file = random() % bytes_.size(), size = bytes_[file].size();
      const UniqueFd fd(open(path(file).c_str(), O_RDONLY | O_CLOEXEC));
      void* at = fd ? mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0) : MAP_FAILED;
      if (at == MAP_FAILED) _exit(2);
      for (int i = 0; i < 50; ++i) {
        const std::size_t offset = random() % size;
        if (static_cast<const char*>(at)[offset] != bytes_[file][offset]) _exit(3);
      }
      munmap(at, size);
    }
  }
  void start_readers(unsigned seed) {
    for (unsigned i = 0; i < 2; ++i) mappers_.push_back(start_mapper(seed + 100 + i));
    for (unsigned i = 0; i < 5; ++i) threads_.emplace_back([this, i, seed] { read_for_ever(seed + i); });
    for (unsigned i = 0; i < 2; ++i) threads_.emplace_back([this, i, seed] { read_the_origin(seed + 50 + i); });
  }

  std::unique_ptr<SlowOrigin> slow_;
  std::unique_ptr<NodeProcesses> node_;
  UniqueFd mount_, alone_;
  std::vector<std::string> bytes_;
  std::atomic<bool> stop_{false};
  std::atomic<unsigned> reads_{0};
  std::mutex mutex_;  ///< guards complaints_
  std::vector<std::string> complaints_;
  std::vector<std::thread> threads_;
  std::vector<pid_t> mappers_;
};

TEST_F(TakeoverPassthrough, KilledAgainAndAgainNoReadNoticesAndWhatTheKernelReadsGoesOnMeanwhile) {
  const unsigned seed = from_environment("ATLAS_SEED", std::random_device{}());
  const unsigned kills = from_environment("ATLAS_KILLS", 40);
  std::printf("seed %u\n", seed);
  std::fflush(stdout);
  Random random(seed);
  const UniqueFd early(open(path(std::size_t{0}).c_str(), O_RDONLY | O_CLOEXEC));  // before it is all here
  std::string all(2 * kMega, '\0');
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    const UniqueFd fd(open(path(i).c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(pread(fd.get(), all.data(), all.size(), 0), ssize_t(bytes_[i].size()));
  }
  // What the disk has taken is read by the kernel itself from the next open on.
  UniqueFd late, alone;
  for (auto& [fd, file] : {std::pair<UniqueFd&, std::size_t>{late, 0}, {alone, kFiles}})
    ASSERT_TRUE(test::eventually([&, &held = fd, which = file] {
      held.reset();
      held = UniqueFd(open(path(which).c_str(), O_RDONLY | O_CLOEXEC));
      return reads_alone(held);
    })) << node_->log("agent");
  const std::size_t size = bytes_[0].size();
  const auto* map = static_cast<const char*>(mmap(nullptr, size, PROT_READ, MAP_SHARED, late.get(), 0));
  ASSERT_NE(map, MAP_FAILED);
  const WaitingRequests waiting(mount_.get());
  unsigned unanswered = 0, done = 0;
  start_readers(seed);  // the other files change over while agents die
  while (done < kills) {
    const auto next = unsigned(reads_ + random() % 200);
    ASSERT_TRUE(test::eventually([&] { return reads_ >= next && waiting.count() != 0; }))
        << "after " << done << " kills; " << testing::PrintToString(complaints()) << node_->log("agent");
    ASSERT_TRUE(WIFSIGNALED(node_->end_agent(SIGKILL)));
    const unsigned left = waiting.count();
    unanswered += left;
    done += left != 0 ? 1 : 0;
    ASSERT_TRUE(good(late.get(), 0, random)) << "while no agent runs";
    ASSERT_TRUE(!alone || good(alone.get(), kFiles, random)) << "while no agent runs";
    if (done > kills / 2) alone.reset();  // it changes over as readers come and go
    const std::size_t at = random() % size;
    ASSERT_EQ(map[at], bytes_[0][at]) << "while no agent runs";
    node_->start_agent();
    const UniqueFd again(open(path(std::size_t{0}).c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(again) << strerror(errno) << ": the file is open by the kernel, with an id of an earlier agent";
    ASSERT_TRUE(good(again.get(), 0, random));
    ASSERT_TRUE(good(early.get(), 0, random));
    ASSERT_THAT(complaints(), IsEmpty()) << "after " << done << " kills\n" << node_->log("agent");
  }
  EXPECT_TRUE(test::eventually([&] {
    return reads_alone(UniqueFd(open(path(std::size_t{0}).c_str(), O_RDONLY | O_CLOEXEC)));
  })) << "a later agent hands out what an earlier one had";
  stop_ = true;
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  for (const pid_t mapper : mappers_) {
    int status = 0;
    kill(mapper, SIGTERM);
    waitpid(mapper, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)
        << "a process that maps files ended with " << status;
  }
  mappers_.clear();
  EXPECT_THAT(complaints(), IsEmpty());
  std::printf("%u kills, %u requests unanswered; %u opens and reads compared\n", done, unanswered, reads_.load());
  for (const std::uint32_t job : {7U, 8U}) {
    const auto released = node_->release(job);
    EXPECT_TRUE(released) << released.error().message;
  }
  EXPECT_TRUE(good(late.get(), 0, random)) << "open files outlive the view, as under any mount that is detached";
  EXPECT_TRUE(test::eventually([&] { return node_->kept().empty(); })) << testing::PrintToString(node_->kept());
}

}  // namespace
}  // namespace atlas::agent
