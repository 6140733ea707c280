#include "launcher/atlas_stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace atlas {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

constexpr WallSeconds kNow{seconds(1'800'000'000)};

class TestClock final : public Clock {
 public:
  [[nodiscard]] SteadyTime now() const override { return steady; }
  [[nodiscard]] WallTime wall() const override { return kNow; }
  SteadyTime steady{};
};

/// One job in a queue: an update changes its record as slurmctld would.
class OneJobQueue final : public SlurmPort {
 public:
  JobRecord job;
  std::vector<JobPatch> patches;
  std::optional<Error> refuses;

  Result<std::string> cluster_name() override { return "test"; }
  Result<QueueSnapshot> load() override {
    return QueueSnapshot{.jobs = {job}, .nodes = {}, .partitions = {}, .taken = {}};
  }
  Result<JobRecord> load_job(std::uint32_t id) override {
    if (id != job.id) return fail(Code::not_found, "no such job");
    return job;
  }
  Status apply(const JobPatch& patch) override {
    if (refuses) return fail(*refuses);
    patches.push_back(patch);
    if (patch.begin) job.begin = *patch.begin;
    if (patch.admin_comment) {
      job.admin_comment = *patch.admin_comment;
      job.own_begin = find_own_begin(job.admin_comment);
    }
    return {};
  }
};

class AtlasStage : public testing::Test {
 protected:
  AtlasStage() {
    slurm.job.id = 7;
    slurm.job.begin = slurm.job.submitted = kNow - seconds(2);
    config.warm.max_wait = std::chrono::minutes(30);
    config.warm.controller_grace = seconds(60);
    request("w=wait,d=/lustre/speech");
  }
  void request(const std::string& fields) {
    slurm.job.burst_buffer = "#BB_LUA atlas pool=atlas capacity=1 req=v1," + fields;
  }
  void run(Hook hook = Hook::data_in) {
    run_hook(
        {slurm, config, clock,
         [this](Hook which, std::uint32_t id, milliseconds) -> Result<HookAnswer> {
           EXPECT_EQ(id, slurm.job.id);
           asked.push_back(which);
           begin_when_asked = slurm.job.begin;
           return answer();
         },
         [this](const std::string& line) { log += line + "\n"; }, [this](milliseconds time) { clock.steady += time; }},
        hook, 7);
  }

  OneJobQueue slurm;
  Config config;
  std::function<Result<HookAnswer>()> answer = [] { return HookAnswer{}; };
  std::vector<Hook> asked;
  WallSeconds begin_when_asked{};
  std::string log;
  TestClock clock;
};

TEST_F(AtlasStage, MovesTheBeginTimeToTheDeadlineBeforeItAsks) {
  run();
  EXPECT_EQ(begin_when_asked, kNow + std::chrono::minutes(30));
  EXPECT_EQ(slurm.job.begin, kNow + std::chrono::minutes(30));
  EXPECT_EQ(asked, std::vector{Hook::data_in});
}

TEST_F(AtlasStage, ReleasesAtOnceWhenTheDataIsThere) {
  answer = [] { return HookAnswer{true, "on n001"}; };
  run();
  EXPECT_EQ(slurm.job.begin, kNow);
  EXPECT_THAT(log, HasSubstr("on n001"));
}

TEST_F(AtlasStage, NeverStartsAJobBeforeTheUsersOwnBeginTime) {
  const auto own = kNow + seconds(5000);
  slurm.job.begin = own;
  answer = [] { return HookAnswer{true, ""}; };
  run();
  EXPECT_EQ(begin_when_asked, own + std::chrono::minutes(30)) << "it waits at most so long from when it could start";
  EXPECT_EQ(slurm.job.begin, own);
  EXPECT_EQ(slurm.job.own_begin, own);
}

TEST_F(AtlasStage, ARepeatedHookDoesNotProlongTheWait) {
  run();
  const auto deadline = slurm.job.begin;
  slurm.patches.clear();
  run();
  EXPECT_EQ(slurm.job.begin, deadline);
  EXPECT_TRUE(slurm.patches.empty());
  answer = [] { return HookAnswer{true, ""}; };
  run();
  EXPECT_EQ(slurm.job.begin, kNow);
}

TEST_F(AtlasStage, AControllerThatRestartsMeanwhileCostsTheJobNothing) {
  answer = [this]() -> Result<HookAnswer> {
    if (asked.size() < 3) return fail(Code::unavailable, "Socket closed");
    return HookAnswer{false, "warming n001"};
  };
  run();
  EXPECT_EQ(slurm.job.begin, kNow + std::chrono::minutes(30)) << "it still waits for its data";
  EXPECT_THAT(log, HasSubstr("warming n001"));
}

TEST_F(AtlasStage, WaitsOnlyTheGraceForAControllerThatIsAway) {
  answer = []() -> Result<HookAnswer> { return fail(Code::unavailable, "no answer from the controller at host:817"); };
  run();
  EXPECT_EQ(slurm.job.begin, kNow + seconds(60));
  EXPECT_THAT(log, HasSubstr("no answer from the controller"));
  EXPECT_THAT(log, HasSubstr("warm.controller_grace"));
  EXPECT_EQ(clock.steady, SteadyTime{} + kAskAgainFor) << "meanwhile it asks again";
}

TEST_F(AtlasStage, TheGraceIsNeverLongerThanTheJobsOwnDeadline) {
  request("l=0.9@30,d=/lustre/speech");
  answer = []() -> Result<HookAnswer> { return fail(Code::deadline_exceeded, "late"); };
  run();
  EXPECT_EQ(slurm.job.begin, kNow + seconds(30));
}

TEST_F(AtlasStage, StartsWithoutWaitingWhenTheControllerRefuses) {
  answer = []() -> Result<HookAnswer> { return fail(Code::permission_denied, "not yours"); };
  run();
  EXPECT_EQ(slurm.job.begin, kNow);
}

TEST_F(AtlasStage, LocalityWaitsAsLongAsItSaysButNotLongerThanTheSiteAllows) {
  request("l=0.9@600,d=/lustre/speech");
  run();
  EXPECT_EQ(slurm.job.begin, kNow + seconds(600));
  slurm.job = {};
  slurm.job.id = 7;
  request("l=0.9@36000,d=/lustre/speech");
  run();
  EXPECT_EQ(slurm.job.begin, kNow + std::chrono::minutes(30));
}

TEST_F(AtlasStage, WhoDoesNotWantToWaitIsOnlyReported) {
  for (const char* fields : {"d=/lustre/speech", "w=overlap,d=/lustre/speech", "l=0.9@0,d=/lustre/speech"}) {
    request(fields);
    asked.clear();
    run();
    EXPECT_EQ(asked.size(), 1U) << fields;
    EXPECT_TRUE(slurm.patches.empty()) << fields;
  }
}

TEST_F(AtlasStage, RequeuedAndHeterogeneousJobsDoNotWaitAgain) {
  slurm.job.restarts = 1;
  run();
  EXPECT_TRUE(slurm.patches.empty());
  slurm.job.restarts = 0;
  slurm.job.het_job_id = 7;
  run();
  EXPECT_TRUE(slurm.patches.empty());
  EXPECT_EQ(asked.size(), 2U);
}

TEST_F(AtlasStage, AUsersOwnDirectiveIsNoneOfItsBusiness) {
  slurm.job.burst_buffer = "#BB_LUA capacity=5";
  run();
  EXPECT_TRUE(asked.empty());
  EXPECT_TRUE(slurm.patches.empty());
}

TEST_F(AtlasStage, AMalformedRequestDelaysNothing) {
  request("w=wait,d=/x,q=1");
  run();
  EXPECT_TRUE(slurm.patches.empty());
  EXPECT_EQ(asked.size(), 1U) << "the controller keeps the reason";
  EXPECT_THAT(log, HasSubstr("malformed"));
}

TEST_F(AtlasStage, KeepsWhatTheAdminCommentSays) {
  slurm.job.admin_comment = "ticket 12";
  run();
  EXPECT_THAT(slurm.job.admin_comment, testing::StartsWith("ticket 12 "));
}

TEST_F(AtlasStage, AnUpdateThatSlurmRefusesLeavesTheJobFreeToStart) {
  slurm.refuses = Error{Code::unknown, "updating job 7: no", 0};
  run();
  EXPECT_EQ(slurm.job.begin, kNow - seconds(2));
  EXPECT_EQ(asked.size(), 1U);
  EXPECT_THAT(log, HasSubstr("not held back"));
}

TEST_F(AtlasStage, LaterHooksAskAndTouchNothing) {
  answer = []() -> Result<HookAnswer> { return fail(Code::unavailable, "away"); };
  run(Hook::pre_run);
  run(Hook::teardown);
  EXPECT_EQ(asked, (std::vector{Hook::pre_run, Hook::teardown}));
  EXPECT_TRUE(slurm.patches.empty());
}

TEST(AtlasStageHooks, LeaveTimeForSlurmBesideTheController) {
  for (const Hook hook : {Hook::data_in, Hook::pre_run, Hook::teardown}) {
    EXPECT_LT(ask_timeout(hook), life_time(hook));
    EXPECT_EQ(parse_hook(name_of(hook)), hook);
  }
  EXPECT_EQ(parse_hook("data_out"), std::nullopt);
}

}  // namespace
}  // namespace atlas
