#include "controller/staging/releaser.h"

#include <algorithm>

#include "controller/staging/snapshot.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

// Slurm gives jobs it finds staged after a restart a start time 60 s ahead.
constexpr auto kSlurmsOwnDelay = 65s;
constexpr auto kAfterRestart = 3min;

bool same_hosts(const std::string& a, const std::string& b) {
  if (a == b) return true;
  auto left = hosts_of(a);
  auto right = hosts_of(b);
  std::sort(left.begin(), left.end());
  std::sort(right.begin(), right.end());
  return left == right;
}

WallSeconds whole_seconds(WallTime time) {
  return std::chrono::floor<std::chrono::seconds>(time);
}

}  // namespace

Releaser::Releaser(SlurmCalls& slurm, Catalog& catalog, const Clock& clock, Find find,
                   std::function<void(const Error&)> complain)
    : slurm_(slurm), catalog_(catalog), clock_(clock), find_(std::move(find)), complain_(std::move(complain)) {}

bool Releaser::begin_is_ours(const StagedJob& job, const JobRecord& record, WallTime now) const {
  if (job.row.wrote_begin && *job.row.wrote_begin == record.begin) return true;
  const bool soon = record.begin <= now + kSlurmsOwnDelay;
  if (!record.own_begin)  // Atlas never moved it: Slurm did, after a restart, or the user
    return soon && (job.was_eligible || (came_back_ != WallTime{} && now - came_back_ < kAfterRestart));
  if (soon) return true;  // warm.controller_grace
  // data_in (or job_submit, for an array) wrote "then + wait" at some time between the submit and now.
  const auto own = *record.own_begin;
  return record.begin >= std::max(record.submitted, own) + job.wait - 5s &&
         record.begin <= std::max(std::chrono::ceil<std::chrono::seconds>(now), own) + job.wait + 5s;
}

void Releaser::observe(StagedJob& job, const JobRecord& record, WallTime taken) {
  const auto nodes = job.record.req_nodes;
  const auto begin = job.record.begin;
  job.record = record;
  if (job.patching || taken <= job.patched) {  // older than what was written last
    job.record.req_nodes = nodes;
    job.record.begin = begin;
    return;
  }
  if (!job.pending()) return;
  const bool slurm_forgot = came_back_ != WallTime{} && taken - came_back_ < kAfterRestart;
  const std::string expected = job.row.wrote_req_nodes.value_or(job.nodes_before);
  if (!job.user_nodes && !same_hosts(record.req_nodes, expected)) {
    const bool lost = (slurm_forgot && same_hosts(record.req_nodes, job.nodes_before)) ||
                      (job.nodes_unless_written && same_hosts(record.req_nodes, *job.nodes_unless_written));
    if (!lost) {
      job.user_nodes = true;
      job.pin.reset();
    }
  }
  const bool ahead = record.begin > taken;
  job.user_begin = ahead && record.own_begin != record.begin && !begin_is_ours(job, record, taken);
  if (job.released && !ahead) job.was_eligible = true;
}

void Releaser::bring(StagedJob& job, std::function<void()> settled) {
  if (job.patching) return;  // what it finds when it is done decides
  const auto now = clock_.wall();
  JobPatch patch;
  patch.job_id = job.row.key.job_id;
  if (job.pin && !job.user_nodes && !same_hosts(job.record.req_nodes, *job.pin)) patch.req_nodes = *job.pin;
  const auto start = std::max(whole_seconds(now), job.record.own_begin.value_or(WallSeconds{}));
  if (job.released && job.record.begin > start + 1s && begin_is_ours(job, job.record, now)) patch.begin = start;
  if (!job.pending() || (!patch.req_nodes && !patch.begin)) {
    if (settled) settled();
    return;
  }
  // The intent first: after a crash in between, what is found in Slurm's record is recognised as ours.
  if (patch.req_nodes) {
    if (!job.row.wrote_req_nodes) job.nodes_before = job.record.req_nodes;
    job.nodes_unless_written = job.record.req_nodes;
    job.row.wrote_req_nodes = *patch.req_nodes;
  }
  if (patch.begin) job.row.wrote_begin = *patch.begin;
  if (auto ok = catalog_.put_job(job.row); !ok) complain_(ok.error());
  job.patching = true;
  slurm_.apply(patch, [this, key = job.row.key, patch, settled = std::move(settled)](const Status& status) {
    applied(key, patch, status, settled);
  });
}

