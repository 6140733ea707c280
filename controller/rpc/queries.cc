#include "controller/rpc/queries.h"

#include <algorithm>
#include <set>

#include "common/hostlist.h"
#include "common/percent.h"
#include "controller/staging/peers.h"
#include "proto/convert.h"

namespace atlas {
namespace {

constexpr std::size_t kEndedShown = 500;

std::int64_t seconds_count(WallTime time) {
  return std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
}

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

v1::Receipt to_wire(const Receipt& receipt) {
  v1::Receipt out;
  out.set_nodes(compress_hostlist(receipt.nodes));
  out.set_resident_bytes(receipt.resident.count);
  out.set_origin_bytes(receipt.origin.count);
  out.set_peer_bytes(receipt.peers.count);
  out.set_throttled(receipt.throttled.count());
  out.set_throttled_bytes(receipt.throttled_bytes.count);
  out.set_bypass_bytes(receipt.bypass.count);
  out.set_waited(receipt.waited.count());
  out.set_outcome(receipt.outcome);
  out.set_reason(printable(receipt.reason));
  out.set_started(receipt.started.time_since_epoch().count());
  out.set_ended(receipt.ended.time_since_epoch().count());
  if (receipt.hit) out.set_hit_bytes(receipt.hit->count);
  return out;
}

/// It is asked every 10 s at least.
constexpr std::chrono::seconds kOldQueue{30};

/// The names a hostlist stands for; empty text = none named.
Result<std::set<std::string>> host_set(const std::string& text) {
  ATLAS_ASSIGN(const auto names, expand_hostlist(text));
  return std::set<std::string>(names.begin(), names.end());
}

/// Every dataset the controller has heard of.
std::set<DatasetId> all_datasets(const ControllerParts& parts) {
  std::set<DatasetId> out = parts.datasets.pins();
  for (const auto& [name, entry] : parts.datasets.names()) out.insert(entry.dataset);
  for (const auto& [dataset, generation] : parts.registry.generations()) out.insert(dataset);
  for (const auto& view : parts.staging.warmups().all()) out.insert(view.progress.dataset);
  return out;
}

}  // namespace

Status operators_only(const Person& person, const std::string& what) {
  if (person.is_operator) return {};
  return fail(Code::permission_denied, what + " is for operators (site.operators): ask one of them");
}

bool may_see(const ControllerParts& parts, const Person& person, const DatasetId& dataset) {
  if (person.is_operator || parts.registry.has_read(dataset, person.caller.uid)) return true;
  for (const auto& share : parts.datasets.shares_of(dataset))
    if (std::find(person.groups.begin(), person.groups.end(), share.grant.group) != person.groups.end()) return true;
  // A site's name is an operator's word that the dataset may be known. A personal one proves nothing: anybody may give
  // it.
  for (const auto& [name, entry] : parts.datasets.names())
    if (entry.dataset == dataset && name[0] != '~') return true;
  return false;
}

std::string_view state_of(const AgentInfo* agent) {
  if (agent == nullptr) return "unknown";
  if (agent->drained) return "drained";
  return agent->connected ? "up" : agent->last_seen == WallTime{} ? "unknown" : "lost";
}

v1::Alternative to_wire(const PlanRow& row) {
  v1::Alternative out;
  out.set_what(row.what);
  out.set_nodes(row.nodes);
  out.set_resident_bytes(row.resident.count);
  out.set_total_bytes(row.total.count);
  out.set_start(row.start.count());
  out.set_stall(row.stall.count());
  return out;
}

v1::JobStatus job_status(const ControllerParts& parts, const JobView& view) {
  v1::JobStatus out;
  *out.mutable_job() = to_wire(view.row.key);
  out.set_user(printable(view.row.user));
  out.set_name(printable(view.row.name));
  out.set_phase(to_wire(view.row.phase));
  out.set_request(view.row.request);
  for (const auto& dataset : view.datasets) *out.add_datasets() = to_wire(dataset);
  out.set_nodes(compress_hostlist(view.row.nodes));
  out.set_reason(printable(view.row.reason));
  out.set_deadline(view.row.deadline.time_since_epoch().count());
  for (const auto& progress : view.warming) *out.add_warming() = to_wire(progress);
  if (view.receipt) *out.mutable_receipt() = to_wire(*view.receipt);
  out.set_slurm_state(view.slurm_state);
  out.set_waited(view.row.waited.count());
  for (const auto& row : view.plan.rows) *out.add_plan() = to_wire(row);
  if (!view.plan.rows.empty()) out.set_planned(view.plan.made.time_since_epoch().count());
  static_cast<void>(parts);
  return out;
}

Result<v1::ListJobsReply> list_jobs(const ControllerParts& parts, const Person& person,
                                    const v1::ListJobsRequest& request) {
  v1::ListJobsReply out;
  const auto mine = [&](const JobRow& row) { return person.is_operator || row.uid == person.caller.uid; };
  for (const auto& view : parts.staging.jobs())
    if (mine(view.row)) *out.add_jobs() = job_status(parts, view);
  if (!request.all()) return out;
  ATLAS_ASSIGN(const auto ended, parts.catalog.ended_jobs(kEndedShown));
  for (const auto& job : ended) {
    if (!mine(job.job)) continue;
    JobView view{job.job, {}, {}, job.receipt, ""};
    if (const auto asked = decode_request(job.job.request))
      for (const auto& name : asked->datasets)
        if (auto dataset = parts.datasets.resolve(name)) view.datasets.push_back(std::move(*dataset));
    *out.add_jobs() = job_status(parts, view);
  }
  return out;
}

v1::Dataset dataset_row(const ControllerParts& parts, const Person& person, const DatasetId& dataset) {
  v1::Dataset out;
  *out.mutable_id() = to_wire(dataset);
  out.set_name(parts.datasets.name_of(dataset, viewer_of(person)));
  out.set_path(printable(parts.datasets.path_of(dataset)));
  out.set_owner(printable(parts.datasets.owner_of(dataset, viewer_of(person))));
  out.set_pinned(parts.datasets.pinned(dataset));
  auto policy = parts.datasets.policy_of(dataset);
  policy.grants.clear();
  out.set_policy(encode(policy));
  for (const auto& share : parts.datasets.shares_of(dataset)) {
    auto* row = out.add_shares();
    row->set_group(share.group);
    row->set_owner(share.owner);
    row->set_by(share.by);
    row->set_since(share.since.time_since_epoch().count());
  }
  const auto newest = parts.registry.newest(dataset);
  if (newest) *out.mutable_generation() = to_wire(*newest);
  // Distinct bytes: which parts a partial replica holds is known on its node only, so the fullest replica speaks.
  Bytes cached;
  std::vector<std::string> holders;
  bool warming = false;
  for (const auto& [node, agent] : parts.registry.agents()) {
    warming = warming || parts.staging.warmups().warming(node, dataset);
    if (!newest || !agent.in_service()) continue;
    const auto at = agent.replicas.find({dataset, newest->id});
    if (at == agent.replicas.end()) continue;
    cached = std::max(cached, at->second.bytes_resident);
    if (at->second.state == ReplicaState::complete) holders.push_back(node);
  }
  out.set_cached(newest ? std::min(cached, newest->bytes).count : 0);
  out.set_nodes(compress_hostlist(holders));
  out.set_state(warming ? "warming" : !holders.empty() ? "complete" : cached.count > 0 ? "partial" : "absent");
  return out;
}

namespace {

/// A name is no secret to who made it; what is known of the data is, until he has read it.
v1::Dataset name_row(const ControllerParts& parts, const std::string& text, const DatasetName& name) {
  v1::Dataset row;
  *row.mutable_id() = to_wire(name.dataset);
  row.set_name(text);
  row.set_path(printable(parts.datasets.path_of(name.dataset)));
  row.set_owner(name.owner);
  row.set_state("unknown");
  return row;
}

}  // namespace

Result<v1::ListDatasetsReply> list_datasets(const ControllerParts& parts, const Person& person,
                                            const v1::ListDatasetsRequest& request) {
  v1::ListDatasetsReply out;
  if (!request.which().empty()) {
    ATLAS_ASSIGN(const auto dataset, parts.datasets.resolve(request.which()));
    if (!may_see(parts, person, dataset)) {
      const auto named = parts.datasets.names().find(request.which());
      if (named != parts.datasets.names().end() && named->second.owner == person.name) {
        *out.add_datasets() = name_row(parts, named->first, named->second);
        return out;
      }
      return fail(Code::not_found,
                  "'" + printable(request.which()) +
                      "' is no dataset that you have used or that has a name: it is one from the first "
                      "job that reads it, or after atlasctl dataset warm");
    }
    *out.add_datasets() = dataset_row(parts, person, dataset);
    return out;
  }
  for (const auto& dataset : all_datasets(parts))
    if (may_see(parts, person, dataset)) *out.add_datasets() = dataset_row(parts, person, dataset);
  for (const auto& [text, name] : parts.datasets.names())
    if (name.owner == person.name && !may_see(parts, person, name.dataset))
      *out.add_datasets() = name_row(parts, text, name);
  return out;
}

Result<v1::PlacementReply> placement(const ControllerParts& parts, const Person& person,
                                     const v1::PlacementRequest& request) {
  ATLAS_ASSIGN(const auto wanted, host_set(request.nodes()));
  std::optional<DatasetId> only;
  if (!request.dataset().empty()) {
    ATLAS_ASSIGN(only, parts.datasets.resolve(request.dataset()));
  }
  v1::PlacementReply out;
  for (const auto& [node, agent] : parts.registry.agents()) {
    if (!wanted.empty() && !wanted.contains(node)) continue;
    for (const auto& [key, replica] : agent.replicas) {
      if ((only && replica.dataset != *only) || !may_see(parts, person, replica.dataset)) continue;
      auto* row = out.add_rows();
      row->set_node(node);
      row->set_node_state(std::string(state_of(&agent)));
      *row->mutable_replica() = to_wire(replica);
      row->set_name(parts.datasets.name_of(replica.dataset, viewer_of(person)));
      row->set_path(printable(parts.datasets.path_of(replica.dataset)));
    }
  }
  return out;
}

v1::PeersReply find_peers(const ControllerParts& parts, const v1::PeersRequest& request) {
  v1::PeersReply out;
  const auto dataset = from_wire(request.dataset());
  const auto newest = parts.registry.newest(dataset);
  const auto& config = parts.config;
  const auto time = newest ? together(*newest, config.agent.operations, config.warm.chunk) : kTogether;
  for (const auto& peer :
       peers_of(dataset, GenerationId::of(request.generation()), parts.registry, parts.staging.warmups(), time)) {
    auto* to = out.add_peers();
    to->set_node(peer.node);
    to->set_address(peer.address);
    to->set_role(peer.role == PeerRole::holds         ? v1::Peer::ROLE_HOLDS
                 : peer.role == PeerRole::fills_first ? v1::Peer::ROLE_FILLS_FIRST
                                                      : v1::Peer::ROLE_FILLS_LATER);
  }
  return out;
}

Result<v1::ListNodesReply> list_nodes(const ControllerParts& parts, const v1::ListNodesRequest& request) {
  ATLAS_ASSIGN(const auto wanted, host_set(request.nodes()));
  const auto* cluster = parts.staging.cluster();
  std::set<std::string> names;
  for (const auto& [node, agent] : parts.registry.agents()) names.insert(node);
  if (cluster != nullptr)
    for (const auto& [node, record] : cluster->nodes) names.insert(node);
  for (const auto& name : wanted)
    if (!names.contains(name)) return fail(Code::not_found, "there is no node '" + name + "' (atlasctl node list)");
  std::vector<std::string> order(names.begin(), names.end());
  sort_hosts(order);
  v1::ListNodesReply out;
  for (const auto& name : order) {
    if (!wanted.empty() && !wanted.contains(name)) continue;
    const auto* agent = parts.registry.find(name);
    auto* row = out.add_nodes();
    row->set_name(name);
    row->set_state(std::string(state_of(agent)));
    if (cluster != nullptr)
      if (const auto at = cluster->nodes.find(name); at != cluster->nodes.end())
        row->set_slurm_state(at->second->state);
    row->set_jobs(static_cast<std::uint32_t>(parts.staging.leases().count_on(name)));
    if (agent == nullptr) continue;
    for (const auto& tier : agent->tiers) {
      auto* t = row->add_tiers();
      t->set_name(tier.name);
      t->set_quota(tier.quota.count);
      t->set_used(tier.used.count);
      t->set_state(tier.state);
      t->set_inodes(tier.inodes);
      t->set_inodes_used(tier.inodes_used);
    }
    row->set_replicas(static_cast<std::uint32_t>(agent->replicas.size()));
    row->set_warming(agent->warming);
    row->set_last_seen(agent->last_seen == WallTime{} ? 0 : seconds_count(agent->last_seen));
    row->set_version(agent->version);
  }
  return out;
}

namespace {

void add_check(v1::DoctorReply& out, const std::string& what, const std::string& state, const std::string& detail,
               const std::string& next_step = "") {
  auto* check = out.add_checks();
  check->set_what(what);
  check->set_state(state);
  check->set_detail(printable(detail));
  check->set_next_step(next_step);
}

void check_agents(const ControllerParts& parts, v1::DoctorReply& out) {
  std::vector<std::string> up, missing, drained, full;
  for (const auto& [node, agent] : parts.registry.agents()) {
    if (agent.drained) drained.push_back(node);
    if (agent.connected) up.push_back(node);
    for (const auto& tier : agent.tiers)
      if (tier.state != "ok") full.push_back(node);
  }
  if (const auto* cluster = parts.staging.cluster(); cluster != nullptr)
    for (const auto& [node, record] : cluster->nodes)
      if (const auto* agent = parts.registry.find(node); agent == nullptr || !agent->connected) missing.push_back(node);
  add_check(
      out, "cache agents",
      missing.empty() && !up.empty() ? "ok"
      : up.empty()                   ? "failed"
                                     : "warning",
      std::to_string(up.size()) + " connected" + (missing.empty() ? "" : "; none on " + compress_hostlist(missing)),
      missing.empty() ? ""
                      : "on those nodes: systemctl status atlas-cache-agent, and atlas-cache-agent --check-config");
  if (!drained.empty())
    add_check(out, "drained nodes", "warning", compress_hostlist(drained) + " take no new replicas",
              "atlasctl node resume " + compress_hostlist(drained));
  if (!full.empty())
    add_check(out, "tiers", "warning", "a tier is not in order on " + compress_hostlist(full),
              "atlasctl node show " + compress_hostlist(full));
  std::map<std::string, std::vector<std::string>> warnings;
  for (const auto& [node, agent] : parts.registry.agents())
    for (const auto& warning : agent.connected ? agent.warnings : std::vector<std::string>())
      warnings[warning].push_back(node);
  for (const auto& [warning, nodes] : warnings)
    add_check(out, "nodes", "warning", compress_hostlist(nodes) + ": " + warning, "see atlas.toml(5)");
}

}  // namespace

Result<v1::ObservedReply> observed(const ControllerParts& parts, const Person& person) {
  ATLAS_TRY(operators_only(person, "what accounts' jobs would have got"));
  ATLAS_ASSIGN(const auto rows, parts.catalog.observed());
  v1::ObservedReply out;
  out.set_observing(parts.config.site.observe);
  for (const auto& row : rows) {
    auto* account = out.add_accounts();
    account->set_account(printable(row.account));
    account->set_jobs(row.jobs);
    account->set_same_nodes(row.same_nodes);
    account->set_waited(row.waited.count());
    account->set_estimated(row.estimated);
    account->set_start(row.start.count());
    account->set_stall(row.stall.count());
    account->set_total_bytes(row.total.count);
    account->set_held_bytes(row.held.count);
    account->set_since(row.since.time_since_epoch().count());
  }
  return out;
}

v1::DoctorReply doctor(const ControllerParts& parts) {
  v1::DoctorReply out;
  add_check(out, "controller", "ok",
            "cluster " + parts.staging.cluster_name() + ", catalogue " + parts.config.controller.database +
                " (schema version " + std::to_string(parts.catalog.schema_version()) + ")");
  if (const auto& trouble = parts.staging.slurm_trouble()) {
    add_check(out, "slurmctld", "failed", trouble->message, "systemctl status slurmctld; scontrol ping");
  } else if (parts.staging.cluster() == nullptr) {
    add_check(out, "slurmctld", "warning", "has not answered yet", "scontrol ping");
  } else {
    const auto& queue = *parts.staging.cluster()->queue;
    const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(parts.clock.wall() - queue.taken);
    const bool old = age > kOldQueue;
    add_check(out, "slurmctld", old ? "warning" : "ok",
              std::to_string(queue.jobs.size()) + " jobs in the queue, " + std::to_string(queue.nodes.size()) +
                  " nodes, " + format_duration(age) + " ago",
              old ? "scontrol ping" : "");
  }
  if (const auto wedged = parts.staging.wedged_jobs(); !wedged.empty()) {
    std::string ids;
    for (const auto id : wedged) ids += (ids.empty() ? "" : " ") + std::to_string(id);
    add_check(out, "staging", "warning",
              "slurmctld was killed while it staged in " + std::to_string(wedged.size()) +
                  (wedged.size() == 1 ? " job" : " jobs") + ", and Slurm will not go on with " +
                  (wedged.size() == 1 ? "it" : "them"),
              "scancel " + ids + "; their users submit them again");
  }
  if (parts.config.site.observe)
    add_check(out, "site.observe", "warning", "jobs are only looked at: nothing is placed, warmed or mounted for them",
              "what would have been done with them: atlasctl observed");
  check_agents(parts, out);
  std::string origins;
  for (const auto& origin : parts.config.origins)
    origins += (origins.empty() ? "" : ", ") + origin.name + " at " + origin.root;
  add_check(out, "origins", origins.empty() ? "failed" : "ok", origins.empty() ? "none is configured" : origins,
            origins.empty() ? "add an [[origin]] to " + parts.config.source.string() : "");
  for (const auto& name : parts.users.unknown_operators())
    add_check(out, "site.operators", "warning", "there is no account '" + name + "' on the controller's host",
              "correct site.operators in " + parts.config.source.string());
  return out;
}

}  // namespace atlas
