// What a warm-up says of itself while a replica fills: how fast it is and when it will be through. The time is told by
// the test; the bytes are really there.
#include "cache-agent/warm/warm_up.h"

#include <gtest/gtest.h>

#include "cache-agent/store/block_map.h"
#include "tests/support/origin_on_node.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

const DatasetId kDataset{"o", "ds"};
constexpr std::uint64_t kFiles = 40;

class WarmUpProgress : public OriginOnNode {
 protected:
  void SetUp() override {
    OriginOnNode::SetUp();
    if (IsSkipped()) return;
    directory("ds", kAlice, 0755);
    for (std::uint64_t i = 0; i < kFiles; ++i) file("ds/f" + std::to_string(i), bytes_);
    node_ = std::make_unique<NodeParts>(options());
    open();
  }
  void open() {
    ManifestBuilder builder(origin("ds"));
    ASSERT_TRUE(node_->origin.walk(user(kAlice), "ds", {}, builder, {}));
    auto built = std::move(builder).build();
    ASSERT_TRUE(built);
    manifest_ = std::make_shared<const Manifest>(std::move(*built));
    auto room = node_->store->reserve(kDataset, manifest_->summary());
    ASSERT_TRUE(room) << room.error().message;
    auto replica = node_->store->open(kDataset, manifest_, std::move(*room));
    ASSERT_TRUE(replica) << replica.error().message;
    replica_ = *replica;
    ASSERT_TRUE(replica_->prepare());
  }
  /// So many more files are here.
  void bring(std::uint64_t count) {
    const auto data = std::as_bytes(std::span(bytes_));
    for (; count > 0; --count, ++here_) {
      const FileMeta meta;
      const auto index = manifest_->find("f" + std::to_string(here_));
      ASSERT_TRUE(index);
      ASSERT_TRUE(replica_->commit({*index, Bytes{0}, Bytes{data.size()}}, data, {sum_of(data)}, &meta));
    }
  }
  std::unique_ptr<WarmUp> begin() {
    auto up = std::make_unique<WarmUp>(WarmRequest{kDataset, user(kAlice), {}, {}, false}, "n1");
    up->describe(manifest_->summary(), {});
    up->fill_into(replica_);
    up->enter(WarmPhase::fetching, now_);
    return up;
  }
  /// What it says after so much time more.
  WarmProgress after(WarmUp& up, std::chrono::milliseconds time) {
    now_ += time;
    const auto said = up.snapshot(now_);
    EXPECT_TRUE(said.eta >= 0ms || said.eta == -1ms) << said.eta.count();
    EXPECT_LE(said.bytes_done.count, said.bytes_total.count);
    return said;
  }

