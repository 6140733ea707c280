#include "common/units.h"

#include <gtest/gtest.h>

namespace atlas {
namespace {

TEST(ParseSize, ReadsSlurmsSuffixesAsPowersOf1024) {
  EXPECT_EQ(parse_size("200G")->count, 200ULL << 30);
  EXPECT_EQ(parse_size("1.5k")->count, 1536U);
  EXPECT_EQ(parse_size("7MiB")->count, 7U << 20);
  EXPECT_EQ(parse_size("12")->count, 12U);
  EXPECT_EQ(parse_size("0")->count, 0U);
}

TEST(ParseSize, RefusesWhatIsNotASize) {
  for (const char* bad : {"", "-1", "12Q", "G", "1.5", "1..5G", " 5G", "5G ", "iB", "5iB", "99999999999999999999",
                          "9999999P", "+5G", "0x10"})
    EXPECT_FALSE(parse_size(bad)) << bad;
}

TEST(FormatSize, KeepsToThreeDigits) {
  EXPECT_EQ(format_size({0}), "0");
  EXPECT_EQ(format_size({1536}), "1.5K");
  EXPECT_EQ(format_size(kGiB), "1G");
  EXPECT_EQ(format_size({1023 * 1024}), "1M");
  EXPECT_EQ(format_size({183ULL << 30}), "183G");
}

TEST(ExactSize, ComesBackAsTheSameNumber) {
  for (const std::uint64_t n : {0ULL, 1ULL, 1023ULL, 1024ULL, 1025ULL, 1ULL << 40, 3ULL << 30})
    EXPECT_EQ(parse_size(exact_size({n}))->count, n);
}

TEST(ParseDuration, ReadsUnitsAndSlurmsForms) {
  using namespace std::chrono_literals;
  EXPECT_EQ(*parse_duration("90s"), 90s);
  EXPECT_EQ(*parse_duration("500ms"), 500ms);
  EXPECT_EQ(*parse_duration("7d"), 168h);
  EXPECT_EQ(*parse_duration("10"), 10min);
  EXPECT_EQ(*parse_duration("10:00"), 10min);
  EXPECT_EQ(*parse_duration("1:10:00"), 70min);
  EXPECT_EQ(*parse_duration("2-12"), 60h);
  EXPECT_EQ(*parse_duration("0-0:30"), 30min);
  for (const char* bad : {"", "x", "-5s", "1:2:3:4", "5w", ":", "1:", "99999999999d"})
    EXPECT_FALSE(parse_duration(bad)) << bad;
}

}  // namespace
}  // namespace atlas
