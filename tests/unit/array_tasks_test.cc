#include "controller/slurm/array_tasks.h"

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

}  // namespace
}  // namespace atlas::slurm
