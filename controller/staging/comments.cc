// One short line in Slurm's record of a job that waits for its data: squeue and scontrol show it to everybody who
// wonders why it does not start.
#include <algorithm>

#include "common/hostlist.h"
#include "common/percent.h"
#include "controller/staging/staging.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kOurs = "atlas: ";
// Each is an update of a job in slurmctld, a few milliseconds.
constexpr auto kAgainAfter = 10s;
constexpr int kAtATime = 5;

}  // namespace

std::string Staging::comment_of(const StagedJob& job) const {
  std::string data = job.datasets.empty() ? "its data" : parts_.datasets.label_of(job.datasets.front());
  if (job.datasets.size() > 1) data += " and " + std::to_string(job.datasets.size() - 1) + " more";
  const auto nodes = compress_hostlist(job.row.nodes);
  switch (job.row.phase) {
    case JobPhase::surveying:
      return std::string(kOurs) + "looking at " + data;
    case JobPhase::waiting:
      return std::string(kOurs) + "waiting for " + (nodes.empty() ? "nodes" : nodes) + ", with " + data;
    case JobPhase::warming: {
      Bytes done, total;
      std::chrono::milliseconds eta{0};
      for (const auto& part : job.parts)
        if (const auto* progress = warmups_.progress(part.node, job.datasets[part.dataset])) {
          done += progress->bytes_done;
          total += progress->bytes_total;
          eta = std::max(eta, progress->eta);
        }
      const auto percent = total.count == 0 ? 0 : std::min<std::uint64_t>(100, 100 * done.count / total.count);
      std::string text = std::string(kOurs) + data + " " + std::to_string(percent) + "% warm on " + nodes;
      if (eta.count() > 0) text += ", ready in " + format_duration(std::chrono::ceil<std::chrono::seconds>(eta));
      return text;
    }
    default:
      return std::string(kOurs) + (job.row.cold ? "starts on the origin" : data + " is on " + nodes);
  }
}

void Staging::write_comments() {
  const auto now = parts_.clock.now();
  int left = kAtATime;
  for (const auto& [id, job] : jobs_) {
    const bool ours = job->record.comment.starts_with(kOurs);
    if (!job->pending() || job->patching || !(ours || job->record.comment.empty())) continue;
    // A job that starts at once needs no word; one that had some is told how it ended.
    const bool waits = job->wait.count() > 0 && (!job->released || job->row.phase == JobPhase::waiting) &&
                       job->row.phase != JobPhase::queued;
    if (!waits && !(ours && job->released)) continue;
    if (job->commented == SteadyTime{}) job->commented = now;  // not in the first seconds, either
    if (now - job->commented < kAgainAfter) continue;
    JobPatch patch;
    patch.job_id = id;
    patch.comment = printable(comment_of(*job));
    if (*patch.comment == job->record.comment) continue;
    job->commented = now;
    slurm_.apply(patch, [](const Status&) {});  // nothing depends on it
    if (--left == 0) return;
  }
}

}  // namespace atlas
