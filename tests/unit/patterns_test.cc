#include "common/patterns.h"

#include <gtest/gtest.h>

#include "common/dataset_policy.h"

namespace atlas {
namespace {

TEST(Patterns, ANameMatchesAtAnyDepthAPathOnlyWhereItIs) {
  const Patterns p({"*.tmp", "run/*/log", "checkpoints/"});
  EXPECT_TRUE(p.match("a.tmp", false));
  EXPECT_TRUE(p.match("deep/down/a.tmp", false));
  EXPECT_TRUE(p.match("run/7/log", false));
  EXPECT_FALSE(p.match("run/7/8/log", false)) << "a star does not match a slash";
  EXPECT_FALSE(p.match("other/run/7/log", false));
  EXPECT_TRUE(p.match("deep/checkpoints", true));
  EXPECT_FALSE(p.match("checkpoints", false)) << "a file of that name";
}

TEST(Patterns, AFileBelowADirectoryThatMatchesIsPicked) {
  const Patterns p({"train/", "/top"});
  EXPECT_TRUE(p.match_or_below("train/a/b"));
  EXPECT_TRUE(p.match_or_below("x/train/a"));
  EXPECT_TRUE(p.match_or_below("top"));
  EXPECT_FALSE(p.match_or_below("x/top"));
  EXPECT_FALSE(p.match_or_below("training/a"));
}

TEST(Patterns, WhatNamesNothingBelowTheRootIsNone) {
  for (const char* bad : {"", "/", "a//b", "../x", "a/./b", "a/.."}) EXPECT_FALSE(check_pattern(bad)) << bad;
  for (const char* good : {"*.tmp", "a/", "/a/b", "...", "[ab]?"}) EXPECT_TRUE(check_pattern(good)) << good;
}

TEST(DatasetPolicy, WhatIsWrittenIsReadBack) {
  DatasetPolicy policy;
  EXPECT_EQ(encode(policy), "");
  EXPECT_EQ(*decode_policy(""), policy);
  ASSERT_TRUE(parse_revalidate_option("ttl=10m", policy));
  EXPECT_EQ(show_revalidate(policy), "ttl=10m00s");
  policy.exclude = {"*.tmp", "a,b=c/", "d e\n"};
  policy.cache = Bytes{200};
  policy.tier = "ssd";
  policy.ttl = std::chrono::hours(24);
  policy.replicas = 2;
  policy.grants = {{5, 6, 7}, {8, 9, 10}};
  const auto text = encode(policy);
  EXPECT_EQ(text.find_first_of(" \n"), std::string::npos);
  const auto back = decode_policy(text);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, policy);
}

TEST(DatasetPolicy, NothingElseIsRead) {
  for (const char* bad : {"r", "r=", "r=default", "r=ttl", "r=ttl@x", "r=never@1", "z=1", "c=-1", "c=1x", "x=..",
                          "t=-5", "g=1@2", "g=1@2@x", "n=1,", ",n=1", "n=1,,c=1"})
    EXPECT_FALSE(decode_policy(bad)) << bad;
  DatasetPolicy policy;
  for (const char* bad : {"", "ttl", "ttl=", "sometimes"}) EXPECT_FALSE(parse_revalidate_option(bad, policy)) << bad;
}

}  // namespace
}  // namespace atlas
