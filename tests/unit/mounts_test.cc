#include "common/mounts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/cgroups.h"

namespace atlas {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::vector<Mount> kMounts = parse_mounts(
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "rubbish\n"
    "37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
    "38 31 0:35 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "41 31 0:38 /docker/1 /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    "60 22 0:50 / /my\\040data ro,noexec - nfs4 server:/my\\040export rw,vers=4.2\n"
    "61 60 8:1 /sub /my\\040data/disk rw - xfs /dev/sda1 rw\n"
    "62 60 8:2 / /my\\040data/disk rw - xfs /dev/sda2 rw\n");

TEST(Mounts, APathIsInTheMountThatIsNearestAndOnTop) {
  EXPECT_EQ(mount_of(kMounts, "/etc")->device, "254:0");
  EXPECT_EQ(mount_of(kMounts, "/my data")->source, "server:/my export");
  EXPECT_EQ(mount_of(kMounts, "/my data/x")->type, "nfs4");
  EXPECT_EQ(mount_of(kMounts, "/my data/diskette")->type, "nfs4");
  EXPECT_EQ(mount_of(kMounts, "/my data/disk/x")->device, "8:2");
  EXPECT_TRUE(has_option(mount_of(kMounts, "/my data")->options, "noexec"));
  EXPECT_FALSE(has_option("rw,noexecutive", "noexec"));
  EXPECT_EQ(mount_of({}, "/"), nullptr);
}

TEST(Cgroups, AJobsCgroupIsTheOneOfTheJobNotOfItsSteps) {
  const auto paths = [](std::string_view text, std::uint32_t job) {
    std::vector<std::string> out;
    for (const auto& cgroup : job_cgroups(cgroups_of(text, kMounts), job)) out.push_back(cgroup.directory());
    return out;
  };
  EXPECT_THAT(
      paths("6:freezer:/slurm_n1/uid_1000/job_7/step_0\n2:cpu,cpuacct:/slurm/uid_1000/job_7/step_batch/task_0\n"
            "9:name=systemd:/system.slice/job_7\n",
            7),
      ElementsAre("/sys/fs/cgroup/freezer/slurm_n1/uid_1000/job_7", "/sys/fs/cgroup/cpu,cpuacct/slurm/uid_1000/job_7"));
  EXPECT_THAT(paths("0::/docker/1/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n", 7),
              ElementsAre("/sys/fs/cgroup/unified/system.slice/slurmstepd.scope/job_7"));
  EXPECT_THAT(paths("6:freezer:/slurm/uid_1000/job_70/step_0\n", 7), IsEmpty()) << "of another job";
  EXPECT_THAT(paths("6:freezer:/user/job_7x\n0::/above/job_7\n::\n:\n\n", 7), IsEmpty());
}

}  // namespace
}  // namespace atlas
