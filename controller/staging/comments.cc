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
  if (job.wedged) return std::string(kOurs) + "lost by Slurm in a crash: scancel it and submit it again";
  // As its user has named it: other names may be other people's own.
  std::string data = job.request.datasets.empty() ? "its data" : job.request.datasets.front();
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
    case JobPhase::running:
      return std::string(kOurs) + (job.row.cold ? "started on the origin" : data + " was on " + nodes);
    default:
      if (job.row.cold) return std::string(kOurs) + "starts on the origin";
      return std::string(kOurs) + data + " is on " + (nodes.empty() ? "every node it may run on" : nodes);
  }
}

void Staging::write_comments() {
  if (comments_under_way_ > 0 || jobs_.empty()) return;  // slurmctld is slow: what matters goes first
  const auto now = parts_.clock.now();
  // From where it stopped the last time: everybody's turn comes.
  auto at = jobs_.upper_bound(last_commented_);
  for (std::size_t seen = 0; seen < jobs_.size() && comments_under_way_ < kAtATime; ++seen, ++at) {
    if (at == jobs_.end()) at = jobs_.begin();
    auto& job = *at->second;
    last_commented_ = at->first;
    const bool ours = job.record.comment.starts_with(kOurs);
    if (job.ending || job.patching || !(ours || job.record.comment.empty())) continue;
    const bool waits = job.wedged || (job.pending() && job.wait.count() > 0 && job.row.phase != JobPhase::queued &&
                                      (!job.released || job.row.phase == JobPhase::waiting));
    // A job that starts at once needs no word; one that had some is told how it ended.
    const bool last = ours && !waits && (job.released || job.row.phase == JobPhase::running);
    if (!waits && !last) continue;
    if (job.commented == SteadyTime{}) job.commented = now;  // not in the first seconds, either
    if (!last && now - job.commented < kAgainAfter) continue;
    job.commented = now;
    JobPatch patch;
    patch.job_id = at->first;
    patch.comment = printable(comment_of(job));
    if (*patch.comment == job.record.comment) continue;
    ++comments_under_way_;
    slurm_.apply(patch, [this](const Status&) { --comments_under_way_; });  // nothing depends on it
  }
}

}  // namespace atlas
