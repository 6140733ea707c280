// Random reads through views against what the origin had when each view was opened, while files change there, blocks
// rot on the disk, replicas are evicted, the cache is full and the agent restarts. A read gives the right bytes; an
// error is right only for a file that has changed since. ATLAS_MODEL_STEPS and ATLAS_MODEL_SEED set length and seed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <shared_mutex>
#include <thread>

#include "cache-agent/store/replica_state.h"
#include "tests/support/node_parts.h"
#include "tests/support/origin_tree.h"
#include "tests/support/view_job.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

constexpr unsigned kReaders = 4;
constexpr std::size_t kFiles = 40, kViews = 3;
constexpr std::size_t kMega = 1 << 20, kAligned = 4096;

std::uint64_t from_environment(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

/// A job, and the version that each file had when its view was opened.
struct ModelView {
  ViewJobs::Job job;
  std::array<std::uint32_t, kFiles> versions{};
};

class ViewModel : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts file systems and reads as other users";
    seed_ = from_environment("ATLAS_MODEL_SEED", std::random_device()());
    random_.seed(seed_);
    std::filesystem::create_directory(origin());
    directory("ds", kAlice, 0755);
  }
  void TearDown() override {
    for (std::size_t i = 0; i < kViews; ++i) close_view(i);
  }
  /// Small ones, some of a few blocks, an empty one; none a multiple of the block but one.
  void files_of_all_sizes() {
    for (std::size_t i = 0; i < kFiles; ++i) {
      sizes_[i] = i == 0 ? 0 : i == 1 ? 2 * kMega : i % 8 == 0 ? below(5 * kMega) : below(200'000);
      put(i);
    }
  }
  /// Mostly a megabyte and more: the kernel reads what is all here by itself.
  void large_files() {
    tier_ = 110 * kMega;
    for (std::size_t i = 0; i < kFiles; ++i) {
      sizes_[i] = i == 0 ? 0 : i == 1 ? 2 * kMega : i % 8 == 0 ? below(200'000) : kMega + below(kMega);
      put(i);
    }
  }
  void run(std::uint64_t steps);

  std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : random_() % limit; }
  static std::string name(std::size_t file) { return "f" + std::to_string(file); }
  /// What a version of a file holds at a place: cheap to tell for any range, different for every version.
  static char byte_at(std::size_t file, std::uint32_t version, std::uint64_t at) {
    std::uint64_t x = (at >> 3) * 0x9E3779B97F4A7C15ULL ^ (std::uint64_t{version} << 32 | file) * 0xBF58476D1CE4E5B9ULL;
    x ^= x >> 29;
    return static_cast<char>(x >> ((at & 7) * 8));
  }
  void put(std::size_t file) {
    std::string data(sizes_[file], '\0');
    for (std::size_t at = 0; at < data.size(); ++at) data[at] = byte_at(file, versions_[file], at);
    this->file("ds/" + name(file), data);
  }

  void open_node() {
    NodeParts::Options o;
    o.origin = temp_.path("origin");
    o.tiers = {{"nvme", temp_.path("tier"), Bytes{tier_}}};  // less than two generations
    o.boot = "boot-" + std::to_string(++boots_);
    o.revalidate = 0ms;
    node_ = std::make_unique<NodeParts>(o);
  }
  void open_view(std::size_t slot) {
    auto& view = views_[slot];
    close_view(slot);
    const auto replica = jobs_.open(*node_);
    if (!replica && replica.error().code == Code::resource_exhausted) return;  // the job would read the origin
    ASSERT_TRUE(replica) << replica.error().message;
    const auto versions = versions_now();
    auto job = jobs_.show(*node_, *replica, 30s, static_cast<std::uint32_t>(slot + 1));
    ASSERT_TRUE(job.mount);
    view = std::make_unique<ModelView>(ModelView{std::move(job), versions});
  }
  void close_view(std::size_t slot) {
    if (views_[slot]) passed_ += views_[slot]->job.view->counters().passed;
    views_[slot].reset();
  }
  std::array<std::uint32_t, kFiles> versions_now() const {
    std::array<std::uint32_t, kFiles> out{};
    for (std::size_t i = 0; i < kFiles; ++i) out[i] = versions_[i];
    return out;
  }

  // ---- what readers do; the lock is held shared ---------------------------------------------------------------------

  void read_once(std::mt19937_64& random) {
    const auto& view = views_[random() % kViews];
    if (!view) return;
    const std::size_t file = random() % kFiles;
    const std::uint32_t version = view->versions[file];
    const std::uint64_t size = sizes_[file];
    // Every second read passes by the kernel's page cache, and so reaches the agent (or the disk).
    const bool direct = random() % 2 == 0;
    const UniqueFd fd(
        openat(view->job.mount.get(), name(file).c_str(), O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0)));
    if (!fd) {  // its ACL is not here
      ++errors_;
      if (version == versions_[file])
        report(file, "open: " + std::string(strerror(errno)) + " although it is as it was");
      return;
    }
    std::uint64_t offset = size == 0 ? 0 : random() % size;
    std::size_t length = 1 + random() % (64 * 1024);
    if (direct) {  // as disks want it
      offset &= ~(kAligned - 1);
      length = (length + kAligned - 1) & ~(kAligned - 1);
    }
    std::vector<char> room(length + kAligned);
    void* at = room.data();
    std::size_t space = room.size();
    auto* const data = static_cast<char*>(std::align(kAligned, length, at, space));
    const ssize_t got = pread(fd.get(), data, length, static_cast<off_t>(offset));
    // What was read of a piece before the error came is given, as by any file system.
    if (got != static_cast<ssize_t>(std::min<std::uint64_t>(length, size - offset))) {
      ++errors_;
      if (version == versions_[file])
        report(file, (got < 0 ? std::string(strerror(errno)) : "only " + std::to_string(got) + " bytes") +
                         " although it is as it was");
    }
    if (got < 0) return;
    for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i)
      if (data[i] != byte_at(file, version, offset + i))
        return report(file, "wrong byte at " + std::to_string(offset + i) + " of version " + std::to_string(version));
  }
  void report(std::size_t file, const std::string& what) {
    const std::lock_guard lock(found_mutex_);
    if (found_.size() < 10) found_.push_back(name(file) + ": " + what);
    wrong_ = true;
  }

  // ---- what happens meanwhile ---------------------------------------------------------------------------------------

  /// Readers go on while a file changes.
  void change_a_file() {
    const std::size_t file = below(kFiles);
    ++versions_[file];  // first: a read that finds it changed is right from now on
    if (below(2) == 0) std::filesystem::remove(origin("ds/" + name(file)));  // another inode, else the same one
    put(file);
    ++changes_;
  }
  /// A block rots and is found by the scrubber before anybody reads it: under a lock, for nobody compares at reading.
  void rot_a_block() {
    const auto& view = views_[below(kViews)];
    if (!view) return;
    const std::size_t file = below(kFiles);
    const std::string path = view->job.replica->internals().path + "/tree/" + name(file);
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd || sizes_[file] == 0) return;
    const auto at = static_cast<off_t>(below(sizes_[file]));
    char byte = 0;
    if (pread(fd.get(), &byte, 1, at) != 1) return;
    byte = static_cast<char>(byte ^ 0x10);
    ASSERT_EQ(pwrite(fd.get(), &byte, 1, at), 1);
    std::set<std::string> looked_at;  // equal files are one inode in several generations
    for (const auto& each : views_) {
      if (!each || !looked_at.insert(each->job.replica->generation().bytes()).second) continue;
      const auto verified = node_->store->verify(each->job.replica);
      ASSERT_TRUE(verified) << verified.error().message;
      rotten_ += verified->bad;
    }
  }
  void reopen_a_view() { open_view(below(kViews)); }
  void evict() { static_cast<void>(node_->store->evict({"o", "ds"}, std::nullopt)); }
  void restart() {
    for (std::size_t i = 0; i < kViews; ++i) close_view(i);
    node_.reset();
    open_node();
    for (std::size_t i = 0; i < kViews; ++i) open_view(i);
    ++restarts_;
  }
  void something_happens() {
    const auto what = below(100);
    if (what < 45) return change_a_file();
    if (what < 55) return node_->store->flush_what_is_read();
    wanted_ = true;  // readers let go of a shared lock one by one, so that there is never a moment without any
    const std::unique_lock lock(quiet_);
    wanted_ = false;
    if (what < 75) return rot_a_block();
    if (what < 92) return reopen_a_view();
    if (what < 98) return evict();
    restart();
  }

  std::uint64_t seed_ = 0;
  std::mt19937_64 random_;
  std::array<std::size_t, kFiles> sizes_{};
  std::array<std::atomic<std::uint32_t>, kFiles> versions_{};  ///< of the origin
  ViewJobs jobs_{kAlice};
  std::unique_ptr<NodeParts> node_;
  std::array<std::unique_ptr<ModelView>, kViews> views_;
  std::shared_mutex quiet_;  ///< held shared while a reader reads; guards node_ and views_
  std::atomic<std::uint64_t> steps_{0}, errors_{0};
  std::atomic<bool> wrong_{false}, wanted_{false};
  std::mutex found_mutex_;  ///< guards found_
  std::vector<std::string> found_;
  std::uint64_t tier_ = 24 * kMega;
  std::uint64_t changes_ = 0, rotten_ = 0, restarts_ = 0, passed_ = 0;
  unsigned boots_ = 0;
};

