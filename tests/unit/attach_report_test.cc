#include "common/attach_report.h"

#include <gtest/gtest.h>

namespace atlas {
namespace {

TEST(AttachReport, ComesBackAsItWas) {
  const AttachReport report{true, false, true, "/data/a=complete:/b=origin", "atlas: a line", "it changed"};
  const auto back = decode_attach_report(encode(report));
  ASSERT_TRUE(back);
  EXPECT_TRUE(back->known);
  EXPECT_FALSE(back->mounts);
  EXPECT_TRUE(back->directory_ok);
  EXPECT_EQ(back->cache_state, report.cache_state);
  EXPECT_EQ(back->announcement, report.announcement);
  EXPECT_EQ(back->refused, report.refused);
}

TEST(AttachReport, RefusesWhatItWouldNotHaveWritten) {
  const std::string good = encode(AttachReport{});
  for (const std::string& bad : {std::string(), good.substr(0, good.size() - 1), good + std::string(1, '\0'),
                                 "x" + good, std::string("atlas-attach-212x\0\0\0", 20)})
    EXPECT_FALSE(decode_attach_report(bad));
}

TEST(CacheState, KeepsPathsWithSeparatorsApart) {
  EXPECT_EQ(cache_state_entry("/data/a:b=c %", "complete"), "/data/a%3Ab%3Dc%20%25=complete");
  Request request;
  request.datasets = {"/data/a:b", "speech"};
  EXPECT_EQ(cache_state_of_origin(request), "/data/a%3Ab=origin:speech=origin");
}

TEST(CacheState, WithoutTheCacheEveryDatasetIsAtTheOrigin) {
  EXPECT_EQ(cache_state_without_cache("/a=complete:/b=origin:/c=partial"), "/a=origin:/b=origin:/c=origin");
  EXPECT_EQ(cache_state_without_cache(""), "");
}

}  // namespace
}  // namespace atlas
