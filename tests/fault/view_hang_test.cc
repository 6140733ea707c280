// An origin that does not answer, as Lustre does when a server is gone: callers cannot even be killed. Submit and
// attach pass it over in bounded time. Needs root and FUSE.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <thread>

#include "common/child.h"
#include "spank-plugin/submission.h"
#include "tests/component/view_sandbox.h"
#include "tests/support/eventually.h"

namespace atlas::testing {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

pid_t spawn(std::vector<std::string> argv) {
  std::vector<char*> raw;
  for (auto& word : argv) raw.push_back(word.data());
  raw.push_back(nullptr);
  pid_t pid = -1;
  return ::posix_spawn(&pid, raw[0], nullptr, nullptr, raw.data(), environ) == 0 ? pid : -1;
}

class HungOrigin : public ::testing::Test {
 protected:
  HungOrigin() {
    server_ = spawn({ATLAS_SLOW_ORIGIN, "serve", box.origin(), box.origin(), "--socket", control(), "--cache", "0"});
    const auto mounted = [&] { return !mounts_below(box.root()).empty() && std::filesystem::exists(control()); };
    if (!test::eventually(mounted)) throw std::runtime_error("the slow origin does not serve");
  }
  ~HungOrigin() override {
    ctl({"resume"});
    box.agent.reset();
    ::kill(server_, SIGTERM);
    if (!test::eventually([&] { return ::waitpid(server_, nullptr, WNOHANG) == server_; })) {
      ::kill(server_, SIGKILL);
      ::waitpid(server_, nullptr, 0);
    }
  }

  [[nodiscard]] std::string control() const { return (box.root() / "slow.sock").string(); }
  void ctl(std::vector<std::string> words) {
    words.insert(words.begin(), {ATLAS_SLOW_ORIGIN, "ctl", control()});
    int status = -1;
    ::waitpid(spawn(words), &status, 0);
    EXPECT_EQ(status, 0);
  }

  Sandbox box;

 private:
  pid_t server_ = -1;
};

TEST_F(HungOrigin, ATaskStartsOnTheOriginAfterTheSilenceAndNoLater) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  ctl({"hang"});
  const auto begin = std::chrono::steady_clock::now();
  const auto joined = run_attach(box, "join", 7, {"--directory=" + (box.origin() / "data").string()});
  const auto took = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(joined) << joined.error().message;
  EXPECT_FALSE(joined->ns);
  EXPECT_GE(took, 1s);
  EXPECT_LT(took, 10s);
  EXPECT_THAT(joined->report.announcement, HasSubstr("did not answer within 1s"));
  EXPECT_THAT(joined->report.cache_state, HasSubstr("=origin"));
}

TEST_F(HungOrigin, ManyDatasetsOfASilentOriginCostOneSilenceTogether) {
  std::vector<std::string> paths;
  for (int i = 0; i < 20; ++i) {
    paths.push_back("set" + std::to_string(i));
    std::filesystem::create_directories(box.store() / paths.back());
  }
  box.source.set(box.job(7, paths));
  box.start_agent();
  ctl({"hang"});
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(run_attach(box, "join", 7));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);  // 20 silences would be 20 s
}

TEST_F(HungOrigin, TheDatasetsOfOtherOriginsAreMounted) {
  auto job = box.job(7, {"data"});
  std::filesystem::create_directories(box.root() / "second/data");
  auto other = box.view_of("data");
  other.dataset.origin = "ceph";
  other.origin_root = (box.root() / "second").string();
  job.views.push_back(other);
  box.source.set(job);
  box.start_agent();
  ctl({"hang"});
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_EQ(read_in(joined->ns, box.root() / "second/data/where"), "from the node");
  EXPECT_THAT(joined->report.announcement, HasSubstr("did not answer"));
}

TEST_F(HungOrigin, ManyTasksAtOnceAllStart) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  ctl({"hang"});
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::jthread> tasks;
  std::atomic<int> told = 0;
  for (int i = 0; i < 16; ++i)
    tasks.emplace_back([&] {
      const auto joined = run_attach(box, "join", 7);
      if (joined && !joined->ns && !joined->report.announcement.empty()) ++told;
    });
  tasks.clear();
  EXPECT_EQ(told, 16);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
}

// Slurm waits for all processes in a step's cgroup and drains the node when they do not end.
TEST_F(HungOrigin, AChildThatCannotBeKilledIsNoLongerInTheJobsCgroup) {
  const std::filesystem::path job = "/sys/fs/cgroup/freezer/atlas_test_" + std::to_string(::getpid()) + "/job_7";
  if (!std::filesystem::exists("/sys/fs/cgroup/freezer/cgroup.procs")) GTEST_SKIP() << "no freezer hierarchy here";
  std::filesystem::create_directories(job);
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  ctl({"hang"});
  const auto joined = run_in_child(
      [&]() -> Packet {
        std::ofstream(job / "cgroup.procs") << ::getpid();
        return {run_attach(box, "join", 7) ? "joined" : "failed", {}};
      },
      {20s});
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->bytes, "joined");
  EXPECT_TRUE(test::eventually([&] { return read_file(job / "cgroup.procs").empty(); }))
      << read_file(job / "cgroup.procs");
  EXPECT_TRUE(std::filesystem::remove(job));
  std::filesystem::remove(job.parent_path());
}

TEST_F(HungOrigin, ASubmitWarnsAndGoesOn) {
  spank::PluginArgs args;
  args.config = box.root() / "atlas.toml";
  std::ofstream(args.config) << "[[origin]]\nname = \"lustre\"\nroot = \"" + box.origin().string() + "\"\n";
  ctl({"hang"});
  spank::Submission one(args, kUid);
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(one.add(spank::OptionKey::dataset, (box.origin() / "data").string(), spank::Client::sbatch, false));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  const auto packed = one.finish("");
  ASSERT_TRUE(packed && *packed);
  ASSERT_EQ((*packed)->warnings.size(), 1U);
  EXPECT_THAT((*packed)->warnings[0], HasSubstr("did not answer within 200ms"));
  EXPECT_EQ((*packed)->request, "v1,d=" + (box.origin() / "data").string());
}

}  // namespace
}  // namespace atlas::testing
