#include "controller/slurm/job_lists.h"

#include <gtest/gtest.h>

namespace atlas::slurm {
namespace {

TEST(ArrayTasks, AreCounted) {
  EXPECT_EQ(count_array_tasks("7", 0), 1U);
  EXPECT_EQ(count_array_tasks("1-200", 0), 200U);
  EXPECT_EQ(count_array_tasks("0-9:2,15,20-29", 0), 16U);
  EXPECT_EQ(count_array_tasks("0-99%10", 10), 10U);
  EXPECT_EQ(count_array_tasks("0-4%10", 10), 5U);
  EXPECT_EQ(count_array_tasks("1,3,7,...", 0), 1U << 20) << "cut short by Slurm";
  EXPECT_EQ(count_array_tasks("", 0), 1U);
  EXPECT_EQ(count_array_tasks("nonsense", 4), 4U) << "what cannot be read is many";
}

TEST(FollowedJobs, AreFoundInSlurmsWords) {
  using Ids = std::vector<std::uint32_t>;
  EXPECT_EQ(followed_jobs("afterok:12(unfulfilled)"), Ids({12}));
  EXPECT_EQ(followed_jobs("afterok:12(unfulfilled),afterany:13_*(unfulfilled),afterok:12(failed)"), Ids({12, 13}));
  EXPECT_EQ(followed_jobs("afterok:7_3(unfulfilled)?after:14+5(unfulfilled)"), Ids({7, 14}));
  EXPECT_EQ(followed_jobs("afterok:12:13"), Ids({12, 13}));
  EXPECT_EQ(followed_jobs("singleton(unfulfilled)"), Ids());
  EXPECT_EQ(followed_jobs(""), Ids());
}

}  // namespace
}  // namespace atlas::slurm
