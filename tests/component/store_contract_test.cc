// What everything above the store relies on, shown on each kind of disk that can be had here. A new kind of store, or
// of tier, is added to the list at the end and has to pass.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "cache-agent/store/block_map.h"
#include "cache-agent/store/replica_state.h"
#include "tests/support/loop_disk.h"
#include "tests/support/origin_on_node.h"
#include "tests/support/own_mounts.h"

namespace atlas::agent {
namespace {

struct Disk {
  std::string name;
  /// Makes `place` be such a disk; what must end after the test is kept in `held`.
  void (*make)(const TempDir& temp, const std::string& place, std::shared_ptr<void>& held);
};

const DatasetId kDataset{"o", "ds"};

class StoreContract : public OriginOnNode, public ::testing::WithParamInterface<Disk> {
 protected:
  void SetUp() override {
    OriginOnNode::SetUp();
    if (IsSkipped()) return;
    static const bool own = testing::own_mounts();
    ASSERT_TRUE(own);
    std::filesystem::create_directory(disk());
    GetParam().make(temp_, disk(), held_);
    directory("ds", kAlice, 0755);
    directory("ds/dir", kAlice, 0750);
    file("ds/dir/large", large_, kAlice, 0640);
    file("ds/small", small_, kAlice, 0604);
    set_times(origin("ds/small"), 1'000'000'000, 123'456'789);
    node_ = std::make_unique<NodeParts>(on_disk());
    replica_ = opened();
  }
  void TearDown() override {
    replica_.reset();
    node_.reset();
    held_.reset();
    umount2(disk().c_str(), MNT_DETACH);
  }
  [[nodiscard]] std::string disk() const { return temp_.path("disk"); }
  [[nodiscard]] NodeParts::Options on_disk(Bytes quota = Bytes{64 * kMiB.count}) const {
    auto o = options(quota);
    o.tiers[0].path = disk();
    return o;
  }
  [[nodiscard]] std::shared_ptr<const Manifest> walked() const {
    ManifestBuilder builder(origin("ds"));
    EXPECT_TRUE(node_->origin.walk(user(kAlice), "ds", {}, builder, {}));
    auto manifest = std::move(builder).build();
    EXPECT_TRUE(manifest) << manifest.error().message;
    return std::make_shared<const Manifest>(std::move(*manifest));
  }
  /// An empty replica of the dataset, with room for all of it.
  std::shared_ptr<Replica> opened() {
    manifest_ = walked();
    auto room = node_->store->reserve(kDataset, manifest_->summary());
    EXPECT_TRUE(room) << room.error().message;
    auto replica = node_->store->open(kDataset, manifest_, std::move(*room));
    EXPECT_TRUE(replica) << replica.error().message;
    EXPECT_TRUE((*replica)->prepare());
    return *replica;
  }
  [[nodiscard]] FileIndex index(const std::string& path) const { return *manifest_->find(path); }
  static BlockSums sums_of(std::string_view bytes) {
    BlockSums sums;
    for (std::size_t at = 0; at == 0 || at < bytes.size(); at += kBlock.count)
      sums.push_back(sum_of(std::as_bytes(std::span(bytes.substr(at, kBlock.count)))));
    return sums;
  }
  Status commit(const std::string& path, std::uint64_t offset, std::string_view bytes) {
    const FileMeta meta;
    return replica_->commit({index(path), Bytes{offset}, Bytes{bytes.size()}}, std::as_bytes(std::span(bytes)),
                            sums_of(bytes), offset == 0 ? &meta : nullptr);
  }
  void fill() {
    ASSERT_TRUE(commit("small", 0, small_));
    ASSERT_TRUE(commit("dir/large", 0, large_));
  }
  void complete() {
    fill();
    ASSERT_TRUE(replica_->seal(user(kAlice), {}));
    ASSERT_TRUE(node_->store->vouch(*replica_, user(kAlice), node_->clock.wall()));
    ASSERT_TRUE(node_->store->complete(replica_));
  }
  [[nodiscard]] bool has(const std::string& path, std::uint64_t offset, std::uint64_t length) const {
    return replica_->resident(*manifest_, {index(path), Bytes{offset}, Bytes{length}});
  }
  Result<std::string> read(const std::string& path, std::uint64_t offset, std::uint64_t length) {
    std::string out(length, '\0');
    ATLAS_TRY(replica_->read({index(path), Bytes{offset}, Bytes{length}}, std::as_writable_bytes(std::span(out)),
                             Verify::yes));
    return out;
  }

  const std::string large_ = random_bytes((3 << 20) + 777, 1), small_ = random_bytes(5'000, 2);
  std::shared_ptr<void> held_;
  std::unique_ptr<NodeParts> node_;
  std::shared_ptr<const Manifest> manifest_;
  std::shared_ptr<Replica> replica_;
};

TEST_P(StoreContract, WhatWasCommittedIsResidentAndNothingElse) {
  EXPECT_EQ(replica_->state(), ReplicaState::partial);
  EXPECT_FALSE(has("small", 0, 1));
  ASSERT_TRUE(commit("dir/large", 0, std::string_view(large_).substr(0, 1 << 20)));
  ASSERT_TRUE(commit("dir/large", 3 << 20, std::string_view(large_).substr(3 << 20)));
  EXPECT_TRUE(has("dir/large", 0, 1 << 20));
  EXPECT_FALSE(has("dir/large", 0, (1 << 20) + 1));
  EXPECT_FALSE(has("dir/large", 2 << 20, 1));
  EXPECT_TRUE(has("dir/large", (3 << 20) + 5, 772));
  EXPECT_EQ(replica_->bytes_resident(), Bytes{(1 << 20) + 777});
  EXPECT_EQ(replica_->files_resident(), 0U);
  const auto piece = read("dir/large", 1000, 100'000);
  ASSERT_TRUE(piece) << piece.error().message;
  EXPECT_TRUE(*piece == large_.substr(1000, 100'000));
  const auto missing = read("dir/large", 1 << 20, 10);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::not_found);
}

TEST_P(StoreContract, ACompleteReplicaIsTheOriginsTreeAndIsMountedReadOnly) {
  complete();
  if (HasFatalFailure()) return;
  EXPECT_EQ(replica_->state(), ReplicaState::complete);
  EXPECT_EQ(difference_to(origin("ds"), *node_), "");
  const auto mounts = replica_->mounts(1, {});
  ASSERT_TRUE(mounts) << mounts.error().message;
  EXPECT_EQ(openat(mounts->front().get(), "small", O_RDWR | O_CLOEXEC), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_TRUE(replica_->mountable_for(user(kAlice)));
}

TEST_P(StoreContract, ARestartBringsBackWhatWasThere) {
  complete();
  if (HasFatalFailure()) return;
  const auto generation = replica_->generation();
  replica_.reset();
  node_.reset();
  node_ = std::make_unique<NodeParts>(on_disk());
  replica_ = node_->store->find(kDataset, generation);
  ASSERT_TRUE(replica_);
  EXPECT_EQ(replica_->state(), ReplicaState::complete);
  EXPECT_EQ(difference_to(origin("ds"), *node_), "");
  EXPECT_TRUE(replica_->mountable_for(user(kAlice)));
}

TEST_P(StoreContract, ARestartOfTheAgentKeepsPartsToo) {
  ASSERT_TRUE(commit("dir/large", 1 << 20, std::string_view(large_).substr(1 << 20, 1 << 20)));
  const auto generation = replica_->generation();
  node_->store->settle(replica_);
  replica_.reset();
  node_.reset();
  node_ = std::make_unique<NodeParts>(on_disk());
  replica_ = node_->store->find(kDataset, generation);
  ASSERT_TRUE(replica_);
  EXPECT_EQ(replica_->state(), ReplicaState::partial);
  EXPECT_TRUE(has("dir/large", 1 << 20, 1 << 20));
  EXPECT_FALSE(has("dir/large", 0, 1));
  EXPECT_TRUE(*read("dir/large", 1 << 20, 1 << 20) == large_.substr(1 << 20, 1 << 20));
}

TEST_P(StoreContract, AWrongByteIsFoundAndItsBlockIsNoLongerResident) {
  fill();
  {
    const std::string path = replica_->internals().path + "/tree/dir/large";
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd);
    const char other = static_cast<char>(large_[(1 << 20) + 5] ^ 1);
    ASSERT_EQ(pwrite(fd.get(), &other, 1, (1 << 20) + 5), 1);
  }
  const auto wrong = read("dir/large", 1 << 20, 100);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, Code::data_loss);
  EXPECT_FALSE(has("dir/large", 1 << 20, 1));
  EXPECT_TRUE(has("dir/large", 0, 1 << 20)) << "the other blocks are as good as before";
  ASSERT_TRUE(commit("dir/large", 1 << 20, std::string_view(large_).substr(1 << 20, 1 << 20)));
  EXPECT_TRUE(*read("dir/large", 1 << 20, 100) == large_.substr(1 << 20, 100));
}

TEST_P(StoreContract, HolesTakeNoRoomAndReadAsZeros) {
  const FileMeta meta;
  ASSERT_TRUE(replica_->commit_hole({index("dir/large"), Bytes{0}, Bytes{2 << 20}}, &meta));
  EXPECT_TRUE(*read("dir/large", 0, 2 << 20) == std::string(2 << 20, '\0'));
  EXPECT_TRUE(replica_->zeros(*manifest_, index("dir/large"), Bytes{1 << 20}));
  struct stat st {};
  ASSERT_EQ(stat((replica_->internals().path + "/tree/dir/large").c_str(), &st), 0);
  EXPECT_LT(st.st_blocks * 512, 1 << 20);
}

TEST_P(StoreContract, WhatIsEvictedIsGoneAndItsRoomIsThere) {
  complete();
  if (HasFatalFailure()) return;
  EXPECT_EQ(node_->store->evict(kDataset, std::nullopt).replicas, 0U) << "somebody holds it";
  const std::string path = replica_->internals().path;
  replica_.reset();
  EXPECT_EQ(node_->store->evict(kDataset, std::nullopt).replicas, 1U);
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(node_->store->tiers().front().used, Bytes{});
}

TEST_P(StoreContract, RoomIsPromisedOnce) {
  replica_.reset();
  ASSERT_EQ(node_->store->evict(kDataset, std::nullopt).replicas, 1U);
  node_.reset();
  node_ = std::make_unique<NodeParts>(on_disk(Bytes{5 << 20}));
  const auto first = node_->store->reserve(kDataset, manifest_->summary());
  ASSERT_TRUE(first) << first.error().message;
  const auto second = node_->store->reserve({"o", "other"}, manifest_->summary());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::resource_exhausted);
}

const Disk kDisks[] = {
    {"Directory", [](const TempDir&, const std::string&, std::shared_ptr<void>&) {}},
    {"Tmpfs", [](const TempDir&, const std::string& place,
                 std::shared_ptr<void>&) { EXPECT_EQ(mount("tmpfs", place.c_str(), "tmpfs", 0, "size=128m"), 0); }},
    {"OwnExt4", [](const TempDir& temp, const std::string& place, std::shared_ptr<void>& held) {
       held = std::make_shared<LoopDisk>(temp.path("image"), std::uint64_t{128} << 20, place);
     }}};
INSTANTIATE_TEST_SUITE_P(Disks, StoreContract, ::testing::ValuesIn(kDisks),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace atlas::agent
