// Samples are in the form of obdfilter.*.job_stats of Lustre 2.5 to 2.15, as monitoring programs publish it with their
// tests.
#include "launcher/lustre_job_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atlas::ctl {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kStats = R"(obdfilter.work-OST0000.job_stats=
job_stats:
- job_id:          4711
  snapshot_time:   1461772761
  read_bytes:      { samples:           1, unit: bytes, min:    4096, max:    4096, sum:            4096 }
  write_bytes:     { samples:          25, unit: bytes, min: 1048576, max: 1048576, sum:        26214400 }
  getattr:         { samples:           0, unit:  reqs }
  punch:           { samples:           1, unit:  reqs }
- job_id:          atlas-cache-age.1000
  snapshot_time:   1461772761
  read_bytes:      { samples:           2, unit: bytes, min:    1024, max:    1024, sum:            2048 }
- job_id:          rsync.0
  snapshot_time:   1461772761
  read_bytes:      { samples:           0, unit: bytes, min:       0, max:       0, sum:               0 }
obdfilter.work-OST0001.job_stats=
job_stats:
- job_id:          "4711"
  snapshot_time:   1688128253.497763049 secs.nsecs
  start_time:      1688120000.000000000 secs.nsecs
  elapsed_time:    8253.497763049 secs.nsecs
  read_bytes:      { samples:          10, unit: bytes, min: 4194304, max: 4194304, sum: 41943040, sumsq: 175921860444160 }
  read:            { samples:          10, unit: usecs, min: 5, max: 90, sum: 300, sumsq: 12000 }
)";

TEST(JobStats, TargetsAreAddedUpByJob) {
  const auto stats = parse_job_stats(kStats);
  ASSERT_TRUE(stats) << stats.error().message;
  ASSERT_EQ(stats->size(), 2U) << "who has read nothing is left out";
  EXPECT_EQ(stats->at("4711").bytes, 4096U + 41943040U);
  EXPECT_EQ(stats->at("4711").requests, 11U);
  EXPECT_EQ(stats->at("atlas-cache-age.1000").bytes, 2048U);
  const auto none = parse_job_stats("obdfilter.work-OST0000.job_stats=job_stats:\njob_stats:\n");
  EXPECT_TRUE(none && none->empty());
}

TEST(JobStats, WhatIsCutOffOrForeignIsAnErrorThatNamesTheLine) {
  const auto cut = parse_job_stats(kStats.substr(0, kStats.find("sum:            4096") + 18));
  ASSERT_FALSE(cut);
  EXPECT_THAT(cut.error().message, HasSubstr("line 5"));
  EXPECT_FALSE(parse_job_stats(""));
  EXPECT_FALSE(parse_job_stats("read_bytes 12 samples [bytes] 1 2 3\n"));
  EXPECT_FALSE(parse_job_stats("job_stats:\n  read_bytes: { samples: 1, unit: bytes, min: 1, max: 1, sum: 1 }\n"))
      << "whose?";
  for (const auto* values : {"{ samples: x, unit: bytes, sum: 1 }", "{ samples: 1, unit: bytes, min: 1 }",
                             "{ samples: -1, sum: 4 }", "{ samples: 1, sum: 99999999999999999999999 }", "{}", ""})
    EXPECT_FALSE(parse_job_stats("job_stats:\n- job_id: 1\n  read_bytes: " + std::string(values) + "\n")) << values;
}

TEST(JobStats, JobsAreToldFromPrograms) {
  EXPECT_EQ(slurm_job("4711"), 4711U);                 // jobid_name=%j
  EXPECT_EQ(slurm_job("4711:1000:n001"), 4711U);       // %j:%u:%H
  EXPECT_EQ(slurm_job("python3.1000"), std::nullopt);  // procname_uid, %e.%u
  EXPECT_EQ(slurm_job("7z.1000"), std::nullopt);
  EXPECT_EQ(slurm_job("42.1000"), std::nullopt) << "a program of that name";
  EXPECT_EQ(slurm_job(""), std::nullopt);
  EXPECT_EQ(slurm_job(":1000:login1"), std::nullopt);
  EXPECT_EQ(slurm_job("99999999999"), std::nullopt);
  EXPECT_TRUE(is_cache_agent("atlas-cache-age.1000"));
  EXPECT_FALSE(is_cache_agent("atlas-submit.1000"));
}

}  // namespace
}  // namespace atlas::ctl
