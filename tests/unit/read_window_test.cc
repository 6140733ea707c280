#include "cache-agent/view/fuse/read_window.h"

#include <gtest/gtest.h>

#include <optional>

namespace atlas::view {
namespace {

using agent::Extent;
using namespace std::chrono_literals;

constexpr std::uint64_t kMega = 1 << 20;

Extent extent(std::uint64_t begin, std::uint64_t end) {
  return {3, Bytes{begin}, Bytes{end - begin}};
}

std::vector<std::byte> bytes_of(const Extent& piece) {
  std::vector<std::byte> out(piece.length.count);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::byte((piece.offset.count + i) / 1000 % 251);
  return out;
}

class Window : public ::testing::Test {
 protected:
  void arrive(const Extent& piece) {
    const auto data = bytes_of(piece);
    window_.arrived(piece, std::span<const std::byte>(data), now_);
  }
  /// Whether it was taken on; `got_` is what came of it.
  bool read(const Extent& want) {
    got_.reset();
    return window_.read(want, now_, [this, want](const std::vector<std::byte>* data) {
      got_ = data != nullptr && *data == bytes_of(want);
    });
  }
  ReadWindow window_;
  SteadyTime now_ = SteadyTime{} + 1h;
  std::optional<bool> got_;
};

TEST_F(Window, StretchesThatFollowEachOtherAreClaimedOnceAndReadAcross) {
  const auto first = window_.claim(extent(700'000, 3 * kMega / 2), now_);
  const auto second = window_.claim(extent(600'000, 2 * kMega), now_);
  std::uint64_t all = 0;
  for (const auto& pieces : {first, second})
    for (const auto& piece : pieces) all += piece.length.count;
  EXPECT_EQ(all, 2 * kMega - 600'000);
  EXPECT_EQ(window_.bytes(), all);
  EXPECT_TRUE(read(extent(kMega - 10, 2 * kMega - 10)));
  EXPECT_FALSE(got_) << "it is on its way";
  for (const auto& pieces : {first, second})
    for (const auto& piece : pieces) arrive(piece);
  EXPECT_EQ(got_, true);
  EXPECT_TRUE(read(extent(600'000, kMega - 10)));
  EXPECT_EQ(got_, true);
  EXPECT_TRUE(read(extent(2 * kMega - 10, 2 * kMega)));
  EXPECT_EQ(window_.bytes(), 0U) << "what has been read is gone";
  EXPECT_TRUE(window_.claim(extent(600'000, 2 * kMega), now_).empty()) << "not once more";
  EXPECT_FALSE(read(extent(kMega, kMega + 1)));
  EXPECT_FALSE(window_.claim(extent(600'000, 2 * kMega), now_ + 1s).empty()) << "but at the next epoch";
}

TEST_F(Window, WhatAReaderReadsHimselfIsNotReadAheadOnceMore) {
  EXPECT_FALSE(read(extent(kMega, 2 * kMega)));
  const auto claimed = window_.claim(extent(kMega, 3 * kMega), now_);
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_EQ(claimed[0], extent(2 * kMega, 3 * kMega));
}

TEST_F(Window, NorIsItWhereAPieceWouldReachIntoIt) {
  EXPECT_FALSE(read(extent(kMega + 5, 2 * kMega)));
  const auto claimed = window_.claim(extent(kMega, 2 * kMega), now_);
  ASSERT_EQ(claimed.size(), 1U);
  EXPECT_EQ(claimed[0], extent(kMega, kMega + 5));
}

TEST_F(Window, ItIsBoundedAndWhatNobodyComesForGoes) {
  const auto claimed = window_.claim(extent(0, 500 * kMega), now_);
  EXPECT_EQ(window_.bytes(), ReadWindow::kMost);
  EXPECT_TRUE(window_.claim({4, Bytes{0}, Bytes{kMega}}, now_).empty());
  for (std::size_t i = 1; i < claimed.size(); ++i) arrive(claimed[i]);
  now_ += ReadWindow::kPatience;
  EXPECT_TRUE(window_.expire(now_)) << "the first is on its way: somebody may wait for it";
  EXPECT_EQ(window_.bytes(), claimed[0].length.count);
}

TEST_F(Window, AFailureIsToldToWhoeverWaitsAndLeavesNothing) {
  const auto claimed = window_.claim(extent(0, 2 * kMega), now_);
  ASSERT_EQ(claimed.size(), 2U);
  EXPECT_TRUE(read(extent(kMega - 5, kMega + 5)));
  arrive(claimed[1]);
  window_.arrived(claimed[0], fail(Code::aborted, "it changed"), now_);
  EXPECT_EQ(got_, false);
  EXPECT_EQ(window_.bytes(), kMega);
}

}  // namespace
}  // namespace atlas::view
