#include "launcher/ui_job.h"

#include <csignal>
#include <ctime>

#include "common/percent.h"
#include "launcher/ui_json.h"
#include "launcher/ui_plan.h"
#include "proto/convert.h"

namespace atlas {
namespace {

/// How long a lost controller is called again, and how long a job may be unknown to it after its submission.
constexpr int kRetries = 30;
constexpr std::chrono::seconds kRetryEvery{1};

std::string clock_time(std::int64_t epoch_seconds) {
  const std::time_t time = epoch_seconds;
  std::tm parts{};
  localtime_r(&time, &parts);
  char text[16];
  return {text, std::strftime(text, sizeof text, "%H:%M:%S", &parts)};
}

std::string what_of(const v1::JobStatus& job) {
  const std::string nodes = printable(job.nodes());
  const std::string on = nodes.empty() ? "" : " on " + nodes;
  switch (job.phase()) {
    case v1::JobStatus::PHASE_QUEUED:
      return "queued";
    case v1::JobStatus::PHASE_SURVEYING:
      return "looking at the data";
    case v1::JobStatus::PHASE_WAITING:
      return "waiting for " + (nodes.empty() ? "nodes that hold the data" : nodes);
    case v1::JobStatus::PHASE_WARMING:
      return "warming" + on;
    case v1::JobStatus::PHASE_READY:
      return "data ready" + on + ", waiting for Slurm to start it";
    case v1::JobStatus::PHASE_RUNNING:
      return "running" + on;
    case v1::JobStatus::PHASE_ENDED:
      return "ended" + on;
    default:
      return "in an unknown phase";
  }
}

std::string row(std::string_view title, const std::string& value) {
  return "  " + std::string(title) + std::string(12 - title.size(), ' ') + value + "\n";
}

/// Waits a moment; true when a signal came.
bool pause_interrupted() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  const timespec time{kRetryEvery.count(), 0};
  return sigtimedwait(&set, nullptr, &time) > 0;
}

}  // namespace

std::string job_line(const v1::JobStatus& job) {
  const std::string reason = printable(job.reason());
  // "warming n001: no node has the data yet" says already what is being done.
  const bool says_it = job.phase() == v1::JobStatus::PHASE_WARMING && reason.starts_with("warming ");
  std::string out = "job " + std::to_string(job.job().job_id()) + ": " + (says_it ? reason : what_of(job));
  if (job.phase() == v1::JobStatus::PHASE_ENDED && !job.slurm_state().empty())
    out += " (" + printable(job.slurm_state()) + ")";
  if (job.phase() == v1::JobStatus::PHASE_RUNNING && job.waited() > 0)
    out += ", waited " + format_duration(milliseconds(job.waited())) + " for the cache";
  if (!reason.empty() && !says_it && job.phase() != v1::JobStatus::PHASE_ENDED &&
      job.phase() != v1::JobStatus::PHASE_SURVEYING)
    out += ": " + reason;
  const bool held = job.phase() == v1::JobStatus::PHASE_SURVEYING || job.phase() == v1::JobStatus::PHASE_WAITING ||
                    job.phase() == v1::JobStatus::PHASE_WARMING;
  if (held && job.deadline() > 0) out += "; starts at " + clock_time(job.deadline()) + " at the latest";
  return out;
}

/// What the kernel reads by itself, of complete replicas and of large files, nobody counts: that is not 0.
std::string hits_text(const v1::Receipt& receipt) {
  if (receipt.has_hit_bytes()) return ", " + format_size(Bytes{receipt.hit_bytes()}) + " of reads found on the nodes";
  return receipt.outcome().empty() || receipt.outcome() == "cold" ? "" : ", reads found on the nodes not counted";
}

