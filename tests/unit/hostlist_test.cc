#include "common/hostlist.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atlas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> expanded(std::string_view text) {
  auto names = expand_hostlist(text);
  EXPECT_TRUE(names) << text << ": " << (names ? "" : names.error().message);
  return names ? *names : std::vector<std::string>{};
}

TEST(Hostlist, ExpandsRangesListsAndPlainNames) {
  EXPECT_THAT(expanded("n[001-003,7],m1"), ElementsAre("n001", "n002", "n003", "n7", "m1"));
  EXPECT_THAT(expanded("n1"), ElementsAre("n1"));
  EXPECT_THAT(expanded("login.example-1"), ElementsAre("login.example-1"));
  EXPECT_THAT(expanded(""), IsEmpty());
}

TEST(Hostlist, KeepsZeroPaddingAcrossAPowerOfTen) {
  EXPECT_THAT(expanded("n[098-101]"), ElementsAre("n098", "n099", "n100", "n101"));
  EXPECT_THAT(expanded("n[9-11]"), ElementsAre("n9", "n10", "n11"));
}

TEST(Hostlist, MultipliesSeveralBracketsAsSlurmDoes) {
  EXPECT_THAT(expanded("r[1-2]n[1-2]-ib"), ElementsAre("r1n1-ib", "r1n2-ib", "r2n1-ib", "r2n2-ib"));
}

TEST(Hostlist, RefusesWhatIsMalformedAndSaysWhich) {
  for (const char* text : {",",
                           "a,",
                           ",a",
                           "a,,b",
                           "n[",
                           "n]",
                           "n[]",
                           "n[1",
                           "n[1-]",
                           "n[-1]",
                           "n[1,]",
                           "n[a]",
                           "n[1-a]",
                           "n[[1]]",
                           "n[3-1]",
                           "n[001-3]",
                           "n 1",
                           "n;1",
                           "n[1-2-3]",
                           "n[1]]",
                           "n\n1",
                           "n/1",
                           "n[9999999999999999999]"}) {
    const auto names = expand_hostlist(text);
    ASSERT_FALSE(names) << text;
    EXPECT_EQ(names.error().code, Code::invalid_argument) << text;
    EXPECT_THAT(names.error().message, HasSubstr("hostlist"));
  }
}

TEST(Hostlist, RefusesToGrowBeyondItsCap) {
  EXPECT_EQ(expanded("n[1-65536]").size(), kMaxHosts);
  for (const char* text : {"n[0-99999999]", "n[1-65537]", "a[1-300]b[1-300]", "n[1-65536],m", "n[1-40000,1-40000]",
                           "n[0-999999999999999999]"}) {
    const auto names = expand_hostlist(text);
    ASSERT_FALSE(names) << text;
    EXPECT_EQ(names.error().code, Code::out_of_range) << text;
  }
}

TEST(Hostlist, CompressesSortedWithoutRepeats) {
  EXPECT_EQ(compress_hostlist({"n003", "n001", "m1", "n002", "n7", "n001"}), "m1,n[001-003,7]");
  EXPECT_EQ(compress_hostlist({"n10", "n9", "n11", "n2"}), "n[2,9-11]");
  EXPECT_EQ(compress_hostlist({"login", "n1"}), "login,n1");
  EXPECT_EQ(compress_hostlist({"n", "n1", "n2"}), "n,n[1-2]");
  EXPECT_EQ(compress_hostlist({}), "");
  EXPECT_EQ(compress_hostlist({"n1-ib", "n2-ib"}), "n1-ib,n2-ib");
}

TEST(Hostlist, NeverJoinsNumbersOfDifferentPadding) {
  EXPECT_EQ(compress_hostlist({"n1", "n02"}), "n[1,02]");
  EXPECT_EQ(compress_hostlist({"n09", "n10", "n100"}), "n[09-10,100]");
  EXPECT_EQ(compress_hostlist({"n1", "n01", "n001"}), "n[1,01,001]");
}

TEST(Hostlist, ComesBackAsItWas) {
  for (const char* text : {"n[001-003,7]", "m1,n[098-102]", "a,b,c", "n[0-1]", "x[1,01,001]", "n[1-300]",
                           "n123456789012345678901234567890"}) {
    EXPECT_EQ(compress_hostlist(expanded(text)), text);
  }
}

TEST(Hostlist, SortsAsPeopleCount) {
  std::vector<std::string> names{"n10", "n2", "a", "n1"};
  sort_hosts(names);
  EXPECT_THAT(names, ElementsAre("a", "n1", "n2", "n10"));
}

}  // namespace
}  // namespace atlas
