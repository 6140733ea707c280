// Jobs that are only looked at (site.observe): what would have been done with them, beside what Slurm did. Nothing here
// changes anything in Slurm or on a node; an origin's directories are listed, as the job's user.
#include <algorithm>

#include "common/hostlist.h"
#include "controller/staging/staging.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kLook = 10s;
constexpr auto kSizeHolds = 1h;

bool has_begun(const JobRecord& record) {
  return record.state != JobState::pending && !record.nodes.empty();
}

/// Of the array, for its tasks: they are one job.
std::uint32_t whole_id(const JobRecord& record) {
  return record.array_job_id != 0 ? record.array_job_id : record.id;
}

bool asks(const JobRecord& record) {
  return record.uid != 0 && find_request(record.burst_buffer, record.admin_comment);
}

std::string span_of(std::chrono::milliseconds time) {
  return format_duration(std::chrono::round<std::chrono::seconds>(time));
}

}  // namespace

/// As the queue was before jobs began that nobody has seen wait: on a cluster with free nodes that is most of them.
SlurmCalls::Queue Staging::before_they_began(const SlurmCalls::Queue& queue) const {
  if (!cluster_) return queue;
  const auto looked = std::chrono::floor<std::chrono::seconds>(cluster_->queue->taken);
  std::shared_ptr<QueueSnapshot> out;
  for (std::size_t i = 0; i < queue->jobs.size(); ++i) {
    const auto& record = queue->jobs[i];
    const auto id = whole_id(record);
    if (!has_begun(record) || record.start < looked || observed_.contains(id) || jobs_.contains(id) || !asks(record))
      continue;
    if (!out) out = std::make_shared<QueueSnapshot>(*queue);
    const auto names = hosts_of(record.nodes);
    if (record.state == JobState::running || record.state == JobState::configuring)
      for (auto& node : out->nodes)
        if (std::find(names.begin(), names.end(), node.name) != names.end())
          node.cpus_busy -= std::min(node.cpus_busy, cpus_each(record, names.size()));
    out->jobs[i].state = JobState::pending;
    out->jobs[i].nodes.clear();
  }
  return out ? out : queue;
}

void Staging::observe_queue() {
  std::vector<const JobRecord*> records;
  for (const auto& record : cluster_->queue->jobs)
    if (asks(record)) records.push_back(&record);
  // An array's entry speaks for its tasks, as long as there is one.
  std::stable_partition(records.begin(), records.end(),
                        [](const JobRecord* record) { return !record->array_task_id || record->array_waiting; });
  std::set<std::uint32_t> there;
  for (const auto* record : records) {
    const auto id = whole_id(*record);
    if (jobs_.contains(id) || jobs_.contains(record->id)) continue;  // staged before it was only to be looked at
    there.insert(id);
    auto at = observed_.find(id);
    if (at == observed_.end()) {
      if (record->state != JobState::pending || record->restarts > 0) continue;
      auto job = job_of(*record);
      if (job == nullptr || job->hopeless) continue;
      at = observed_.emplace(id, std::move(job)).first;
    }
    observe(*at->second, *record);
  }
  std::erase_if(observed_, [&](const auto& item) { return !there.contains(item.first); });
}

void Staging::observe(StagedJob& job, const JobRecord& record) {
  if (job.row.phase == JobPhase::ended) return;
  const bool decided = job.could_start != WallTime{};
  if (record.state == JobState::pending) {
    if (decided) return;
    job.record = record;
    if (job.startable(parts_.clock.wall()) && agents_settled() && turns_.take(job.row.key.job_id)) decide_observed(job);
    return;
  }
  if (!has_begun(record)) return;  // cancelled before, or a task that was
  if (!decided) {                  // before its turn came
    job.row.phase = JobPhase::ended;
    return;
  }
  if (std::none_of(job.datasets.begin(), job.datasets.end(), [&](const auto& id) { return sizing_.contains(id); }))
    conclude_observed(job, record);
}

std::optional<Bytes> Staging::size_of(const DatasetId& dataset) const {
  if (const auto newest = parts_.registry.newest(dataset)) return newest->bytes;
  const auto at = sizes_.find(dataset);
  return at == sizes_.end() ? std::nullopt : std::optional(at->second.first);
}

