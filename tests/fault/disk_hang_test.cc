// A cache disk that hangs costs what lies on it and nothing else. The disk is a directory behind the slow origin, which
// can hang at each kind of access; a tier beside it is healthy.
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "tests/support/eventually.h"
#include "tests/support/origin_tree.h"
#include "tests/support/slow_origin_process.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMega = 1 << 20;
constexpr int kFiles = 4;
/// Longer than anything here takes when it does not wait for the disk that hangs.
constexpr auto kBound = 60s;

class DiskHang : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts file systems";
    for (const char* name : {"origin", "disk", "bad", "good"}) std::filesystem::create_directory(temp_.path(name));
    for (const char* dataset : {"ds", "other"}) {
      directory(dataset, kAlice, 0755);
      for (int i = 0; i < kFiles; ++i) file(std::string(dataset) + "/" + std::to_string(i), bytes(i));
    }
    disk_ = std::make_unique<SlowOrigin>(temp_.path("disk"), temp_.path("bad"), std::vector<std::string>{});
  }
  void TearDown() override {
    if (disk_) resume();
    node_.reset();
  }
  static std::string bytes(int i) { return random_bytes(kMega + 1000, static_cast<unsigned>(i)); }
  /// "ds" goes to the tier that will hang, "other" to the one beside it.
  void open_node() {
    NodeParts::Options o;
    o.origin = origin();
    o.tiers = {{"bad", temp_.path("bad"), kGiB}, {"good", temp_.path("good"), kGiB}};
    node_ = std::make_unique<NodeParts>(o);
    node_->store->prefer({"o", "ds"}, "bad");
    node_->store->prefer({"o", "other"}, "good");
  }
  void hang(const std::string& path, const std::string& what) const { disk_->tell({"hang", "--path", path, what}); }
  void resume() const { disk_->tell({"resume"}); }
  void wait_until_hanging(unsigned operations = 1) const {
    ASSERT_TRUE(test::eventually([&] { return disk_->hanging() >= operations; })) << disk_->hanging();
  }
  std::future<Result<WarmProgress>> start(const std::string& dataset) const {
    return node_->start({{"o", dataset}, user(kAlice), {"test", 1, 0, {}}, {}, false});
  }
  void expect_warms(const std::string& dataset) const {
    auto running = start(dataset);
    ASSERT_EQ(running.wait_for(kBound), std::future_status::ready) << "it waits for a disk that is none of its own";
    const auto done = running.get();
    EXPECT_TRUE(done) << done.error().message;
  }

  std::unique_ptr<SlowOrigin> disk_;
  std::unique_ptr<NodeParts> node_;
};

TEST_F(DiskHang, ItsRecordsAreWaitedForAndNoOthers) {
  open_node();
  const auto done = node_->warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  const auto replica = node_->replica("ds", *done);
  hang("*node.db*", "write");
  std::thread vouching([&] { EXPECT_TRUE(node_->store->vouch(*replica, user(kBob), node_->clock.wall())); });
  wait_until_hanging();
  expect_warms("other");
  resume();
  vouching.join();
}

}  // namespace
}  // namespace atlas::agent
