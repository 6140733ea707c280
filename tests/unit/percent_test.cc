#include "common/percent.h"

#include <gtest/gtest.h>

namespace atlas {
namespace {

TEST(Percent, EveryByteSurvivesAndOnlySafeOnesShow) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  const std::string text = percent_encode(all);
  EXPECT_EQ(text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-%"),
            std::string::npos);
  EXPECT_EQ(*percent_decode(text), all);
}

TEST(Percent, RefusesMalformedText) {
  for (const char* bad : {"%", "%4", "%zz", "a b", "$(x)", "%4g", "x%"}) EXPECT_FALSE(percent_decode(bad)) << bad;
}

TEST(Printable, HidesControlBytesAndInvalidUtf8) {
  EXPECT_EQ(printable("a\nb\x1b[0m"), "a\\x0Ab\\x1B[0m");
  EXPECT_EQ(printable("caf\xc3\xa9 \xff"), "caf\xc3\xa9 \\xFF");
}

}  // namespace
}  // namespace atlas
