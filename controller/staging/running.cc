#include <algorithm>

#include "controller/staging/staging.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

constexpr auto kReceiptWaits = 5s;
constexpr auto kFillAgainAfter = 60s;

}  // namespace

void Staging::runs(StagedJob& job, const JobRecord& record) {
  const auto nodes = hosts_of(record.nodes);
  if (job.ending || nodes.empty()) return;
  if (job.row.phase != JobPhase::running || job.row.nodes != nodes) note_nodes(job, nodes);
  plan_on(job, nodes, true);
  if (record.state == JobState::running) fill(job);
}

void Staging::note_nodes(StagedJob& job, const std::vector<std::string>& nodes) {
  drop_parts(job, false);
  if (job.row.phase == JobPhase::waiting && job.wait.count() > 0) job.row.waited = job.held(parts_.clock.wall());
  if (job.row.phase != JobPhase::running) job.got_nodes = parts_.clock.wall();
  job.row.phase = JobPhase::running;
  job.row.nodes = nodes;
  job.row.array = false;
  job.row.cold = job.datasets.empty() || !std::all_of(nodes.begin(), nodes.end(), [&](const std::string& node) {
                   return std::all_of(job.datasets.begin(), job.datasets.end(),
                                      [&](const DatasetId& id) { return parts_.registry.complete_on(node, id); });
                 });
  touch(job);
  answer_hook(job.row.key.job_id, true, job.row.reason);
  for (const auto& node : leases_.nodes_of(job.row.key.job_id))
    if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) leases_.release(node, job.row.key);
}

void Staging::plan_on(StagedJob& job, const std::vector<std::string>& nodes, bool hard) {
  if (job.hopeless || job.datasets.empty()) return;
  for (const auto& node : nodes)
    if (parts_.registry.find(node) != nullptr) leases_.plan(node, plan_order(job), hard);
}

/// The cache fills while the job runs, on the nodes that do not hold the data yet.
void Staging::fill(StagedJob& job) {
  if (job.hopeless) return;
  const auto now = parts_.clock.now();
  for (const auto& node : job.row.nodes) {
    const auto* agent = parts_.registry.find(node);
    if (agent == nullptr || !agent->in_service() || !job.filled.insert(node).second) continue;
    const bool missing = std::any_of(job.datasets.begin(), job.datasets.end(),
                                     [&](const DatasetId& id) { return !parts_.registry.complete_on(node, id); });
    const bool failed = std::any_of(job.datasets.begin(), job.datasets.end(), [&](const DatasetId& id) {
      const auto at = fill_failed_.find({node, id, job.row.uid});
      return at != fill_failed_.end() && now - at->second < kFillAgainAfter;
    });
    if (missing && !failed) prefetch(job, {node});
  }
}

/// The walk that a job's attach needs, if none will do that was made before, begins now, on its nodes.
void Staging::look_again(StagedJob& job) {
  if (job.hopeless) return;
  const auto oldest = parts_.clock.wall() - parts_.config.warm.revalidate / 2;
  bool fresh = true;
  for (const auto& id : job.datasets) {
    const auto newest = parts_.registry.newest(id);
    const auto policy = parts_.datasets.policy_of(id);
    if (policy.revalidate == Revalidate::never || job.request.on_change == OnChange::keep) continue;
    const auto since = policy.revalidate == Revalidate::ttl ? parts_.clock.wall() - policy.revalidate_after / 2
                                                            : std::max(oldest, job.asked(policy));
    fresh = fresh && newest && newest->observed > since;
  }
  if (!fresh) prefetch(job, job.row.nodes);
}

/// It may have begun and ended since the queue was looked at.
void Staging::note_missed_run(StagedJob& job) {
  const bool over = job.record.state == JobState::ended || job.record.state == JobState::completing;
  if (const auto nodes = hosts_of(job.record.nodes);
      over && !job.ending && !nodes.empty() && job.row.phase != JobPhase::running)
    note_nodes(job, nodes);
}

void Staging::end_all(const std::vector<StagedJob*>& over) {
  if (over.empty()) return;
  for (auto* job : over) note_missed_run(*job);
  if (followers_.look(jobs_, parts_.registry, parts_.clock.now())) tell_what_is_wanted();
  for (auto* job : over) end(*job, "");
}

