// The agent is killed while jobs read through it: another goes on, and no read notices. Run as root, skipped (and said
// so) otherwise. ATLAS_KILLS=N kills that often, ATLAS_SEED=N repeats a run.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <future>
#include <random>
#include <set>
#include <thread>

#include "tests/support/eventually.h"
#include "tests/support/node_processes.h"
#include "tests/support/origin_tree.h"
#include "tests/support/slow_origin_process.h"

namespace atlas::agent {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using namespace std::chrono_literals;

constexpr std::uint64_t kMega = 1 << 20;
constexpr std::size_t kSmall = 60'000, kBig = 12 * kMega + 777;
constexpr unsigned kDirectories = 12, kFiles = 10;

unsigned from_environment(const char* name, unsigned otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

std::string below(const UniqueFd& mount, const std::string& name) {
  return "/proc/self/fd/" + std::to_string(mount.get()) + "/" + name;
}

class Takeover : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts file systems and reads as other users";
    std::filesystem::create_directory(origin());
    std::filesystem::create_directory(temp_.path("mnt"));
    std::filesystem::create_directory(temp_.path("node"));
    directory("ds", kAlice, 0755);
  }
  void small_files() {
    for (unsigned d = 0; d < kDirectories; ++d) {
      directory("ds/d" + std::to_string(d), kAlice, 0755);
      for (unsigned f = 0; f < kFiles; ++f) file(small(d, f), random_bytes(kSmall, d * 100 + f));
    }
  }
  static std::string small(unsigned d, unsigned f) { return "ds/d" + std::to_string(d) + "/f" + std::to_string(f); }
  void start(const std::vector<std::string>& slow_options, const std::string& agent_extra = "", bool slots = false) {
    slow_ = std::make_unique<SlowOrigin>(origin(), temp_.path("mnt"), slow_options);
    node_ = std::make_unique<NodeProcesses>(temp_.path("node"),
                                            NodeProcesses::Options{temp_.path("mnt"), agent_extra, slots});
    if (!node_->munge_works()) GTEST_SKIP() << "no munged";
    node_->start_holder();
    node_->start_agent();
  }
  UniqueFd attach(std::uint32_t job, std::uint64_t limit = 0, bool read_write = false) {
    const auto planned = node_->plan(job, user(kAlice), "ds", limit, read_write);
    EXPECT_TRUE(planned) << planned.error().message;
    auto mount = node_->attach(job, user(kAlice));
    EXPECT_TRUE(mount) << mount.error().message << "\n" << node_->log("agent");
    return mount ? std::move(*mount) : UniqueFd();
  }
  void kill_again_and_again(unsigned kills, bool slots);

  std::unique_ptr<SlowOrigin> slow_;
  std::unique_ptr<NodeProcesses> node_;
};