void ViewModel::run(std::uint64_t steps) {
  const std::uint64_t most = from_environment("ATLAS_MODEL_STEPS", steps);
  std::printf("seed %llu, %llu steps\n", static_cast<unsigned long long>(seed_), static_cast<unsigned long long>(most));
  open_node();
  for (std::size_t i = 0; i < kViews; ++i) open_view(i);
  ASSERT_FALSE(HasFatalFailure());
  std::vector<std::jthread> readers;
  for (unsigned i = 0; i < kReaders; ++i)
    readers.emplace_back([this, most, seed = random_()] {
      std::mt19937_64 random(seed);
      while (steps_++ < most && !wrong_) {
        while (wanted_) std::this_thread::yield();
        const std::shared_lock lock(quiet_);
        read_once(random);
      }
    });
  std::uint64_t next = 0;
  while (steps_ < most && !wrong_ && !HasFatalFailure()) {
    if (steps_ < next) {
      std::this_thread::yield();
      continue;
    }
    next = steps_ + below(200);
    something_happens();
  }
  wrong_ = wrong_ || HasFatalFailure();
  readers.clear();
  for (const auto& what : found_) ADD_FAILURE() << what << " (ATLAS_MODEL_SEED=" << seed_ << ")";
  if (wrong_)
    for (const auto& line : jobs_.warned()) std::printf("agent: %s\n", line.c_str());
  std::printf("%llu changes, %llu errors for changed files, %llu rotten blocks found, %llu restarts\n",
              static_cast<unsigned long long>(changes_), static_cast<unsigned long long>(errors_.load()),
              static_cast<unsigned long long>(rotten_), static_cast<unsigned long long>(restarts_));
  if (most >= steps) {  // a model in which nothing happens proves nothing
    EXPECT_GT(errors_, 0U);
    EXPECT_GT(rotten_, 0U);
    EXPECT_GT(restarts_, 0U);
  }
}

TEST_F(ViewModel, EveryReadGivesWhatTheViewBeganWithOrAnErrorForWhatHasChanged) {
  files_of_all_sizes();
  jobs_.passthrough = false;
  run(100'000);
}

TEST_F(ViewModel, AlsoWhereTheKernelReadsWhatIsAllHereByItself) {
  if (const auto why = view::why_no_passthrough(); !why.empty()) GTEST_SKIP() << "no passthrough: " << why;
  large_files();
  run(30'000);
  for (std::size_t i = 0; i < kViews; ++i) close_view(i);
  std::printf("%llu opens of files that the kernel reads by itself\n", static_cast<unsigned long long>(passed_));
  EXPECT_GT(passed_, 0U);
}

}  // namespace
}  // namespace atlas::agent