/// How much there is of datasets that nobody has brought to a node: any node can say.
void Staging::look_up_sizes(const StagedJob& job) {
  const AgentInfo* agent = nullptr;
  for (const auto& [name, info] : parts_.registry.agents())
    if (info.in_service() && agent == nullptr) agent = &info;
  for (const auto& id : job.datasets) {
    const auto known = sizes_.find(id);
    const bool fresh = known != sizes_.end() && parts_.clock.now() - known->second.second < kSizeHolds;
    if (agent == nullptr || fresh || parts_.registry.newest(id) || !sizing_.insert(id).second) continue;
    parts_.agents.survey(agent->address, id, job.principal(), parts_.datasets.policy_of(id), kLook,
                         [this, id](const Result<WarmProgress>& seen) {
                           parts_.strand.post([this, id, seen] {
                             sizing_.erase(id);
                             if (!seen) return;  // the next job asks again
                             const auto bytes = seen->generation.id.empty()
                                                    ? std::max(seen->bytes_total, seen->bytes_done)
                                                    : seen->generation.bytes;
                             sizes_[id] = {bytes, parts_.clock.now()};
                           });
                         });
  }
}

void Staging::decide_observed(StagedJob& job) {
  const auto now = parts_.clock.wall();
  auto request = request_for(job);
  for (auto& wanted : request.datasets)
    if (!wanted.size) wanted.size = size_of(wanted.id);
  Decision decision;
  ++decisions_;
  outlook_.show(parts_.registry, warmups_, job.datasets, &job, [&](ClusterSnapshot& view) {
    view.cost = cost_for(job.payer(), job.request);
    const auto touched = would_hold_.show(view, request.datasets);
    decision = place(view, request);
    for (auto* node : touched) node->holdings.clear();
  });
  job.could_start = job.planned_start = now;
  job.row.nodes = decision.nodes;
  job.row.reason = what_would_be_done(decision, job.request.warm) + ": " + decision.reason;
  if (!decision.alternatives.empty()) {
    job.plan.rows = {plan_row(decision.alternatives.front())};
    job.planned_start += decision.alternatives.front().start;
  }
  job.receipt.resident = would_be_on(job, job.row.nodes);
  outlook_.plan(job);
  note_would_read(job, job.row.nodes);
  look_up_sizes(job);
}

/// Of what the job reads, on these nodes together.
Bytes Staging::would_be_on(const StagedJob& job, const std::vector<std::string>& nodes) const {
  Bytes sum;
  for (const auto& node : nodes) {
    const auto* agent = parts_.registry.find(node);
    if (agent == nullptr) continue;
    for (const auto& id : job.datasets)
      sum += std::max(would_hold_.on(node, id), parts_.registry.holding(*agent, id).resident);
  }
  return sum;
}

void Staging::note_would_read(const StagedJob& job, const std::vector<std::string>& nodes) {
  for (const auto& node : nodes) {
    const auto* agent = parts_.registry.find(node);
    if (agent == nullptr || !agent->in_service()) continue;
    auto most = job.request.cache;
    for (const auto& id : job.datasets) {
      const auto size = size_of(id);
      if (!size) continue;
      const auto bytes = most ? std::min(*most, *size) : *size;
      if (most) *most -= bytes;
      would_hold_.read(node, id, bytes, Registry::room_on(*agent));
    }
  }
}

void Staging::conclude_observed(StagedJob& job, const JobRecord& record) {
  const auto nodes = hosts_of(record.nodes);
  const auto& chosen = job.row.nodes.empty() ? nodes : job.row.nodes;
  ObservedRow row;
  row.account = record.account;
  row.since = std::chrono::floor<std::chrono::seconds>(parts_.clock.wall());
  row.jobs = 1;
  const bool same = std::all_of(nodes.begin(), nodes.end(), [&](const std::string& node) {
    return std::find(chosen.begin(), chosen.end(), node) != chosen.end();
  });
  row.same_nodes = same ? 1 : 0;
  row.waited = std::max(0ms, std::chrono::round<std::chrono::milliseconds>(record.start - job.could_start));
  for (const auto& id : job.datasets) row.total += Bytes{size_of(id).value_or(Bytes{}).count * nodes.size()};
  row.held = std::min(row.total, job.row.nodes.empty() ? would_be_on(job, nodes) : job.receipt.resident);
  std::string expected;
  if (!job.plan.rows.empty()) {
    row.estimated = 1;
    row.start = job.plan.rows.front().start;
    row.stall = job.plan.rows.front().stall;
    expected = " (expected: free in " + span_of(row.start) + ", then " + span_of(row.stall) + " for the data)";
  }
  parts_.log.info("job " + std::to_string(job.row.key.job_id) + " (" + job.row.user + ", account " + row.account +
                  ") was only looked at. Atlas: " + job.row.reason + expected + ". Slurm: started after " +
                  span_of(row.waited) + " on " + record.nodes);
  if (auto ok = parts_.catalog.add_observed(row); !ok) parts_.log.warn(ok.error().message);
  note_would_read(job, chosen);
  job.row.phase = JobPhase::ended;
  outlook_.forget(job.row.key.job_id);
}

}  // namespace atlas