/// What a job does: several threads that read for ever and compare each byte.
class Readers {
 public:
  Readers(NodeProcesses& node, const UniqueFd& mount, unsigned seed) : node_(node), mount_(mount), seed_(seed) {
    // In processes of their own: while a page of a map is on its way nobody in the same process can fork.
    for (unsigned i = 0; i < 2; ++i) mappers_.push_back(start_mapper(seed_ + 100 + i));
    for (unsigned i = 0; i < 5; ++i) add([this](auto& random) { open_and_read(random); });
    for (unsigned i = 0; i < 3; ++i) {
      auto held = std::make_shared<UniqueFd>(open(below(mount_, "big").c_str(), O_RDONLY | O_CLOEXEC));
      posix_fadvise(held->get(), 0, 0, POSIX_FADV_RANDOM);
      add([this, held](auto& random) { read_held(*held, random); });
    }
    for (unsigned i = 0; i < 2; ++i) add([this](auto& random) { walk(random); });
  }
  ~Readers() { stop(); }
  void stop() {
    stop_ = true;
    for (auto& thread : threads_) thread.join();
    threads_.clear();
    for (const pid_t mapper : mappers_) {
      int status = 0;
      kill(mapper, SIGTERM);
      waitpid(mapper, &status, 0);
      if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGTERM)
        complain("a process that maps a file ended with status " + std::to_string(status));
    }
    mappers_.clear();
  }
  [[nodiscard]] unsigned reads() const { return reads_; }
  [[nodiscard]] unsigned walks() const { return walks_; }
  [[nodiscard]] std::vector<std::string> complaints() {
    const std::lock_guard lock(mutex_);
    return complaints_;
  }

 private:
  using Random = std::mt19937;
  void add(std::function<void(Random&)> what) {
    threads_.emplace_back([this, what = std::move(what), seed = seed_ + unsigned(threads_.size())] {
      Random random(seed);
      while (!stop_) what(random);
    });
  }
  void complain(const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (complaints_.size() < 20) complaints_.push_back(what);
  }
  void open_and_read(Random& random) {
    const auto d = unsigned(random() % kDirectories), f = unsigned(random() % kFiles);
    const std::string name = "d" + std::to_string(d) + "/f" + std::to_string(f);
    const UniqueFd fd(open(below(mount_, name).c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return complain("open " + name + ": " + strerror(errno));
    std::string got(kSmall + 1, '\0');
    const ssize_t size = pread(fd.get(), got.data(), got.size(), 0);
    if (size < 0) return complain("read " + name + ": " + strerror(errno));
    got.resize(static_cast<std::size_t>(size));
    if (got != random_bytes(kSmall, d * 100 + f)) complain(name + ": wrong bytes");
    posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);  // the next one asks the agent again
    ++reads_;
  }
  void read_held(const UniqueFd& held, Random& random) {
    const std::size_t offset = random() % kBig, want = std::min<std::size_t>(kBig - offset, 1 + random() % 300'000);
    std::string got(want, '\0');
    const ssize_t size = pread(held.get(), got.data(), want, static_cast<off_t>(offset));
    if (size < 0) return complain(std::string("read of a held file: ") + strerror(errno));
    if (size != static_cast<ssize_t>(want)) return complain("read of a held file: short");
    if (big_.compare(offset, want, got) != 0) complain("held file: wrong bytes at " + std::to_string(offset));
    posix_fadvise(held.get(), 0, 0, POSIX_FADV_DONTNEED);
    ++reads_;
  }
  /// Until it is told to end: an error is a SIGBUS, its end.
  [[nodiscard]] pid_t start_mapper(unsigned seed) const {
    const pid_t mapper = fork();
    if (mapper != 0) return mapper;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Random random(seed);
    for (;;) {
      const UniqueFd fd(open(below(mount_, "big").c_str(), O_RDONLY | O_CLOEXEC));
      void* at = fd ? mmap(nullptr, kBig, PROT_READ, MAP_SHARED, fd.get(), 0) : MAP_FAILED;
      if (at == MAP_FAILED) _exit(2);
      madvise(at, kBig, MADV_RANDOM);
      for (int i = 0; i < 5; ++i) {
        const std::size_t offset = random() % kBig;
        if (static_cast<const char*>(at)[offset] != big_[offset]) _exit(3);
      }
      munmap(at, kBig);
      posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    }
  }
  /// Names and attributes stay in the kernel's caches for ever: so on a mount of its own, as a later task's.
  void walk(Random& /*random*/) {
    const auto mount = node_.attach(7, user(kAlice));
    if (!mount) return void(::poll(nullptr, 0, 5));  // no agent right now: a task would read the origin
    std::set<std::string> names;
    std::error_code error;
    for (std::filesystem::recursive_directory_iterator it(below(*mount, ""), error), end; it != end;
         it.increment(error)) {
      if (error) break;
      const auto size = it->is_regular_file(error) ? it->file_size(error) : 0;
      if (error) break;
      names.insert(it->path().filename().string() + " " + std::to_string(size) + " " +
                   it->path().parent_path().filename().string());
    }
    if (error) return complain("walk: " + error.message());
    if (names.size() != kDirectories * (kFiles + 1) + 1) complain("walk: " + std::to_string(names.size()) + " names");
    ++walks_;
  }

  NodeProcesses& node_;
  const UniqueFd& mount_;
  const unsigned seed_;
  const std::string big_ = random_bytes(kBig, 4711);
  std::atomic<bool> stop_{false};
  std::atomic<unsigned> reads_{0}, walks_{0};
  std::mutex mutex_;  ///< guards complaints_
  std::vector<std::string> complaints_;
  std::vector<std::thread> threads_;
  std::vector<pid_t> mappers_;
};

void Takeover::kill_again_and_again(unsigned kills, bool slots) {
  const unsigned seed = from_environment("ATLAS_SEED", std::random_device{}());
  std::printf("seed %u\n", seed);
  std::fflush(stdout);
  std::mt19937 random(seed);
  small_files();
  file("ds/big", random_bytes(kBig, 4711));
  start({"--latency", "3"}, "passthrough = false", slots);  // see takeover_passthrough_test.cc
  if (IsSkipped()) return;
  // A cache of a part of the data: the rest is asked of the origin each time, so something always waits.
  const UniqueFd mount = attach(7, 8 * kMega);
  ASSERT_TRUE(mount);
  const WaitingRequests waiting(mount.get());
  const UniqueFd probe(open(below(mount, "d0/f0").c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<double> pauses;
  unsigned unanswered = 0, done = 0;
  {
    Readers readers(*node_, mount, seed);
    while (done < kills) {
      const auto next = unsigned(readers.reads() + random() % 60);
      ASSERT_TRUE(test::eventually([&] { return readers.reads() >= next && waiting.count() != 0; }))
          << "after " << done << " kills; " << testing::PrintToString(readers.complaints()) << node_->log("agent")
          << node_->log("holder");
      ASSERT_TRUE(WIFSIGNALED(node_->end_agent(SIGKILL)));
      const unsigned left = waiting.count();
      // A read that begins now ends when the next agent answers it.
      auto pause = std::async(std::launch::async, [&probe, killed = std::chrono::steady_clock::now()] {
        char byte = 0;
        posix_fadvise(probe.get(), 0, 0, POSIX_FADV_DONTNEED);
        const bool ok = pread(probe.get(), &byte, 1, 0) == 1;
        return ok ? std::chrono::duration<double>(std::chrono::steady_clock::now() - killed).count() : -1;
      });
      unanswered += left;
      done += left != 0 ? 1 : 0;  // of the others nobody may have noticed
      node_->start_agent();
      pauses.push_back(pause.get());
      ASSERT_GE(pauses.back(), 0) << "a read failed after " << done << " kills\n" << node_->log("holder");
      ASSERT_THAT(readers.complaints(), IsEmpty()) << "after " << done << " kills\n" << node_->log("agent");
    }
    const unsigned before = readers.walks();
    EXPECT_TRUE(test::eventually([&] { return readers.walks() >= before + 2; }));
    readers.stop();
    EXPECT_THAT(readers.complaints(), IsEmpty());
    std::printf("%u kills, %u requests unanswered; %u reads and %u walks compared\n", done, unanswered, readers.reads(),
                readers.walks());
  }
  std::sort(pauses.begin(), pauses.end());
  std::printf("pause of the readers, start of the new agent included: median %.3f s, worst %.3f s\n",
              pauses[pauses.size() / 2], pauses.back());
  const auto released = node_->release(7);
  EXPECT_TRUE(released) << released.error().message;
  EXPECT_EQ(open(below(mount, "big").c_str(), O_RDONLY), -1);
  EXPECT_TRUE(test::eventually([&] { return node_->kept().empty(); })) << testing::PrintToString(node_->kept());
}

TEST_F(Takeover, KilledAgainAndAgainNoReadNotices) {
  kill_again_and_again(from_environment("ATLAS_KILLS", 60), false);
}

TEST_F(Takeover, TheSameOnAKernelThatRepeatsNoRequests) {
  kill_again_and_again(from_environment("ATLAS_KILLS", 40), true);
}

/// A child that reads the file once, from the agent, and ends with what came of it.
pid_t child_reads(const std::string& path) {
  const pid_t child = fork();
  if (child != 0) return child;
  const int fd = open(path.c_str(), O_RDONLY);
  char byte = 0;
  _exit(fd >= 0 && pread(fd, &byte, 1, 0) == 1 ? 0 : errno);
}

bool ends(pid_t child, int& status) {
  return test::eventually([&] { return waitpid(child, &status, WNOHANG) == child; });
}

constexpr const char* kShort = "takeover_deadline = \"2s\"";

TEST_F(Takeover, AnAgentThatIsStoppedFailsReadsByTheDeadlineAndTheirProcessesEnd) {
  file("ds/f", random_bytes(kSmall, 1));
  start({}, kShort);
  if (IsSkipped()) return;
  const UniqueFd mount = attach(7);
  ASSERT_TRUE(mount);
  node_->signal_agent(SIGSTOP);
  const pid_t child = child_reads(below(mount, "f"));
  int status = 0;
  ASSERT_TRUE(ends(child, status)) << "it hangs:\n" << node_->log("holder");
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_NE(WEXITSTATUS(status), 0);
  EXPECT_THAT(node_->log("holder"), HasSubstr("(job 7, o:ds): aborted"));
  EXPECT_TRUE(test::eventually([&] { return node_->kept().empty(); }));
  node_->signal_agent(SIGCONT);
  EXPECT_TRUE(attach(8)) << "it serves new jobs";
}

TEST_F(Takeover, AnAgentThatWasStoppedForAMomentGoesOn) {
  file("ds/f", random_bytes(kSmall, 1));
  start({});
  if (IsSkipped()) return;
  const UniqueFd mount = attach(7);
  ASSERT_TRUE(mount);
  node_->signal_agent(SIGSTOP);
  const pid_t child = child_reads(below(mount, "f"));
  const WaitingRequests waiting(mount.get());
  ASSERT_TRUE(test::eventually([&] { return waiting.count() != 0; }));
  node_->signal_agent(SIGCONT);
  int status = -1;
  ASSERT_TRUE(ends(child, status));
  EXPECT_EQ(status, 0);
}

TEST_F(Takeover, NoAgentForLongIsAnErrorNotAProcessThatCannotBeKilled) {
  file("ds/f", random_bytes(kSmall, 1));
  start({}, kShort);
  if (IsSkipped()) return;
  const UniqueFd mount = attach(7);
  ASSERT_TRUE(mount);
  slow_->tell({"hang", "--path", "*ds/f", "read"});
  const pid_t child = child_reads(below(mount, "f"));
  const WaitingRequests waiting(mount.get());
  ASSERT_TRUE(test::eventually([&] { return waiting.count() != 0; }));
  slow_->tell({"resume"});
  node_->end_agent(SIGKILL);
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_TRUE(ends(child, status)) << node_->log("holder");
  node_->start_agent();
  const auto released = node_->release(7);
  EXPECT_TRUE(released) << released.error().message;
  EXPECT_THAT(node_->kept(), IsEmpty());
}

TEST_F(Takeover, AKilledAgentThatAHungOriginKeepsFromDyingFailsReadsByTheDeadline) {
  file("ds/f", random_bytes(kSmall, 1));
  start({}, kShort);
  if (IsSkipped()) return;
  const UniqueFd mount = attach(7);
  ASSERT_TRUE(mount);
  slow_->tell({"hang", "--path", "*ds/f", "open", "read"});
  const pid_t child = child_reads(below(mount, "f"));
  ASSERT_TRUE(test::eventually([&] { return slow_->hanging() != 0; }));
  node_->signal_agent(SIGKILL);
  int status = 0;
  EXPECT_TRUE(ends(child, status)) << node_->log("holder");
  EXPECT_EQ(waitpid(node_->agent(), nullptr, WNOHANG), 0) << "it died: this test proves nothing";
  slow_->tell({"resume"});
  node_->end_agent(SIGKILL);
  node_->start_agent();
  EXPECT_TRUE(attach(8)) << "it serves new jobs";
}

TEST_F(Takeover, AnAgentThatEndsInOrderLeavesItsViewsToTheNext) {
  const std::string bytes = random_bytes(kSmall, 1);
  file("ds/f", bytes);
  file("ds/g", bytes);
  start({});
  if (IsSkipped()) return;
  const UniqueFd mount = attach(7);
  ASSERT_TRUE(mount);
  slow_->tell({"hang", "--path", "*ds/f", "read"});
  const pid_t child = child_reads(below(mount, "f"));
  const WaitingRequests waiting(mount.get());
  ASSERT_TRUE(test::eventually([&] { return waiting.count() != 0; }));
  node_->signal_agent(SIGTERM);
  slow_->tell({"resume"});
  const int ended = node_->end_agent(SIGTERM);
  EXPECT_TRUE(WIFEXITED(ended));
  EXPECT_THAT(node_->kept(), SizeIs(1));
  node_->start_agent();
  int status = -1;
  ASSERT_TRUE(ends(child, status));
  EXPECT_EQ(status, 0) << strerror(WEXITSTATUS(status));
  const pid_t second = child_reads(below(mount, "g"));
  ASSERT_TRUE(ends(second, status));
  EXPECT_EQ(status, 0);
}

TEST_F(Takeover, WithoutAHolderReadersGetErrorsAndWithANewOneTheyAreSafeAgain) {
  file("ds/f", random_bytes(kSmall, 1));
  file("ds/g", random_bytes(kSmall, 1));
  start({});
  if (IsSkipped()) return;
  const UniqueFd mount = attach(7);
  ASSERT_TRUE(mount);
  node_->end_holder(SIGKILL);
  int status = -1;
  ASSERT_TRUE(ends(child_reads(below(mount, "f")), status));
  EXPECT_EQ(status, 0) << "the agent serves on";
  EXPECT_TRUE(test::eventually([&] { return node_->log("agent").find("no view holder") != std::string::npos; }));
  node_->start_holder();
  EXPECT_TRUE(test::eventually([&] { return node_->kept().size() == 1; })) << "the agent has told the new one";
  node_->end_agent(SIGKILL);
  node_->start_agent();
  ASSERT_TRUE(ends(child_reads(below(mount, "g")), status));
  EXPECT_EQ(status, 0);

  node_->end_holder(SIGKILL);
  node_->end_agent(SIGKILL);
  ASSERT_TRUE(ends(child_reads(below(mount, "g")), status));
  EXPECT_TRUE(WIFEXITED(status));
}

/// It cannot be gone on with, so it ends: by the next agent, or by the holder when none comes. What was answered is at
/// the origin.
TEST_F(Takeover, WhatAJobWritesToEndsWithItsAgentAndLosesNothing) {
  file("ds/log", "");
  start({}, kShort);
  if (IsSkipped()) return;
  auto* answered = static_cast<std::atomic<std::uint64_t>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(answered, MAP_FAILED);
  for (const bool another_comes : {true, false}) {
    *answered = 0;
    const UniqueFd mount = attach(another_comes ? 7 : 8, 0, true);
    ASSERT_TRUE(mount);
    const std::string path = below(mount, "log");
    const pid_t child = fork();
    if (child == 0) {
      const int fd = open(path.c_str(), O_WRONLY | O_TRUNC);
      for (std::uint64_t n = 0; fd >= 0 && n < 1'000'000; ++n) {
        if (pwrite(fd, &n, sizeof n, static_cast<off_t>(n * sizeof n)) != sizeof n) break;
        *answered = n + 1;
      }
      _exit(errno);
    }
    ASSERT_TRUE(test::eventually([&] { return *answered > 50; }));
    node_->end_agent(SIGKILL);
    if (another_comes) node_->start_agent();
    int status = 0;
    ASSERT_TRUE(ends(child, status)) << "it hangs:\n" << node_->log("holder");
    EXPECT_THAT(WEXITSTATUS(status), testing::AnyOf(ENOTCONN, ECONNABORTED, EIO)) << strerror(WEXITSTATUS(status));
    const UniqueFd log(open(origin("ds/log").c_str(), O_RDONLY | O_CLOEXEC));
    for (std::uint64_t n = 0, seen = 0; n < *answered; ++n) {
      ASSERT_EQ(pread(log.get(), &seen, sizeof seen, static_cast<off_t>(n * sizeof n)), ssize_t(sizeof seen));
      ASSERT_EQ(seen, n);
    }
    EXPECT_TRUE(test::eventually([&] { return node_->kept().empty(); }));
  }
  munmap(answered, 4096);
}

TEST_F(Takeover, TheViewOfAJobThatEndedIsGoneFromTheHolder) {
  file("ds/f", random_bytes(kSmall, 1));
  start({});
  if (IsSkipped()) return;
  UniqueFd mount = attach(7);
  const UniqueFd other = attach(8);
  ASSERT_TRUE(mount && other);
  EXPECT_THAT(node_->kept(), SizeIs(2));
  mount.reset();  // its last mount is gone
  EXPECT_TRUE(test::eventually([&] { return node_->kept().size() == 1; }));
  EXPECT_TRUE(node_->release(8));
  EXPECT_THAT(node_->kept(), IsEmpty());
}

}  // namespace
}  // namespace atlas::agent