void Releaser::hold_back(StagedJob& job, WallTime until, std::chrono::milliseconds margin) {
  const auto now = clock_.wall();
  const WallTime begin = job.record.begin;
  if (job.patching || job.taking_back || job.user_begin || job.record.held || !job.pending()) return;
  if (begin <= now || begin > now + margin || begin + 5s > until || !begin_is_ours(job, job.record, now)) return;
  if (job.record.own_begin && *job.record.own_begin == job.record.begin) return;  // not moved by Atlas (yet)
  JobPatch patch;
  patch.job_id = job.row.key.job_id;
  patch.begin = std::chrono::ceil<std::chrono::seconds>(until);
  job.row.wrote_begin = *patch.begin;
  if (auto ok = catalog_.put_job(job.row); !ok) complain_(ok.error());
  job.patching = true;
  slurm_.apply(patch, [this, key = job.row.key, patch](const Status& status) { applied(key, patch, status, {}); });
}

void Releaser::take_back(StagedJob& job, WallTime until) {
  if (job.patching || !job.pending()) return;
  JobPatch patch;
  patch.job_id = job.row.key.job_id;
  if (!job.user_nodes && !job.record.req_nodes.empty()) {
    job.nodes_unless_written = job.record.req_nodes;
    patch.req_nodes = job.row.wrote_req_nodes = "";
  }
  job.pin.reset();
  job.taking_back = true;
  job.was_eligible = false;
  if (!job.user_begin) patch.begin = job.row.wrote_begin = std::chrono::ceil<std::chrono::seconds>(until);
  if (auto ok = catalog_.put_job(job.row); !ok) complain_(ok.error());
  if (!patch.req_nodes && !patch.begin) {
    job.taking_back = false;
    return;
  }
  job.patching = true;
  slurm_.apply(patch, [this, key = job.row.key, patch](const Status& status) {
    if (auto* same = find_(key); same != nullptr && status) same->taking_back = false;
    applied(key, patch, status, {});
  });
}

void Releaser::applied(const JobKey& key, const JobPatch& patch, const Status& status,
                       const std::function<void()>& settled) {
  auto* job = find_(key);
  if (job == nullptr) return;
  job->patching = false;
  job->patched = clock_.wall();
  if (status) {
    if (patch.req_nodes) {
      job->record.req_nodes = *patch.req_nodes;
      job->nodes_unless_written.reset();
    }
    if (patch.begin) job->record.begin = *patch.begin;
    return bring(*job, settled);  // the target may have moved meanwhile
  }
  const auto code = status.error().code;
  const bool gone = code == Code::not_found || code == Code::failed_precondition;
  if (!gone) complain_(status.error().in("job " + std::to_string(key.job_id)));
  const bool retry_without_pin = !gone && code != Code::unavailable && patch.req_nodes && !patch.req_nodes->empty();
  if (retry_without_pin) {  // Slurm does not want the job there: it must start all the same
    job->row.wrote_req_nodes.reset();
    job->nodes_unless_written.reset();
    job->pin.reset();
    job->row.reason = "Slurm refused " + *patch.req_nodes + ": " + status.error().message;
    return bring(*job, settled);
  }
  if (settled) settled();
}

void Releaser::release_task(const StagedJob& array, const JobRecord& task) {
  const auto now = clock_.wall();
  const auto start = std::max(whole_seconds(now), task.own_begin.value_or(WallSeconds{}));
  if (task.begin <= start + 1s || !begin_is_ours(array, task, now)) return;
  JobPatch patch;
  patch.job_id = task.id;
  patch.begin = start;
  slurm_.apply(patch, [this, id = task.id](const Status& status) {
    if (!status && status.error().code != Code::not_found && status.error().code != Code::failed_precondition)
      complain_(status.error().in("array task " + std::to_string(id)));
  });
}

}  // namespace atlas
