// What is expected of nodes and storage, and what was weighed for a job because of it.
#include <algorithm>

#include "common/hostlist.h"
#include "controller/staging/staging.h"

namespace atlas {

PlacementRequest Staging::request_for(const StagedJob& job) const {
  const auto now = parts_.clock.wall();
  auto request = placement_request(*cluster_, parts_.registry, job.request, job.datasets, job.record,
                                   job.user_nodes ? job.record.req_nodes : "");
  request.may_wait = job.may_wait(now);
  request.patience = std::chrono::ceil<std::chrono::milliseconds>(job.deadline() - now);
  request.duration = outlook_.expected_run(job.record);
  request.explain = false;
  request.divide = parts_.config.warm.peers;
  request.failed = job.failed;
  if (job.row.array) request.tasks = job.record.array_tasks;
  return request;
}

Decision Staging::decide(const StagedJob& job) const {
  ++decisions_;
  return weigh(request_for(job), job.datasets, &job, job.payer(), job.request);
}

/// Every node that the job could run on holds its data: it needs no pin.
bool Staging::held_everywhere(const StagedJob& job) const {
  const auto request = request_for(job);
  bool out = false;
  outlook_.show(parts_.registry, warmups_, job.datasets, &job,
                [&](const ClusterSnapshot& view) { out = all_hold(view, request); });
  return out;
}

Decision Staging::weigh(const PlacementRequest& request, const std::vector<DatasetId>& datasets,
                        const StagedJob* except, const Payer& payer, const Request& asked) const {
  Decision out;
  outlook_.show(parts_.registry, warmups_, datasets, except, [&](ClusterSnapshot& view) {
    view.cost = cost_for(payer, asked);
    out = place(view, request);
  });
  return out;
}

/// What the next transfer may expect that is made for the job: as measured, within the limits that apply to it.
CostModel Staging::cost_for(const Payer& payer, const Request& request) const {
  CostModel model;
  model.peer_rate = parts_.config.warm.peers ? rates_.from_nodes() : Bytes{};
  model.node_rate = rates_.into_node();
  std::map<std::string, Bytes> most;
  for (const auto& origin : parts_.config.origins) most[origin.name] = rates_.from_origin(origin.name);
  const auto lower = [&](const std::string& origin, std::optional<Bytes> limit) {
    for (auto& [name, rate] : most)
      if (limit && rate.count > 0 && (origin.empty() || origin == name)) rate = std::min(rate, *limit);
  };
  if (request.io_limit) lower("", request.io_limit->read);
  for (const auto& origin : parts_.config.origins)
    if (const auto* limit = cache_space_.find(LimitKind::origin, origin.name)) lower(origin.name, limit->read);
  for (const auto* limit : cache_space_.covering(payer)) lower("", limit->read);
  model.origin_rate = std::move(most);
  for (const auto& origin : parts_.config.origins)
    if (const Bytes ahead = origin_turns_.ahead(origin.name); ahead.count > 0)
      model.origin_line[origin.name] = {ahead, rates_.of_origin(origin.name).all};
  return model;
}

/// What is being read of each origin now. Who is held up by a limit, or reads other nodes, leaves it to others.
void Staging::look_at_origins() {
  std::map<std::string, OriginTurns::Line> lines;
  for (const auto& origin : parts_.config.origins) {
    const auto known = rates_.of_origin(origin.name);
    lines[origin.name] = {known.one, known.all, 0, {}};
  }
  warmups_.each_moving([&](const std::string& node, const WarmOrder& order, const WarmProgress& progress) {
    const auto at = lines.find(order.dataset.origin);
    if (at == lines.end() || progress.peer_bytes > progress.origin_bytes || limited(node, order)) return;
    ++at->second.active;
    if (progress.bytes_total > progress.bytes_done) at->second.left += progress.bytes_total - progress.bytes_done;
  });
  origin_turns_.begin(std::move(lines));
}

/// Where the job waits for its turn to have data brought to these nodes; "" = it begins. What is on its way to a node,
/// there already, or to be had from other nodes, needs none.
std::string Staging::in_line_for(const StagedJob& job, const Decision& decision) {
  std::map<std::string, std::pair<std::uint32_t, Bytes>> reads;  // by origin: transfers, bytes
  for (const auto& dataset : job.datasets) {
    const auto filling = warmups_.filling(dataset);
    if (parts_.config.warm.peers && (!filling.empty() || kept_elsewhere(dataset))) continue;
    const auto newest = parts_.registry.newest(dataset);
    bool first = true;
    for (const auto& node : decision.nodes) {
      const auto* agent = parts_.registry.find(node);
      const bool moving = std::any_of(filling.begin(), filling.end(), [&](const auto& f) { return f.node == node; });
      if (agent == nullptr || moving || parts_.registry.holding(*agent, dataset).complete) continue;
      if (parts_.config.warm.peers && !std::exchange(first, false)) continue;  // the others read from this one
      auto& [transfers, bytes] = reads[dataset.origin];
      ++transfers;
      const Bytes has = parts_.registry.holding(*agent, dataset).resident;
      if (newest && newest->bytes > has) bytes += newest->bytes - has;
    }
  }
  for (const auto& [origin, what] : reads) {
    const auto rate = static_cast<double>(rates_.from_origin(origin).count);
    const double start =
        decision.alternatives.empty() ? 0 : std::chrono::duration<double>(decision.alternatives.front().start).count();
    const bool early =
        rate > 0 && OriginTurns::early(start, static_cast<double>(what.second.count) / what.first / rate);
    if (!origin_turns_.take(origin, what.first, what.second, early))
      return "waits for its turn to read " + origin + ", which others read now; " + decision.reason;
  }
  return "";
}

bool Staging::limited(const std::string& node, const WarmOrder& order) const {
  const Payer payer{order.as.uid, order.as.gid, order.account};
  const auto of_reading = [](const LimitRow* limit) { return limit != nullptr && (limit->read || limit->operations); };
  const auto covering = cache_space_.covering(payer);
  return !is_unlimited(order.io_limit.bytes) || !is_unlimited(order.io_limit.operations) ||
         of_reading(cache_space_.find(LimitKind::node, node)) ||
         std::any_of(covering.begin(), covering.end(), of_reading);
}

/// What was weighed, and for when: for the user, and for those who plan after him.
void Staging::note_plan(StagedJob& job, const Decision& decision) {
  const auto now = parts_.clock.wall();
  job.planned_start = now;
  PlanRows plan;
  plan.made = std::chrono::floor<std::chrono::seconds>(now);
  for (const auto& what : decision.alternatives) plan.rows.push_back(plan_row(what));
  if (!decision.alternatives.empty()) job.planned_start = now + decision.alternatives.front().start;
  outlook_.plan(job);
  if (plan.rows == job.plan.rows) return;
  job.plan = std::move(plan);
  if (auto ok = parts_.catalog.put_plan(job.row.key, job.plan); !ok) parts_.log.warn(ok.error().message);
}

/// A transfer that a limit slows down says nothing of the storage.
void Staging::learn_rates(const std::string& node, const WarmOrder& order, const WarmProgress* progress) {
  if (progress != nullptr) return rates_.note(node, order.dataset, *progress, limited(node, order));
  rates_.ended(node, order.dataset);
  const auto known = rates_.known();
  for (const auto& [source, rate] : known) {
    const auto saved = saved_rates_.find(source);
    if (saved != saved_rates_.end() && saved->second == rate) continue;
    if (auto ok = parts_.catalog.put_rate(source, rate.one, rate.all); !ok) parts_.log.warn(ok.error().message);
  }
  saved_rates_ = known;
}

}  // namespace atlas
