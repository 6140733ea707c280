#include <algorithm>

#include "common/hostlist.h"
#include "controller/staging/staging.h"

namespace atlas {
namespace {

constexpr std::chrono::milliseconds kTick{400};

std::string_view text_of(JobState state) {
  switch (state) {
    case JobState::pending:
      return "PENDING";
    case JobState::configuring:
      return "CONFIGURING";
    case JobState::running:
      return "RUNNING";
    case JobState::suspended:
      return "SUSPENDED";
    case JobState::completing:
      return "COMPLETING";
    case JobState::ended:
      return "";
  }
  return "";
}

}  // namespace

JobView Staging::view_of(const StagedJob& job) const {
  JobView view{job.row, job.datasets, {}, std::nullopt, std::string(text_of(job.record.state))};
  if (!job.record.outcome.empty() && job.row.phase == JobPhase::ended) view.slurm_state = job.record.outcome;
  if (job.pending()) {
    if (!job.record.state_reason.empty() && job.record.state_reason != "None")
      view.slurm_state += " (" + job.record.state_reason + ")";
    if (!job.released && job.wait.count() > 0) view.row.waited = job.held(parts_.clock.wall());
    if (job.wedged)
      view.row.reason = "slurmctld was killed while it staged the job in, and Slurm will not go on with it: scancel " +
                        std::to_string(job.row.key.job_id) + ", and submit it again";
  }
  for (const auto& part : job.parts)
    if (const auto* progress = warmups_.progress(part.node, job.datasets[part.dataset]))
      view.warming.push_back(*progress);
  if (job.row.phase == JobPhase::ended) view.receipt = job.receipt;
  view.plan = job.plan;
  return view;
}

std::vector<JobView> Staging::jobs() const {
  std::vector<JobView> out;
  for (const auto& [id, job] : jobs_) out.push_back(view_of(*job));
  return out;
}

void Staging::find_job(std::uint32_t job_id, std::function<void(Result<JobView>)> done) {
  if (const auto at = jobs_.find(job_id); at != jobs_.end()) return done(view_of(*at->second));
  const auto stored = parts_.catalog.newest_attempt(job_id);
  slurm_.load_job(job_id, [this, job_id, stored, done = std::move(done)](const Result<JobRecord>& record) {
    const bool live = record && record->state != JobState::ended && record->state != JobState::completing;
    StagedJob* job = nullptr;
    if (const auto at = jobs_.find(job_id); at != jobs_.end()) {
      job = at->second.get();
    } else if (live && record->uid != 0) {
      job = adopt(*record);
      if (job != nullptr) poll();
    }
    if (job != nullptr) return done(view_of(*job));
    if (stored && *stored) {
      JobView view{(*stored)->job, {}, {}, (*stored)->receipt, ""};
      if (auto plan = parts_.catalog.plan_of(view.row.key)) view.plan = std::move(*plan);
      if (record && record->submitted == view.row.key.submitted) view.slurm_state = record->outcome;
      if (const auto request = decode_request(view.row.request))
        for (const auto& name : request->datasets)
          if (auto dataset = parts_.datasets.resolve(name)) view.datasets.push_back(*dataset);
      return done(std::move(view));
    }
    if (!record && record.error().code != Code::not_found) return done(fail(record.error()));
    done(fail(Code::not_found, "job " + std::to_string(job_id) +
                                   " is not known to Atlas: it asked for no dataset, or ended long ago (atlasctl job "
                                   "list --all)"));
  });
}

void Staging::watch(std::uint32_t job_id, Watchers::Watcher watcher) {
  const auto at = jobs_.find(job_id);
  if (at == jobs_.end()) return watcher.done({});  // ended while it was looked up
  if (!watcher.show(view_of(*at->second))) return;
  watchers_.add(job_id, std::move(watcher));
  if (std::exchange(ticking_, true)) return;
  parts_.strand.post_after(kTick, [this] { tick_watchers(); });
}

void Staging::tick_watchers() {
  for (const auto id : watchers_.jobs())
    if (const auto at = jobs_.find(id); at != jobs_.end()) watchers_.show(view_of(*at->second));
  ticking_ = !watchers_.empty();
  if (ticking_) parts_.strand.post_after(kTick, [this] { tick_watchers(); });
}

bool Staging::used_by_other(const DatasetId& dataset, std::uint32_t uid) const {
  return std::any_of(jobs_.begin(), jobs_.end(), [&](const auto& entry) {
    const auto& job = *entry.second;
    return !job.ending && job.row.uid != uid &&
           std::find(job.datasets.begin(), job.datasets.end(), dataset) != job.datasets.end() &&
           (job.row.phase == JobPhase::running || !job.row.nodes.empty());
  });
}

Result<Decision> Staging::explain(const Question& question) const {
  if (!cluster_)
    return fail(Code::unavailable, "Slurm has not answered yet" +
                                       (slurm_trouble_ ? ": " + slurm_trouble_->message : std::string(": try again")));
  std::vector<DatasetId> datasets;
  for (const auto& name : question.request.datasets) {
    ATLAS_ASSIGN(auto dataset, parts_.datasets.resolve(name));
    datasets.push_back(std::move(dataset));
  }
  for (const auto* list : {&question.node_list, &question.exclude}) {
    auto names = expand_hostlist(*list);
    if (!names) return fail(names.error());
  }
  if (!question.partition.empty() && question.partition.find(',') == std::string::npos &&
      !cluster_->partitions.contains(question.partition))
    return fail(Code::not_found, "there is no partition '" + question.partition + "' (sinfo)");
  JobRecord record;
  record.nodes_wanted = record.cpus_wanted = std::max<std::uint32_t>(1, question.nodes);
  record.partition = question.partition;
  record.exc_nodes = question.exclude;
  auto request = placement_request(*cluster_, parts_.registry, question.request, datasets, record, question.node_list);
  request.divide = parts_.config.warm.peers;
  for (auto& wanted : request.datasets)
    if (const auto at = question.estimates.find(wanted.id); !wanted.size && at != question.estimates.end())
      wanted.size = at->second;
  const auto patience = wait_of(question.request, 0, parts_.config.warm.max_wait);
  request.may_wait = patience.count() > 0;
  request.patience = patience;
  return weigh(request, datasets, nullptr, question.payer, question.request);
}

}  // namespace atlas
