#include "cache-agent/view/fuse/backings.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

namespace atlas::view {
namespace {

using agent::FileIndex;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class BackingsTest : public ::testing::Test {
 protected:
  Backings::Kernel kernel() {
    Backings::Kernel calls;
    calls.open = [this](FileIndex file) -> Result<std::int32_t> {
      if (refuses_.contains(file)) return fail(Code::internal, "ELOOP");
      open_ids_.insert(++last_);
      return last_;
    };
    calls.close = [this](std::int32_t id) {
      EXPECT_EQ(open_ids_.erase(id), 1U) << "an id that the kernel does not have";
    };
    return calls;
  }
  std::shared_ptr<Backings> make(FileIndex entries, std::size_t idle) {
    auto made = Backings::make(entries, kernel(), idle);
    EXPECT_TRUE(made) << made.error().message;
    return *made;
  }
  /// What a later agent sees.
  std::shared_ptr<Backings> again(const Backings& old, FileIndex entries, std::size_t idle) {
    auto mapped = Backings::map(UniqueFd(fcntl(old.memory(), F_DUPFD_CLOEXEC, 3)), entries, kernel(), idle);
    EXPECT_TRUE(mapped) << mapped.error().message;
    return *mapped;
  }
  std::int32_t last_ = 0;
  std::set<std::int32_t> open_ids_;
  std::set<FileIndex> refuses_;
};

TEST_F(BackingsTest, AFileHasOneIdAsLongAsItIsOpenAndLater) {
  const auto backings = make(10, 4);
  const auto id = backings->acquire(3);
  ASSERT_TRUE(id);
  EXPECT_EQ(backings->acquire(3).value_or(0), *id);
  backings->release(3);
  EXPECT_THAT(backings->open_files(), UnorderedElementsAre(3U));
  backings->release(3);
  EXPECT_THAT(backings->open_files(), IsEmpty());
  EXPECT_EQ(backings->acquire(3).value_or(0), *id) << "kept for who comes next";
  EXPECT_EQ(open_ids_.size(), 1U);
}

TEST_F(BackingsTest, OnlyIdsThatNobodyUsesAreGivenBackTheOldestFirst) {
  const auto backings = make(100, 3);
  const auto first = backings->acquire(0).value_or(0);  // stays open
  for (FileIndex file = 1; file <= 10; ++file) {
    ASSERT_TRUE(backings->acquire(file));
    backings->release(file);
  }
  EXPECT_EQ(open_ids_.size(), 4U) << "three that are idle, and the open one";
  EXPECT_TRUE(open_ids_.contains(first));
  const auto kept = last_;
  EXPECT_EQ(backings->acquire(10).value_or(0), kept);
  EXPECT_GT(backings->acquire(1).value_or(0), kept) << "this one was given back, and is made again";
}

TEST_F(BackingsTest, ALaterAgentGoesOnWithTheSameIds) {
  const auto before = make(1'000'000, 2);
  const auto open = before->acquire(999'999).value_or(0), idle = before->acquire(5).value_or(0);
  before->release(5);
  EXPECT_TRUE(before->send_away(7));
  const auto after = again(*before, 1'000'000, 2);
  EXPECT_THAT(after->open_files(), UnorderedElementsAre(999'999U));
  EXPECT_EQ(after->acquire(999'999).value_or(0), open);
  EXPECT_EQ(after->acquire(5).value_or(0), idle);
  EXPECT_FALSE(after->send_away(7)) << "once";
  EXPECT_TRUE(after->vouched(5));
  EXPECT_TRUE(after->vouched(999'999));
  EXPECT_FALSE(after->vouched(7));
  EXPECT_TRUE(Backings::made(after->memory()));
}

TEST_F(BackingsTest, NobodyIsSentAwayTwiceInOneOpen) {
  const auto backings = make(10, 4);
  EXPECT_TRUE(backings->send_away(1));
  EXPECT_FALSE(backings->send_away(1));
  EXPECT_FALSE(backings->send_away(1));
  // The open by the other node has failed once; the one by this node that follows must not.
  backings->came_back(1);
  EXPECT_FALSE(backings->send_away(1));
  EXPECT_TRUE(backings->send_away(1)) << "a later open";
  EXPECT_FALSE(backings->send_away(1));
}

TEST_F(BackingsTest, AnAgentVouchesForWhatItHasSeenUntilABlockIsLost) {
  const auto before = make(10, 4);
  ASSERT_TRUE(before->acquire(1));
  EXPECT_FALSE(before->vouched(1)) << "it looks itself";
  const auto after = again(*before, 10, 4);
  EXPECT_TRUE(after->vouched(1));
  after->came_back(1);
  EXPECT_FALSE(after->vouched(1));
}

TEST_F(BackingsTest, ACloseThatIsHeardTwiceTakesNoIdFromWhoHasTheFileOpen) {
  const auto backings = make(10, 0);
  ASSERT_TRUE(backings->acquire(1));
  backings->release(1);
  EXPECT_TRUE(open_ids_.empty());
  backings->release(1);
  const auto id = backings->acquire(1).value_or(0);
  EXPECT_TRUE(open_ids_.contains(id));
}

TEST_F(BackingsTest, WhatTheKernelRefusesIsNotAskedAgain) {
  refuses_.insert(4);
  const auto backings = make(10, 4);
  EXPECT_FALSE(backings->refused(4));
  EXPECT_FALSE(backings->acquire(4));
  EXPECT_TRUE(backings->refused(4));
  EXPECT_THAT(backings->open_files(), IsEmpty());
  refuses_.clear();
  EXPECT_FALSE(backings->acquire(4));
  EXPECT_TRUE(again(*backings, 10, 4)->refused(4));
}

TEST_F(BackingsTest, ARootThatIsAFileIsNeverOpenBothWays) {
  const auto backings = make(1, 4);
  EXPECT_EQ(backings->open_root(false), 0) << "it is not all here";
  EXPECT_EQ(backings->open_root(true), 0) << "somebody has it open the other way";
  backings->close_root(false);
  EXPECT_EQ(backings->open_root(true), 0);
  backings->close_root(false);
  backings->close_root(false);
  EXPECT_FALSE(backings->root_passed());
  const auto id = backings->open_root(true);
  EXPECT_GT(id, 0);
  EXPECT_TRUE(backings->root_passed());
  EXPECT_THAT(backings->open_files(), UnorderedElementsAre(0U));
  EXPECT_EQ(backings->open_root(false), id) << "though it has lost a block";
  backings->close_root(true);
  EXPECT_EQ(backings->open_root(false), id);
  backings->close_root(true);
  backings->close_root(true);
  EXPECT_FALSE(backings->root_passed());
  EXPECT_EQ(backings->open_root(false), 0);
  EXPECT_EQ(open_ids_.size(), 1U);
}

TEST_F(BackingsTest, ALaterAgentKnowsInWhichWayARootIsOpen) {
  auto before = make(1, 4);
  EXPECT_EQ(before->open_root(false), 0);
  auto after = again(*before, 1, 4);
  EXPECT_EQ(after->open_root(true), 0);
  after->close_root(false);
  after->close_root(false);
  const auto id = after->open_root(true);
  EXPECT_GT(id, 0);
  const auto last = again(*after, 1, 4);
  EXPECT_TRUE(last->root_passed());
  EXPECT_EQ(last->open_root(false), id);
}

TEST_F(BackingsTest, ARootThatTheKernelRefusesIsReadTheOtherWay) {
  refuses_.insert(0);
  const auto backings = make(1, 4);
  EXPECT_EQ(backings->open_root(true), 0);
  EXPECT_TRUE(backings->refused(0));
  backings->close_root(false);
  refuses_.clear();
  EXPECT_EQ(backings->open_root(true), 0);
}

TEST_F(BackingsTest, OpensOfARootThatAnEarlierReleaseHasNotCountedAreTakenForOpen) {
  const auto before = make(1, 4);
  const std::uint64_t nothing = 0;
  ASSERT_EQ(pwrite(before->memory(), &nothing, sizeof nothing, 16), ssize_t(sizeof nothing));  // as it left it
  const auto after = again(*before, 1, 4);
  EXPECT_EQ(after->open_root(true), 0);
  after->close_root(false);
  EXPECT_EQ(after->open_root(true), 0) << "one of the others may still be open";
}

TEST_F(BackingsTest, MemoryOfAnotherKindOrSizeIsNotTaken) {
  const auto backings = make(10, 4);
  EXPECT_FALSE(Backings::map(UniqueFd(fcntl(backings->memory(), F_DUPFD_CLOEXEC, 3)), 11, kernel()));
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_FALSE(Backings::made(null));
  close(null);
}

}  // namespace
}  // namespace atlas::view
