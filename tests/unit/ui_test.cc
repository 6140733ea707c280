#include "launcher/ui.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/table.h"
#include "launcher/ui_bounded.h"
#include "launcher/ui_job.h"
#include "launcher/ui_json.h"
#include "launcher/ui_progress.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

class FakeClock final : public Clock {
 public:
  [[nodiscard]] SteadyTime now() const override { return now_; }
  [[nodiscard]] WallTime wall() const override { return WallTime{}; }
  void advance(std::chrono::milliseconds by) { now_ += by; }

 private:
  SteadyTime now_{};
};

ProgressRow fetching(std::uint64_t done) {
  ProgressRow row;
  row.dataset = "/lustre/speech";
  row.state.phase = WarmPhase::fetching;
  row.state.node = "n001";
  row.state.bytes_done = Bytes{done};
  row.state.bytes_total = Bytes{1000};
  row.state.files_done = done / 100;
  row.state.files_total = 10;
  row.state.per_second = Bytes{100};
  row.state.eta = 5s;
  return row;
}

TEST(ProgressBar, ShowsEverythingThatFits) {
  const auto bar = render_bar(fetching(500), 120);
  for (const auto* part :
       {"n001  /lustre/speech  [############------------]", "50%", "500/1000", "5/10 files", "100/s", "5s left"})
    EXPECT_THAT(bar, HasSubstr(part));
}

TEST(ProgressBar, NeverGrowsWiderThanTheTerminal) {
  auto row = fetching(999);
  row.dataset = "/lustre/a/very/long/path/of/a/dataset/größer/als/die/zeile/speech";
  for (std::size_t columns = 1; columns < 200; ++columns) EXPECT_LE(display_width(render_bar(row, columns)), columns);
  EXPECT_THAT(render_bar(row, 80), HasSubstr("speech")) << "the end of a path tells it from others";
}

TEST(ProgressBar, IsFullOnlyWhenComplete) {
  auto row = fetching(1000);
  EXPECT_THAT(render_bar(row, 120), HasSubstr(" 99%"));
  EXPECT_THAT(render_bar(row, 120), HasSubstr("#-]"));
  row.state.phase = WarmPhase::complete;
  EXPECT_THAT(render_bar(row, 120), HasSubstr("100%"));
  EXPECT_THAT(render_bar(row, 120), Not(HasSubstr("-]")));
  row.state.bytes_total = Bytes{0};
  EXPECT_THAT(render_bar(row, 120), HasSubstr("100%")) << "an empty dataset";
}

TEST(ProgressBar, HostileNamesCannotMoveTheCursor) {
  auto row = fetching(1);
  row.dataset = "/l/\x1b[2J\nx";
  EXPECT_THAT(render_bar(row, 200), Not(HasSubstr("\x1b")));
  EXPECT_THAT(render_line(row), Not(HasSubstr("\n")));
}

class View : public testing::Test {
 protected:
  ProgressView make(bool live) {
    return {Terminal{live, 100}, clock_, [this](std::string_view text) { out_ += text; }};
  }
  std::string taken() { return std::exchange(out_, ""); }
  FakeClock clock_;
  std::string out_;
};

TEST_F(View, PlainSaysOnlyPhaseChangesAndEveryFewSeconds) {
  auto view = make(false);
  auto row = fetching(0);
  row.state.phase = WarmPhase::walking;
  view.show({row});
  EXPECT_THAT(taken(), HasSubstr("n001 /lustre/speech: walking"));
  view.show({fetching(100)});
  EXPECT_THAT(taken(), HasSubstr("fetching 10%, 100 of 1000, 1 of 10 files, 100/s, 5s left\n"));
  clock_.advance(1s);
  view.show({fetching(200)});
  EXPECT_THAT(taken(), IsEmpty());
  clock_.advance(5s);
  view.show({fetching(300)});
  EXPECT_THAT(taken(), HasSubstr("30%"));
  clock_.advance(60s);
  view.show({fetching(300)});
  EXPECT_THAT(taken(), IsEmpty()) << "nothing moved";
  row = fetching(1000);
  row.state.phase = WarmPhase::complete;
  row.state.origin_bytes = Bytes{600};
  row.state.peer_bytes = Bytes{400};
  view.show({row});
  EXPECT_THAT(taken(), HasSubstr("10 of 10 files, 600 read from the origin and 400 from other nodes\n"));
  EXPECT_THAT(out_, Not(HasSubstr("\x1b")));
}

TEST_F(View, LiveRedrawsItsBlockInPlace) {
  auto view = make(true);
  view.show({fetching(100), fetching(100)});
  EXPECT_THAT(taken(), Not(HasSubstr("\x1b"))) << "the first time there is nothing to erase";
  view.show({fetching(100), fetching(100)});
  EXPECT_THAT(taken(), IsEmpty()) << "unchanged";
  view.show({fetching(200), fetching(100)});
  EXPECT_THAT(taken(), StartsWith("\x1b[2F\x1b[J"));
  view.note("job 1: running");
  EXPECT_THAT(taken(), StartsWith("\x1b[2F\x1b[Jjob 1: running\n"));
  view.leave();
  view.note("end");
  EXPECT_EQ(taken(), "end\n");
}

