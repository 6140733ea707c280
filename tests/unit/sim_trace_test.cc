#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "sim/experiment.h"
#include "sim/workload.h"

namespace atlas::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Result<Workload> csv(const std::string& text) {
  std::istringstream in(text);
  return read_csv(in);
}

TEST(Trace, CsvNamesItsColumnsAndDatasets) {
  const auto read =
      csv("# a comment\n"
          "job,user,submit,nodes,cpus,runtime,limit,datasets\n"
          "b,bob,100,2,32,1h,2h,noise;speech=10G\n");
  ASSERT_FALSE(read) << "noise has no size";
  EXPECT_THAT(read.error().message, HasSubstr("line 3: dataset 'noise' has no size yet"));
  const auto workload =
      csv("user,submit,nodes,cpus,runtime,limit,datasets\r\n"
          "bob,130,2,32,1h,2h,noise=1G;speech=10G\r\n"
          "\n"
          "alice,100,1,4,60,,speech\n");
  ASSERT_TRUE(workload) << workload.error().message;
  ASSERT_EQ(workload->jobs.size(), 2U);
  EXPECT_EQ(workload->jobs[0].submit.count(), 0) << "by submit time, from the first on";
  EXPECT_THAT(workload->users, ElementsAre("bob", "alice"));
  EXPECT_EQ(workload->jobs[0].limit.count(), 60) << "without a limit the run time";
  EXPECT_EQ(workload->jobs[1].submit.count(), 30);
  EXPECT_EQ(workload->jobs[1].runtime.count(), 3600);
  EXPECT_THAT(workload->jobs[1].datasets, ElementsAre(0U, 1U));
  EXPECT_THAT(workload->jobs[0].datasets, ElementsAre(1U));
  EXPECT_EQ(workload->datasets[1].size, Bytes{10 * kGiB.count});
}

TEST(Trace, MalformedCsvIsRefusedWithItsLine) {
  const std::string header = "submit,runtime,nodes,datasets\n";
  for (const std::string line : {"x,1,1,", "1,-5,1,", "1,1,0,", "1,1,1,=5G", "1,1,nan,", "1,inf,1,", "1"}) {
    const auto read = csv(header + line + "\n");
    ASSERT_FALSE(read) << line;
    EXPECT_THAT(read.error().message, HasSubstr("line 2")) << line;
  }
  EXPECT_THAT(csv("submit,nodes\n1,1\n").error().message, HasSubstr("no column 'runtime'"));
  EXPECT_THAT(csv(header + "0,1,1,a=1G\n0,1,1,a=2G\n").error().message, HasSubstr("another size"));
  EXPECT_THAT(csv(header).error().message, HasSubstr("no job"));
}

TEST(Trace, SwfSpreadsProcessorsOverNodesAndGivesAProgramItsDataset) {
  std::istringstream in(
      "; UnixStartTime: 0\n"
      "1 100 5 3600 128 -1 -1 128 7200 -1 1 7 1 3 1 1 -1 -1\n"
      "2 160 5 0 64 -1 -1 64 7200 -1 5 7 1 3 1 1 -1 -1\n"
      "3 200 5 60 10 -1 -1 10 -1 -1 1 7 1 3 1 1 -1 -1\n");
  const auto read = read_swf(in, 64, {});
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->jobs.size(), 2U) << "the second never ran";
  EXPECT_EQ(read->jobs[0].nodes, 2U);
  EXPECT_EQ(read->jobs[0].cpus, 64U);
  EXPECT_EQ(read->jobs[0].limit.count(), 7200);
  EXPECT_EQ(read->jobs[1].cpus, 10U);
  EXPECT_EQ(read->jobs[1].limit.count(), 60) << "no limit on record";
  EXPECT_EQ(read->jobs[0].datasets, read->jobs[1].datasets) << "same user, same program";
  ASSERT_EQ(read->jobs[0].datasets.size(), 1U);
  std::istringstream broken("1 2 3\n");
  EXPECT_THAT(read_swf(broken, 64, {}).error().message, HasSubstr("line 1: 3 fields"));
}

TEST(Trace, SacctIsReadAsSlurmPrintsIt) {
  std::istringstream in(
      "JobIDRaw|User|JobName|Submit|NNodes|NCPUS|ElapsedRaw|TimelimitRaw\n"
      "11|alice|train|2026-11-22T23:59:00|2|16|600|30\n"
      "12|bob|train|2026-11-23T00:01:00|1|8|60|UNLIMITED\n"
      "13|bob|train|2026-11-23T00:02:00|0|0|0|30\n");
  const auto read = read_sacct(in, {});
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->jobs.size(), 2U);
  EXPECT_EQ(read->jobs[0].cpus, 8U);
  EXPECT_EQ(read->jobs[0].limit.count(), 1800);
  EXPECT_EQ(read->jobs[1].submit.count(), 120) << "over midnight";
  std::istringstream wrong("JobID|State\n1|COMPLETED\n");
  EXPECT_THAT(read_sacct(wrong, {}).error().message, HasSubstr("-o JobIDRaw"));
}

TEST(Policies, AreMadeFromWhatTheUserTypes) {
  const Site site;
  const Workload none;
  for (const auto* good : {"blind", "prefer", "delay=5m", "atlas", "atlas,stall=2,evict=queue", "oracle,patience=1h"})
    EXPECT_TRUE(make_policy(good, site, none)) << good;
  for (const auto* bad :
       {"", "blinde", "delay=", "delay=x", "atlas,", "atlas,stall=-1", "atlas,foo=1", "atlas,evict=fifo"})
    EXPECT_EQ(make_policy(bad, site, none).error().code, Code::invalid_argument) << bad;
}

}  // namespace
}  // namespace atlas::sim
