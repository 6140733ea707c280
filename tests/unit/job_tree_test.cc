#include "common/job_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atlas {
namespace {

using ::testing::ElementsAre;
using Texts = std::vector<std::string>;

TEST(JobTreeNames, AreTheNamesAskedForElseTheLastComponents) {
  EXPECT_THAT(job_tree_names(Texts{"speech", "~alice/noise", "/data/b/voices"},
                             Texts{"/data/a/train", "/other/x", "/data/b/voices"}),
              ElementsAre("speech", "noise", "voices"));
}

TEST(JobTreeNames, AreMadeUniqueAndNeverTakeAnothersOwn) {
  EXPECT_THAT(job_tree_names({}, Texts{"/a/x", "/b/x", "/c/x-2", "/d/x"}), ElementsAre("x", "x-3", "x-2", "x-4"));
}

TEST(JobTreeNames, ARequestThatDoesNotFitCountsForNothing) {
  EXPECT_THAT(job_tree_names(Texts{"speech", "/data/b"}, Texts{"/data/a", "/data/c"}), ElementsAre("a", "c"));
  EXPECT_THAT(job_tree_names(Texts{"speech"}, Texts{"/data/a", "/data/b"}), ElementsAre("a", "b"));
}

TEST(JobTreeNames, AreSinglePathComponents) {
  EXPECT_THAT(job_tree_names({}, Texts{"/", "/data/..", "/data/a/"}), ElementsAre("root", "root-2", "a"));
  EXPECT_EQ(job_tree_names({}, Texts{"/" + std::string(255, 'n'), "/b/" + std::string(255, 'n')})[1].size(), 242U);
}

}  // namespace
}  // namespace atlas