v1::JobStatus status(v1::JobStatus::Phase phase) {
  v1::JobStatus job;
  job.mutable_job()->set_job_id(17);
  job.set_phase(phase);
  job.set_nodes("n001");
  return job;
}

TEST_F(View, AJobIsToldFromPhaseToPhaseAndEndsWithItsReceipt) {
  auto progress = make(false);
  const Config config;
  JobView view(config, progress);
  auto job = status(v1::JobStatus::PHASE_WARMING);
  job.set_reason("no node holds /lustre/speech");
  view.show(job);
  EXPECT_EQ(taken(), "job 17: warming on n001: no node holds /lustre/speech\n");
  job.set_reason("the same, a moment later");
  view.show(job);
  EXPECT_THAT(taken(), IsEmpty());
  job = status(v1::JobStatus::PHASE_RUNNING);
  job.set_waited(12000);
  view.show(job);
  EXPECT_EQ(taken(), "job 17: running on n001, waited 12s for the cache\n");
  EXPECT_FALSE(view.ended());
  job = status(v1::JobStatus::PHASE_ENDED);
  job.set_slurm_state("COMPLETED");
  job.mutable_receipt()->set_outcome("warm");
  job.mutable_receipt()->set_nodes("n001");
  job.mutable_receipt()->set_resident_bytes(183ULL << 20);
  job.mutable_receipt()->set_peer_bytes(91ULL << 20);
  job.mutable_receipt()->set_waited(12000);
  view.show(job);
  EXPECT_TRUE(view.ended());
  EXPECT_THAT(out_, HasSubstr("job 17: ended on n001 (COMPLETED)\n"));
  EXPECT_THAT(out_, HasSubstr("warm: 183M on the nodes, 0 read from the origin by Atlas, 91M from other nodes, "
                              "reads found on the nodes not counted\n"));
  job.mutable_receipt()->set_outcome("partial");
  job.mutable_receipt()->set_hit_bytes(0);
  EXPECT_THAT(receipt_text(job), HasSubstr("91M from other nodes, 0 of reads found on the nodes\n"));
  job.mutable_receipt()->clear_hit_bytes();
  job.mutable_receipt()->set_outcome("cold");
  EXPECT_THAT(receipt_text(job), HasSubstr("91M from other nodes\n"));
  EXPECT_THAT(out_, HasSubstr("12s for the cache\n"));
}

TEST(Bounded, GivesTheTextBackOrGivesUpInTime) {
  EXPECT_EQ(run_bounded(60s, [] { return std::string(100000, 'x'); }).value_or("").size(), 100000U);
  const auto begin = std::chrono::steady_clock::now();
  const auto hung = run_bounded(50ms, []() -> std::string {
    while (true) ::pause();
  });
  ASSERT_FALSE(hung);
  EXPECT_EQ(hung.error().code, Code::deadline_exceeded);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
  EXPECT_FALSE(run_bounded(60s, []() -> std::string { throw 1; }));
}

TEST(Percent, NeverRoundsUpToAll) {
  EXPECT_EQ(format_percent(Bytes{999999}, Bytes{1000000}), "99.9");
  EXPECT_EQ(format_percent(Bytes{1000000}, Bytes{1000000}), "100.0");
  EXPECT_EQ(format_percent(Bytes{2}, Bytes{1}), "100.0");
  EXPECT_EQ(format_percent(Bytes{0}, Bytes{0}), "-");
  EXPECT_EQ(format_percent(Bytes{1}, Bytes{2}), "50.0");
}

TEST(Json, NonUtf8PathsComeWithTheirExactBytes) {
  Json out;
  put_text(out, "path", "/l/\xff");
  EXPECT_EQ(dump_line(out), "{\"path\":\"/l/\\\\xFF\",\"path_encoded\":\"/l/%FF\"}\n");
  Json plain;
  put_text(plain, "path", "/l/größe");
  EXPECT_EQ(dump_line(plain), "{\"path\":\"/l/größe\"}\n");
}

TEST(Paths, AreShownBelowTheOriginsRoot) {
  Config config;
  config.origins.push_back({.name = "lustre", .root = "/lustre", .exclude = {}});
  EXPECT_EQ(path_of(config, {"lustre", "speech"}), "/lustre/speech");
  EXPECT_EQ(path_of(config, {"lustre", ""}), "/lustre");
  EXPECT_EQ(path_of(config, {"other", "x"}), "other:x");
}

}  // namespace
}  // namespace atlas
