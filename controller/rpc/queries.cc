#include "controller/rpc/queries.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/hostlist.h"
#include "common/percent.h"
#include "proto/convert.h"

namespace atlas {
namespace {

constexpr std::size_t kEndedJobsShown = 200;

v1::JobStatus::Phase to_wire(JobPhase phase) {
  switch (phase) {
    case JobPhase::queued:
      return v1::JobStatus::PHASE_QUEUED;
    case JobPhase::surveying:
      return v1::JobStatus::PHASE_SURVEYING;
    case JobPhase::waiting:
      return v1::JobStatus::PHASE_WAITING;
    case JobPhase::warming:
      return v1::JobStatus::PHASE_WARMING;
    case JobPhase::ready:
      return v1::JobStatus::PHASE_READY;
    case JobPhase::running:
      return v1::JobStatus::PHASE_RUNNING;
    case JobPhase::ended:
      return v1::JobStatus::PHASE_ENDED;
  }
  return v1::JobStatus::PHASE_UNSPECIFIED;
}

void add_tiers(const AgentInfo& agent, google::protobuf::RepeatedPtrField<v1::TierState>* out) {
  for (const auto& tier : agent.tiers) {
    auto* t = out->Add();
    t->set_name(tier.name);
    t->set_quota(tier.quota.count);
    t->set_used(tier.used.count);
    t->set_state(tier.state);
  }
}

std::string state_of(const AgentInfo& agent) {
  if (agent.drained) return "drained";
  if (agent.connected) return "up";
  return agent.address.empty() ? "unknown" : "lost";
}

/// Every dataset that a name, a generation or a replica speaks of.
std::set<DatasetId> known_datasets(const ControllerParts& parts) {
  std::set<DatasetId> out;
  for (const auto& [name, entry] : parts.datasets.names()) out.insert(entry.dataset);
  for (const auto& [dataset, generation] : parts.registry.generations()) out.insert(dataset);
  for (const auto& [node, agent] : parts.registry.agents())
    for (const auto& [key, replica] : agent.replicas) out.insert(key.first);
  return out;
}

Result<std::set<std::string>> host_set(const std::string& hostlist) {
  ATLAS_ASSIGN(const auto names, expand_hostlist(hostlist));
  return std::set<std::string>(names.begin(), names.end());
}

}  // namespace

Person person_of(Users& users, Caller caller) {
  return {caller, users.name_of(caller.uid), users.is_operator(caller.uid)};
}

bool may_see(const ControllerParts& parts, const Person& who, const DatasetId& dataset) {
  return who.is_operator || parts.datasets.has_site_name(dataset) || parts.datasets.owner_of(dataset) == who.name ||
         parts.registry.has_read(dataset, who.caller.uid);
}

v1::JobStatus to_wire(const JobView& view, Users& users) {
  v1::JobStatus out;
  const JobRow& row = view.row;
  *out.mutable_job() = to_wire(row.key);
  out.set_user(row.user.empty() ? users.name_of(row.uid) : row.user);
  out.set_name(row.name);
  out.set_phase(to_wire(row.phase));
  out.set_request(row.request);
  for (const auto& dataset : view.datasets) *out.add_datasets() = to_wire(dataset);
  out.set_nodes(compress_hostlist(row.nodes));
  out.set_reason(row.reason);
  out.set_deadline(row.deadline.time_since_epoch().count());
  for (const auto& progress : view.warming) *out.add_warming() = to_wire(progress);
  out.set_slurm_state(view.slurm_state);
  out.set_waited(row.waited.count());
  if (view.receipt) {
    auto* receipt = out.mutable_receipt();
    receipt->set_nodes(compress_hostlist(view.receipt->nodes));
    receipt->set_resident_bytes(view.receipt->resident.count);
    receipt->set_origin_bytes(view.receipt->origin.count);
    receipt->set_waited(view.receipt->waited.count());
    receipt->set_outcome(view.receipt->outcome);
    receipt->set_reason(view.receipt->reason);
    receipt->set_started(view.receipt->started.time_since_epoch().count());
    receipt->set_ended(view.receipt->ended.time_since_epoch().count());
  }
  return out;
}

Result<v1::Dataset> describe_dataset(const ControllerParts& parts, const DatasetId& dataset) {
  v1::Dataset out;
  *out.mutable_id() = to_wire(dataset);
  out.set_name(parts.datasets.name_of(dataset));
  out.set_path(printable(parts.datasets.path_of(dataset)));
  out.set_owner(parts.datasets.owner_of(dataset));
  out.set_pinned(parts.datasets.pinned(dataset));
  const auto newest = parts.registry.newest(dataset);
  if (newest) *out.mutable_generation() = to_wire(*newest);
  std::vector<std::string> holders;
  Bytes most;  // blocks of several partial replicas are not told apart here: the largest is a safe lower bound
  bool warming = false;
  for (const auto& [node, agent] : parts.registry.agents()) {
    if (!agent.in_service()) continue;
    const Holding holding = parts.registry.holding(agent, dataset);
    if (holding.complete) holders.push_back(node);
    most = std::max(most, holding.resident);
    warming = warming || parts.staging.warmups().warming(node, dataset);
  }
  if (newest) most = holders.empty() ? std::min(most, newest->bytes) : newest->bytes;
  out.set_cached(most.count);
  out.set_nodes(compress_hostlist(holders));
  out.set_state(!holders.empty() ? "complete" : warming ? "warming" : most.count > 0 ? "partial" : "absent");
  return out;
}

Result<v1::ListDatasetsReply> list_datasets(const ControllerParts& parts, const Person& who, const std::string& which) {
  v1::ListDatasetsReply reply;
  if (!which.empty()) {
    ATLAS_ASSIGN(const DatasetId dataset, parts.datasets.resolve(which));
    if (!may_see(parts, who, dataset) || !known_datasets(parts).contains(dataset))
      return fail(Code::not_found, "dataset '" + printable(which) +
                                       "' is not known here, or you have not read it yet: a job with --dataset, or "
                                       "'atlasctl dataset warm', makes it known");
    ATLAS_ASSIGN(*reply.add_datasets(), describe_dataset(parts, dataset));
    return reply;
  }
  for (const auto& dataset : known_datasets(parts)) {
    if (!may_see(parts, who, dataset)) continue;
    ATLAS_ASSIGN(*reply.add_datasets(), describe_dataset(parts, dataset));
  }
  return reply;
}

Result<v1::PlacementReply> placement(const ControllerParts& parts, const Person& who,
                                     const v1::PlacementRequest& request) {
  std::optional<DatasetId> only;
  if (!request.dataset().empty()) {
    ATLAS_ASSIGN(only, parts.datasets.resolve(request.dataset()));
    if (!may_see(parts, who, *only))
      return fail(Code::not_found,
                  "dataset '" + printable(request.dataset()) + "' is not known here, or you have not read it yet");
  }
  ATLAS_ASSIGN(const auto hosts, host_set(request.nodes()));
  v1::PlacementReply reply;
  for (const auto& [node, agent] : parts.registry.agents()) {
    if (!hosts.empty() && !hosts.contains(node)) continue;
    for (const auto& [key, replica] : agent.replicas) {
      if ((only && key.first != *only) || !may_see(parts, who, key.first)) continue;
      auto* row = reply.add_rows();
      row->set_node(node);
      row->set_node_state(state_of(agent));
      *row->mutable_replica() = to_wire(replica);
      row->set_name(parts.datasets.name_of(key.first));
      row->set_path(printable(parts.datasets.path_of(key.first)));
    }
  }
  return reply;
}

Result<v1::ListNodesReply> list_nodes(const ControllerParts& parts, const std::string& hostlist) {
  ATLAS_ASSIGN(auto hosts, host_set(hostlist));
  const Cluster* cluster = parts.staging.cluster();
  const bool all = hosts.empty();
  if (all) {
    for (const auto& [node, agent] : parts.registry.agents()) hosts.insert(node);
    if (cluster != nullptr)
      for (const auto& [node, record] : cluster->nodes) hosts.insert(node);
  }
  std::vector<std::string> ordered(hosts.begin(), hosts.end());
  sort_hosts(ordered);
  v1::ListNodesReply reply;
  for (const auto& name : ordered) {
    const AgentInfo* agent = parts.registry.find(name);
    const bool in_slurm = cluster != nullptr && cluster->nodes.contains(name);
    if (agent == nullptr && !in_slurm)
      return fail(Code::not_found, "there is no node '" + printable(name) + "' (atlasctl node list)");
    auto* out = reply.add_nodes();
    out->set_name(name);
    out->set_state(agent == nullptr ? "unknown" : state_of(*agent));
    if (in_slurm) out->set_slurm_state(cluster->nodes.at(name)->state);
    if (agent == nullptr) continue;
    add_tiers(*agent, out->mutable_tiers());
    out->set_replicas(static_cast<std::uint32_t>(agent->replicas.size()));
    out->set_warming(agent->warming);
    out->set_jobs(static_cast<std::uint32_t>(parts.staging.leases().count_on(name)));
    out->set_last_seen(agent->last_seen.time_since_epoch().count());
    out->set_version(agent->version);
  }
  return reply;
}

Result<v1::ListJobsReply> list_jobs(const ControllerParts& parts, const Person& who, bool all) {
  v1::ListJobsReply reply;
  const auto visible = [&](const JobRow& row) { return who.is_operator || row.uid == who.caller.uid; };
  for (const auto& view : parts.staging.jobs())
    if (visible(view.row)) *reply.add_jobs() = to_wire(view, parts.users);
  if (!all) return reply;
  ATLAS_ASSIGN(const auto ended, parts.catalog.ended_jobs(kEndedJobsShown));
  for (const auto& job : ended) {
    if (!visible(job.job)) continue;
    JobView view;
    view.row = job.job;
    view.receipt = job.receipt;
    *reply.add_jobs() = to_wire(view, parts.users);
  }
  return reply;
}

Result<v1::ExplainReply> explain(const ControllerParts& parts, const v1::ExplainRequest& in) {
  Staging::Question question;
  ATLAS_ASSIGN(question.request, decode_request(in.request()));
  question.nodes = std::max(1U, in.nodes());
  question.partition = in.partition();
  question.node_list = in.node_list();
  question.exclude = in.exclude();
  ATLAS_ASSIGN(const Decision decision, parts.staging.explain(question));
  v1::ExplainReply reply;
  for (const auto& candidate : decision.candidates) {
    auto* out = reply.add_candidates();
    out->set_nodes(candidate.node);
    out->set_resident_bytes(candidate.resident.count);
    out->set_total_bytes(candidate.total.count);
    out->set_free_now(candidate.free_now);
    out->set_note(candidate.note);
    out->set_chosen(candidate.chosen);
  }
  const std::string nodes = compress_hostlist(decision.nodes);
  switch (decision.action) {
    case Action::go:
      reply.set_decision("start on " + nodes);
      break;
    case Action::wait:
      reply.set_decision("wait for " + nodes);
      break;
    case Action::warm:
      reply.set_decision("warm " + nodes);
      break;
    case Action::cold:
      reply.set_decision("start anywhere, reading the origin");
      break;
  }
  reply.set_reason(decision.reason);
  return reply;
}

v1::DoctorReply doctor(const ControllerParts& parts) {
  v1::DoctorReply reply;
  const auto add = [&](const std::string& what, const char* state, const std::string& detail,
                       const std::string& next = "") {
    auto* check = reply.add_checks();
    check->set_what(what);
    check->set_state(state);
    check->set_detail(detail);
    check->set_next_step(next);
  };
  if (const auto& trouble = parts.staging.slurm_trouble()) {
    add("slurmctld", "failed", trouble->message,
        "is slurmctld running, and SLURM_CONF of atlas-controller right? (scontrol ping)");
  } else if (parts.staging.cluster() == nullptr) {
    add("slurmctld", "warning", "has not been asked yet", "try again in a few seconds");
  } else {
    add("slurmctld", "ok",
        "cluster " + parts.staging.cluster_name() + ", " + std::to_string(parts.staging.cluster()->nodes.size()) +
            " nodes");
  }
  std::vector<std::string> up, lost, missing;
  for (const auto& [node, agent] : parts.registry.agents()) (agent.connected ? up : lost).push_back(node);
  if (const Cluster* cluster = parts.staging.cluster())
    for (const auto& [node, record] : cluster->nodes)
      if (parts.registry.find(node) == nullptr) missing.push_back(node);
  if (!up.empty()) add("agents", "ok", compress_hostlist(up) + " connected");
  if (!lost.empty())
    add("agents", "warning", compress_hostlist(lost) + " not connected",
        "on these nodes: systemctl status atlas-cache-agent");
  if (!missing.empty())
    add("agents", "warning", compress_hostlist(missing) + " never seen: jobs there read the origin",
        "install and start atlas-cache-agent there, or leave it so on purpose");
  for (const auto& [node, agent] : parts.registry.agents())
    for (const auto& tier : agent.tiers)
      if (tier.state != "ok")
        add("tier " + tier.name + " on " + node, "warning", "state " + tier.state,
            "look at the node's disk and the agent's log");
  if (parts.config.origins.empty())
    add("origins", "failed", "none is configured", "add an [[origin]] to " + parts.config.source.string());
  for (const auto& name : parts.users.unknown_operators())
    add("site.operators", "warning", "there is no account '" + name + "' on the controller's host",
        "mend the name or remove it");
  return reply;
}

}  // namespace atlas