std::string receipt_text(const v1::JobStatus& job) {
  if (!job.has_receipt()) return "";
  const auto& r = job.receipt();
  std::string out = "receipt of job " + std::to_string(job.job().job_id()) + "\n";
  out += row("nodes", r.nodes().empty() ? "-" : printable(r.nodes()));
  out += row("data", printable(r.outcome()) + ": " + format_size(Bytes{r.resident_bytes()}) + " on the nodes, " +
                         format_size(Bytes{r.origin_bytes()}) + " read from the origin by Atlas" +
                         (r.peer_bytes() == 0 ? "" : ", " + format_size(Bytes{r.peer_bytes()}) + " from other nodes") +
                         hits_text(r));
  out += row("waited", format_duration(milliseconds(r.waited())) + " for the cache");
  if (r.throttled() > 0)
    out += row("throttled", format_duration(milliseconds(r.throttled())) + ", " +
                                format_size(Bytes{r.throttled_bytes()}) + " of its reads had to wait for limits");
  if (r.bypass_bytes() > 0) out += row("past Atlas", format_size(Bytes{r.bypass_bytes()}) + " read from origins");
  if (r.started() > 0 && r.ended() >= r.started())
    out += row("ran", r.ended() == r.started() ? "under a second"
                                               : format_duration(std::chrono::seconds(r.ended() - r.started())));
  if (const auto plan = plan_and_outcome(job); !plan.empty()) out += row("planned", plan);
  if (!r.reason().empty()) out += row("why", printable(r.reason()));
  return out;
}

ProgressRow row_of(const v1::Progress& progress, const Config& config) {
  auto state = from_wire(progress);
  auto path = path_of(config, state.dataset);
  return {std::move(path), std::move(state)};
}

void JobView::show(const v1::JobStatus& job) {
  std::string changes = std::to_string(job.phase()) + job.nodes();
  if (changes != last_) view_.note(job_line(job));
  last_ = std::move(changes);
  std::vector<ProgressRow> rows;
  for (const auto& progress : job.warming()) rows.push_back(row_of(progress, config_));
  view_.show(rows);
  if (job.phase() != v1::JobStatus::PHASE_ENDED) return;
  ended_ = true;
  view_.leave();
  auto receipt = receipt_text(job);
  if (!receipt.empty()) receipt.pop_back();
  if (!receipt.empty()) view_.note(receipt);
}

int follow_job(const std::string& tool, const Config& config, std::uint32_t job_id, bool json) {
  hold_signals();
  const std::string id = std::to_string(job_id);
  auto client = ControllerClient::make(config);
  if (!client) return report(tool, client.error());
  const SystemClock clock;
  ProgressView view(terminal_of(2), clock, print_err);
  JobView job_view(config, view);
  bool seen = false, ended = false;
  std::string last_line;
  v1::WatchJobRequest request;
  request.set_job_id(job_id);
  request.set_follow(true);
  for (int tries = 0;; ++tries) {
    const auto end = (*client)->watch(&ControllerClient::Async::WatchJob, "Controller.WatchJob", request,
                                      [&](const v1::JobStatus& job) {
                                        seen = true;
                                        tries = 0;
                                        ended = job.phase() == v1::JobStatus::PHASE_ENDED;
                                        if (json) {
                                          auto line = dump_line(to_json(job, config));
                                          if (line != last_line) print_out(line);
                                          last_line = std::move(line);
                                        } else {
                                          job_view.show(job);
                                        }
                                      });
    if (ended) return kExitOk;
    const bool again = end.status || (seen && end.status.error().code == Code::unavailable) ||
                       (!seen && end.status.error().code == Code::not_found);
    if (end.interrupted || (again && tries < kRetries && pause_interrupted())) {
      view.leave();
      print_err(tool + ": job " + id + " goes on; look again with: atlasctl job show --follow " + id +
                "    end it with: scancel " + id + "\n");
      return kExitOk;
    }
    if (again && tries < kRetries) continue;
    view.leave();
    const std::string why = end.status ? "the controller ended the report" : end.status.error().message;
    print_err(tool + ": cannot follow job " + id + ": " + why +
              "\nThe job is not touched by this; look at it with: squeue -j " + id + "\n");
    return kExitFailed;
  }
}

}  // namespace atlas