  const std::string bytes_ = random_bytes(100'000, 1);
  std::unique_ptr<NodeParts> node_;
  std::shared_ptr<const Manifest> manifest_;
  std::shared_ptr<Replica> replica_;
  std::uint64_t here_ = 0;
  SteadyTime now_{1h};
};

TEST_F(WarmUpProgress, AnEvenOneTellsItsRateAndWhatIsLeftOfItsTime) {
  const auto up = begin();
  auto said = up->snapshot(now_);
  EXPECT_EQ(said.eta, -1ms) << "nothing is known yet";
  EXPECT_EQ(said.per_second.count, 0U);
  for (std::uint64_t second = 1; second < kFiles / 2; ++second) {
    bring(2);
    said = after(*up, 1s);
    EXPECT_EQ(said.per_second.count, 200'000U);
    EXPECT_EQ(said.eta, std::chrono::seconds(kFiles / 2 - second));
  }
  bring(2);
  EXPECT_EQ(after(*up, 1s).eta, 0ms) << "all is here, and is not sealed yet";
  up->end({}, now_);
  EXPECT_EQ(up->snapshot(now_).eta, 0ms);
  EXPECT_EQ(up->snapshot(now_).bytes_done.count, kFiles * bytes_.size());
}

TEST_F(WarmUpProgress, ItsRateIsThatOfTheLastSeconds) {
  const auto up = begin();
  bring(10);
  EXPECT_EQ(after(*up, 1s).per_second.count, 1'000'000U);
  for (int i = 0; i < 10; ++i) {
    bring(1);
    static_cast<void>(after(*up, 1s));
  }
  const auto said = after(*up, 0ms);
  EXPECT_EQ(said.per_second.count, 100'000U) << "what was fast in the beginning does not count any more";
  EXPECT_EQ(said.eta, 20s);
}

TEST_F(WarmUpProgress, OneThatStandsStillPromisesNothingAndRecovers) {
  const auto up = begin();
  bring(4);
  EXPECT_EQ(after(*up, 1s).eta, 9s);
  WarmProgress said;
  for (int i = 0; i < 100; ++i) said = after(*up, 400ms);
  EXPECT_EQ(said.per_second.count, 0U);
  EXPECT_EQ(said.eta, -1ms) << "at this rate: never, which is not known";
  bring(1);
  said = after(*up, 1s);
  EXPECT_GT(said.per_second.count, 0U);
  EXPECT_GT(said.eta, 0ms);
  for (int i = 0; i < 20; ++i) {
    bring(1);
    said = after(*up, 1s);
  }
  EXPECT_EQ(said.per_second.count, 100'000U) << "the standstill is forgotten";
  EXPECT_EQ(said.eta, 15s);
}

TEST_F(WarmUpProgress, NobodyLookedForLongAndItIsStillTheRateOfNow) {
  const auto up = begin();
  bring(1);
  EXPECT_EQ(after(*up, 1s).per_second.count, 100'000U);
  static_cast<void>(after(*up, 1h));  // stood still
  bring(4);
  const auto said = after(*up, 2s);
  EXPECT_EQ(said.per_second.count, 200'000U);
  EXPECT_EQ(said.eta, 17500ms);
}

TEST_F(WarmUpProgress, WhatWasHereWhenItBeganIsNoSpeedOfIts) {
  bring(20);
  const auto up = begin();  // resumed
  EXPECT_EQ(up->snapshot(now_).bytes_done.count, 20 * bytes_.size());
  bring(2);
  auto said = after(*up, 1s);
  EXPECT_EQ(said.per_second.count, 200'000U);
  EXPECT_EQ(said.eta, 9s);
  // A further attempt starts its own measure.
  up->fill_into(replica_);
  bring(1);
  said = after(*up, 1h);
  EXPECT_EQ(said.per_second.count, 0U) << "its first look";
  EXPECT_EQ(said.eta, -1ms);
  bring(1);
  said = after(*up, 1s);
  EXPECT_EQ(said.per_second.count, 100'000U);
  EXPECT_EQ(said.eta, 16s);
}

TEST_F(WarmUpProgress, WhatIsTakenBackMakesNothingNegative) {
  const auto up = begin();
  bring(20);
  EXPECT_EQ(after(*up, 1s).eta, 1s);
  // A block that has rotted is missing again.
  for (const auto& found : std::filesystem::recursive_directory_iterator(temp_.path("tier"))) {
    if (found.path().filename() != "f3") continue;
    const UniqueFd fd(::open(found.path().c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(pwrite(fd.get(), "!!", 2, 50'000), 2);
  }
  const auto verified = replica_->verify();
  ASSERT_TRUE(verified);
  ASSERT_EQ(verified->bad, 1U);
  for (int i = 0; i < 20; ++i) {
    const auto said = after(*up, 1s);
    EXPECT_LE(said.per_second.count, 20 * bytes_.size()) << "nothing wraps around";
    EXPECT_EQ(said.bytes_done.count, 19 * bytes_.size());
  }
  EXPECT_EQ(after(*up, 1s).eta, -1ms);
}

}  // namespace
}  // namespace atlas::agent