void Staging::end(StagedJob& job, const std::string& reason) {
  if (job.ending) return;
  note_missed_run(job);
  const bool ran = job.row.phase == JobPhase::running;
  drop_parts(job, !ran);
  job.ending = true;
  outlook_.forget(job.row.key.job_id);
  job.ending_since = parts_.clock.now();
  if (ran) {
    job.receipt.nodes = job.row.nodes;
    job.receipt.started = job.record.start;
  }
  const auto now = std::chrono::floor<std::chrono::seconds>(parts_.clock.wall());
  job.receipt.ended = job.record.state == JobState::ended && job.record.end.time_since_epoch().count() > 0
                          ? std::min(job.record.end, now)
                          : now;
  if (!reason.empty() && job.row.reason.empty()) job.row.reason = reason;
  answer_hook(job.row.key.job_id, true, "the job has ended");
  for (const auto& node : leases_.nodes_of(job.row.key.job_id)) {
    job.releasing.insert(node);
    leases_.release(node, job.row.key, [this, key = job.row.key, node](const ReleaseOutcome& outcome) {
      released_on(key, node, outcome);
    });
  }
  if (job.releasing.empty()) return finish(job);
  parts_.strand.post_after(kReceiptWaits, [this] { finish_endings(); });
}

void Staging::released_on(const JobKey& key, const std::string& node, const ReleaseOutcome& outcome) {
  auto* job = find(key);
  if (job == nullptr || !job->ending) return;  // the receipt has been written without it
  job->releasing.erase(node);
  for (const auto& dataset : outcome.datasets) {
    ++(dataset.attached == ReplicaState::complete  ? job->attached
       : dataset.attached == ReplicaState::partial ? job->read_through
       : dataset.reason.empty()                    ? job->untouched
                                                   : job->not_attached);
    if (dataset.attached != ReplicaState::absent) job->receipt.resident += dataset.resident;
    if (dataset.attached != ReplicaState::absent && !dataset.hit) job->hits_counted = false;
    if (dataset.hit) job->receipt.hit = job->receipt.hit.value_or(Bytes{}) + *dataset.hit;
    job->receipt.origin += dataset.origin;
    job->receipt.peers += dataset.peers;
    if (!dataset.reason.empty() && job->receipt.reason.empty()) job->receipt.reason = node + ": " + dataset.reason;
  }
  job->receipt.throttled += outcome.throttled;
  job->receipt.throttled_bytes += outcome.throttled_bytes;
  job->receipt.bypass += outcome.bypass;
  if (job->releasing.empty()) finish(*job);
}

void Staging::finish_endings() {
  std::vector<JobKey> over;
  for (const auto& [id, job] : jobs_)
    if (job->ending && parts_.clock.now() - job->ending_since >= kReceiptWaits) over.push_back(job->row.key);
  for (const auto& key : over)
    if (auto* job = find(key); job != nullptr) finish(*job);
}

void Staging::count(const Receipt& receipt) {
  ++totals_.jobs[receipt.outcome.empty() ? "not started" : receipt.outcome];
  totals_.hit += receipt.hit.value_or(Bytes{});
  totals_.origin += receipt.origin;
  totals_.peers += receipt.peers;
  totals_.waited += receipt.waited;
  totals_.throttled += receipt.throttled;
  totals_.throttled_bytes += receipt.throttled_bytes;
  totals_.bypass += receipt.bypass;
}

void Staging::finish(StagedJob& job) {
  auto& receipt = job.receipt;
  receipt.waited = job.row.waited;
  const bool ran = !receipt.nodes.empty();
  // Nodes where no task of a larger job ran say nothing about what it got.
  const auto on_nodes = job.attached + job.read_through;
  if (on_nodes == 0) job.not_attached += job.untouched;
  if (ran && on_nodes + job.not_attached > 0) {
    receipt.outcome = on_nodes == 0           ? "cold"
                      : job.not_attached != 0 ? "mixed"
                      : job.read_through != 0 ? "partial"
                                              : "warm";
  } else if (ran) {
    receipt.outcome = job.row.cold ? "cold" : "warm";
  }
  if (receipt.outcome == "warm" || receipt.reason.empty()) receipt.reason = job.row.reason;
  if (!job.hits_counted) receipt.hit.reset();  // a part of them would pass for all
  if (!ran) receipt.reason = "it never started" + (receipt.reason.empty() ? "" : "; " + receipt.reason);
  job.row.phase = JobPhase::ended;
  save(job);
  if (auto ok = parts_.catalog.put_receipt(job.row.key, receipt); !ok) parts_.log.warn(ok.error().message);
  parts_.log.info("job " + std::to_string(job.row.key.job_id) + " (" + job.row.user +
                  ") ended: " + (receipt.outcome.empty() ? "not started" : receipt.outcome) + ", " +
                  format_size(receipt.resident) + " resident, " + format_size(receipt.origin) + " from the origin");
  count(receipt);
  watchers_.finish(view_of(job));
  jobs_.erase(job.row.key.job_id);
  if (++ended_ % kPruneEvery == 0) {
    if (auto ok = parts_.catalog.prune_jobs(kKeptJobs); !ok) parts_.log.warn(ok.error().message);
  }
}

}  // namespace atlas
