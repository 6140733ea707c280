#include "proto/convert.h"

namespace atlas {
namespace {

WallTime wall(std::int64_t nanoseconds) {
  return WallTime(std::chrono::nanoseconds(nanoseconds));
}
std::int64_t count(WallTime time) {
  return time.time_since_epoch().count();
}

}  // namespace

DatasetId from_wire(const v1::DatasetId& in) {
  return {in.origin(), in.path()};
}

v1::DatasetId to_wire(const DatasetId& in) {
  v1::DatasetId out;
  out.set_origin(in.origin);
  out.set_path(in.path);
  return out;
}

Generation from_wire(const v1::Generation& in) {
  return {.id = GenerationId::of(in.id()),
          .bytes = Bytes{in.bytes()},
          .files = in.files(),
          .entries = in.entries(),
          .opaque = in.opaque(),
          .outward_links = in.outward_links(),
          .observed = wall(in.observed()),
          .owner = in.has_owner() ? std::optional(in.owner()) : std::nullopt};
}

v1::Generation to_wire(const Generation& in) {
  v1::Generation out;
  if (!in.id.empty()) out.set_id(in.id.bytes());
  out.set_bytes(in.bytes.count);
  out.set_files(in.files);
  out.set_entries(in.entries);
  out.set_opaque(in.opaque);
  out.set_outward_links(in.outward_links);
  out.set_observed(count(in.observed));
  if (in.owner) out.set_owner(*in.owner);
  return out;
}

JobKey from_wire(const v1::JobKey& in) {
  return {in.cluster(), in.job_id(), in.restarts(), std::chrono::sys_seconds(std::chrono::seconds(in.submitted()))};
}

NodeAddress from_wire(const v1::NodeAddress& in) {
  return {in.node(), in.address()};
}

v1::NodeAddress to_wire(const NodeAddress& in) {
  v1::NodeAddress out;
  out.set_node(in.node);
  out.set_address(in.address);
  return out;
}

v1::JobKey to_wire(const JobKey& in) {
  v1::JobKey out;
  out.set_cluster(in.cluster);
  out.set_job_id(in.job_id);
  out.set_restarts(in.restarts);
  out.set_submitted(in.submitted.time_since_epoch().count());
  return out;
}

Principal from_wire(const v1::Principal& in) {
  return {in.uid(), in.gid(), {in.groups().begin(), in.groups().end()}};
}

v1::Principal to_wire(const Principal& in) {
  v1::Principal out;
  out.set_uid(in.uid);
  out.set_gid(in.gid);
  out.mutable_groups()->Add(in.groups.begin(), in.groups.end());
  return out;
}

Payer from_wire(const v1::Payer& in) {
  return {in.uid(), in.gid(), in.account()};
}

v1::Payer to_wire(const Payer& in) {
  v1::Payer out;
  out.set_uid(in.uid);
  out.set_gid(in.gid);
  out.set_account(in.account);
  return out;
}

ReplicaState from_wire(v1::ReplicaState in) {
  switch (in) {
    case v1::REPLICA_STATE_PARTIAL:
      return ReplicaState::partial;
    case v1::REPLICA_STATE_COMPLETE:
      return ReplicaState::complete;
    default:
      return ReplicaState::absent;
  }
}

v1::ReplicaState to_wire(ReplicaState in) {
  switch (in) {
    case ReplicaState::partial:
      return v1::REPLICA_STATE_PARTIAL;
    case ReplicaState::complete:
      return v1::REPLICA_STATE_COMPLETE;
    default:
      return v1::REPLICA_STATE_ABSENT;
  }
}

/// What nobody could have meant reads as no limit; no rate is so little that something were divided by zero.
IoRate from_wire(const v1::IoRate& in) {
  const auto rate = [](bool set, double value) { return set && value >= 0 && value < kNoRate ? value : kNoRate; };
  return {rate(in.has_bytes(), in.bytes()), rate(in.has_operations(), in.operations())};
}

v1::IoRate to_wire(const IoRate& in) {
  v1::IoRate out;
  if (!is_unlimited(in.bytes)) out.set_bytes(in.bytes);
  if (!is_unlimited(in.operations)) out.set_operations(in.operations);
  return out;
}

IoFlow from_wire(const v1::IoFlow& in) {
  return {in.origin(), in.uid(), in.gid(), in.job_id(), in.account()};
}

v1::IoFlow to_wire(const IoFlow& in) {
  v1::IoFlow out;
  out.set_origin(in.origin);
  out.set_uid(in.uid);
  out.set_gid(in.gid);
  out.set_job_id(in.job_id);
  out.set_account(in.account);
  return out;
}

OnChange from_wire(v1::OnChange in) {
  switch (in) {
    case v1::ON_CHANGE_KEEP:
      return OnChange::keep;
    case v1::ON_CHANGE_FAIL:
      return OnChange::fail;
    default:
      return OnChange::refresh;
  }
}

v1::OnChange to_wire(OnChange in) {
  switch (in) {
    case OnChange::keep:
      return v1::ON_CHANGE_KEEP;
    case OnChange::fail:
      return v1::ON_CHANGE_FAIL;
    default:
      return v1::ON_CHANGE_REFRESH;
  }
}

ReplicaInfo from_wire(const v1::Replica& in) {
  return {.dataset = from_wire(in.dataset()),
          .generation = from_wire(in.generation()),
          .state = from_wire(in.state()),
          .bytes_resident = Bytes{in.bytes_resident()},
          .files_resident = in.files_resident(),
          .tier = in.tier(),
          .last_used = wall(in.last_used()),
          .pinned = in.pinned(),
          .leases = {in.leases().begin(), in.leases().end()},
          .charged = Bytes{in.charged()},
          .payer = in.has_payer() ? std::optional(from_wire(in.payer())) : std::nullopt};
}

v1::Replica to_wire(const ReplicaInfo& in) {
  v1::Replica out;
  *out.mutable_dataset() = to_wire(in.dataset);
  *out.mutable_generation() = to_wire(in.generation);
  out.set_state(to_wire(in.state));
  out.set_bytes_resident(in.bytes_resident.count);
  out.set_files_resident(in.files_resident);
  out.set_tier(in.tier);
  out.set_last_used(count(in.last_used));
  out.set_pinned(in.pinned);
  out.mutable_leases()->Add(in.leases.begin(), in.leases.end());
  out.set_charged(in.charged.count);
  if (in.payer) *out.mutable_payer() = to_wire(*in.payer);
  return out;
}

WarmProgress from_wire(const v1::Progress& in) {
  // The phases have the same numbers on the wire; what a newer agent may add reads as none.
  const auto phase = in.phase() >= v1::Progress::PHASE_WALKING && in.phase() <= v1::Progress::PHASE_VERIFYING
                         ? static_cast<WarmPhase>(in.phase())
                         : WarmPhase::none;
  return {.phase = phase,
          .dataset = from_wire(in.dataset()),
          .node = in.node(),
          .bytes_done = Bytes{in.bytes_done()},
          .bytes_total = Bytes{in.bytes_total()},
          .files_done = in.files_done(),
          .files_total = in.files_total(),
          .origin_bytes = Bytes{in.origin_bytes()},
          .per_second = Bytes{in.bytes_per_second()},
          .eta = std::chrono::milliseconds(in.eta()),
          .failures = in.failures(),
          .message = in.message(),
          .generation = from_wire(in.generation()),
          .bad_blocks = in.bad_blocks(),
          .peer_bytes = Bytes{in.peer_bytes()},
          .skipped = in.skipped()};
}

v1::Progress to_wire(const WarmProgress& in) {
  v1::Progress out;
  out.set_phase(static_cast<v1::Progress::Phase>(in.phase));
  *out.mutable_dataset() = to_wire(in.dataset);
  out.set_node(in.node);
  out.set_bad_blocks(in.bad_blocks);
  out.set_bytes_done(in.bytes_done.count);
  out.set_bytes_total(in.bytes_total.count);
  out.set_files_done(in.files_done);
  out.set_files_total(in.files_total);
  out.set_origin_bytes(in.origin_bytes.count);
  out.set_bytes_per_second(in.per_second.count);
  out.set_eta(in.eta.count());
  out.set_failures(in.failures);
  out.set_message(in.message);
  *out.mutable_generation() = to_wire(in.generation);
  out.set_peer_bytes(in.peer_bytes.count);
  out.set_skipped(in.skipped);
  return out;
}

}  // namespace atlas
