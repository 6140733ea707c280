// What is read ahead of a reader.
#include "cache-agent/view/fuse/read_ahead.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace atlas::view {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Piece = ReadAhead::Piece;

constexpr std::uint64_t kM = 1 << 20, kSize = 1024 * kM;

TEST(ReadAhead, AFirstReadTellsNothing) {
  ReadAhead ahead;
  EXPECT_THAT(ahead.on_read(1, 0, kM, kSize), IsEmpty());
  EXPECT_THAT(ahead.on_read(2, 0, kM, kSize), IsEmpty()) << "another file";
}

TEST(ReadAhead, TheWindowOfASequentialReaderGrowsAndNothingIsAskedForTwice) {
  ReadAhead ahead;
  std::uint64_t asked_to = 0, largest = 0;
  for (std::uint64_t at = 0; at < 200 * kM; at += kM) {
    for (const auto& piece : ahead.on_read(1, at, kM, kSize)) {
      EXPECT_GE(piece.offset, asked_to);
      EXPECT_GE(piece.offset, at + kM);
      asked_to = piece.offset + piece.length;
      largest = std::max(largest, asked_to - at);
    }
    if (at > 40 * kM) {
      EXPECT_GT(asked_to, at + 8 * kM) << "the reader has caught up at " << at;
    }
  }
  EXPECT_EQ(largest, ReadAhead::kMost + kM);
}

TEST(ReadAhead, ItStopsAtTheEndOfTheFile) {
  ReadAhead ahead;
  std::uint64_t last = 0;
  for (std::uint64_t at = 0; at < 10 * kM; at += kM)
    for (const auto& piece : ahead.on_read(1, at, kM, 10 * kM)) last = piece.offset + piece.length;
  EXPECT_EQ(last, 10 * kM);
  EXPECT_THAT(ahead.on_read(1, 10 * kM, kM, 10 * kM), IsEmpty());
}

TEST(ReadAhead, RequestsThatOvertakeEachOtherAreOneReader) {
  ReadAhead ahead;
  std::uint64_t asked = 0;
  for (std::uint64_t at = 0; at < 64 * kM; at += 2 * kM)
    for (const auto offset : {at + kM, at})
      for (const auto& piece : ahead.on_read(1, offset, kM, kSize)) asked += piece.length;
  EXPECT_GT(asked, 32 * kM);
}

TEST(ReadAhead, AReaderInStepsIsSeenForwardsAndBackwards) {
  ReadAhead ahead;
  for (const auto at : {0, 10})
    EXPECT_THAT(ahead.on_read(1, static_cast<std::uint64_t>(at) * kM, 4096, kSize), IsEmpty());
  EXPECT_THAT(ahead.on_read(1, 20 * kM, 4096, kSize), ElementsAre(Piece{30 * kM, 4096}, Piece{40 * kM, 4096}));
  EXPECT_THAT(ahead.on_read(1, 30 * kM, 4096, kSize),
              ElementsAre(Piece{50 * kM, 4096}, Piece{60 * kM, 4096}, Piece{70 * kM, 4096}));
  for (const auto at : {60, 40}) static_cast<void>(ahead.on_read(2, static_cast<std::uint64_t>(at) * kM, 4096, kSize));
  EXPECT_THAT(ahead.on_read(2, 20 * kM, 4096, kSize), ElementsAre(Piece{0, 4096})) << "not before the beginning";
}

TEST(ReadAhead, TwoReadersOfOneFileDoNotDisturbEachOther) {
  ReadAhead ahead;
  std::uint64_t first = 0, second = 0;
  for (std::uint64_t at = 0; at < 50 * kM; at += kM) {
    for (const auto& piece : ahead.on_read(1, at, kM, kSize)) first += piece.length;
    for (const auto& piece : ahead.on_read(1, 500 * kM + at, kM, kSize)) second += piece.length;
  }
  EXPECT_GT(first, 40 * kM);
  EXPECT_GT(second, 40 * kM);
}

TEST(ReadAhead, ARandomReaderGetsNextToNothing) {
  ReadAhead ahead;
  std::mt19937_64 random(42);
  std::uint64_t asked = 0;
  for (int i = 0; i < 2000; ++i)
    for (const auto& piece : ahead.on_read(1, random() % (kSize / 4096) * 4096, 4096, kSize)) asked += piece.length;
  EXPECT_LT(asked, 2000 * 4096U / 4) << "more than a quarter of what was read";
}

}  // namespace
}  // namespace atlas::view
