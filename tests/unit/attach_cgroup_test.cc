#include "launcher/atlas_attach_cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atlas::launcher {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::string_view kMounts =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:4 - cgroup cgroup rw,cpu,cpuacct\n"
    "37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

TEST(LeaveJob, OnlyHierarchiesInWhichTheProcessIsInAJobAreLeft) {
  EXPECT_THAT(ways_out_of_job("6:freezer:/slurm_n001/uid_1000/job_7/step_0\n"
                              "2:cpu,cpuacct:/slurm/uid_1000/job_7/step_batch/task_0\n"
                              "9:name=systemd:/system.slice/slurmd.service\n"
                              "0::/system.slice/slurmd.service\n",
                              kMounts),
              ElementsAre("/sys/fs/cgroup/freezer/cgroup.procs", "/sys/fs/cgroup/cpu,cpuacct/cgroup.procs"));
  EXPECT_THAT(ways_out_of_job("0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n", kMounts),
              ElementsAre("/sys/fs/cgroup/unified/cgroup.procs"));
  EXPECT_THAT(ways_out_of_job("6:freezer:/\n0::/user.slice\n", kMounts), IsEmpty());
  EXPECT_THAT(ways_out_of_job("garbage", "garbage"), IsEmpty());
  EXPECT_THAT(ways_out_of_job("garbage:", std::string(kMounts) + "1 2 3 - cgroup\n - \n"), IsEmpty());
}

}  // namespace
}  // namespace atlas::launcher
