#include "launcher/ui_json.h"

#include "common/dataset_policy.h"
#include "common/percent.h"
#include "launcher/ui.h"
#include "launcher/ui_progress.h"
#include "proto/convert.h"

namespace atlas {
namespace {

double seconds(std::int64_t ms) {
  return static_cast<double>(ms) / 1000;
}
std::int64_t epoch_seconds(std::int64_t ns) {
  return ns / 1'000'000'000;
}
std::string hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    out += kDigits[static_cast<unsigned char>(c) >> 4U];
    out += kDigits[static_cast<unsigned char>(c) & 15U];
  }
  return out;
}

Json generation_json(const v1::Generation& generation) {
  Json out;
  out["id"] = hex(generation.id());
  out["bytes"] = generation.bytes();
  out["files"] = generation.files();
  out["entries"] = generation.entries();
  out["unreadable_entries"] = generation.opaque();
  out["outward_links"] = generation.outward_links();
  out["observed"] = epoch_seconds(generation.observed());
  return out;
}

}  // namespace

void put_text(Json& object, const std::string& key, std::string_view bytes) {
  auto text = printable(bytes);
  const bool exact = text == bytes;
  object[key] = std::move(text);
  if (!exact) object[key + "_encoded"] = percent_encode(bytes);
}

std::string dump_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}
std::string dump(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string_view phase_name(v1::JobStatus::Phase phase) {
  switch (phase) {
    case v1::JobStatus::PHASE_QUEUED:
      return "queued";
    case v1::JobStatus::PHASE_SURVEYING:
      return "surveying";
    case v1::JobStatus::PHASE_WAITING:
      return "waiting";
    case v1::JobStatus::PHASE_WARMING:
      return "warming";
    case v1::JobStatus::PHASE_READY:
      return "ready";
    case v1::JobStatus::PHASE_RUNNING:
      return "running";
    case v1::JobStatus::PHASE_ENDED:
      return "ended";
    default:
      return "unknown";
  }
}

std::string_view state_name(v1::ReplicaState state) {
  switch (state) {
    case v1::REPLICA_STATE_COMPLETE:
      return "complete";
    case v1::REPLICA_STATE_PARTIAL:
      return "partial";
    default:
      return "absent";
  }
}

Json to_json(const Request& request) {
  Json out;
  out["datasets"] = Json::array();
  for (const auto& dataset : request.datasets) {
    Json item;
    put_text(item, "dataset", dataset);
    if (request.read_write.contains(dataset)) item["read_write"] = true;
    out["datasets"].push_back(std::move(item));
  }
  out["cache_bytes"] = request.cache ? Json(request.cache->count) : Json();
  out["warm"] = name_of(request.warm);
  if (request.locality) {
    out["locality"] = {{"share", request.locality->share}, {"max_wait", request.locality->max_wait.count()}};
  } else {
    out["locality"] = nullptr;
  }
  out["on_change"] = name_of(request.on_change);
  out["io_limit"] = nullptr;
  if (request.io_limit)
    out["io_limit"] = {{"read", request.io_limit->read ? Json(request.io_limit->read->count) : Json()},
                       {"operations", request.io_limit->operations ? Json(*request.io_limit->operations) : Json()}};
  return out;
}

Json to_json(const v1::Progress& progress, const Config& config) {
  const auto p = from_wire(progress);
  Json out;
  out["node"] = printable(p.node);
  put_text(out, "dataset", path_of(config, p.dataset));
  out["phase"] = name_of(p.phase);
  out["bytes_done"] = p.bytes_done.count;
  out["bytes_total"] = p.bytes_total.count;
  out["files_done"] = p.files_done;
  out["files_total"] = p.files_total;
  out["origin_bytes"] = p.origin_bytes.count;
  out["peer_bytes"] = p.peer_bytes.count;
  out["bytes_per_second"] = p.per_second.count;
  out["eta"] = p.eta.count() < 0 ? Json() : Json(seconds(p.eta.count()));
  out["failures"] = p.failures;
  out["bad_blocks"] = p.bad_blocks;
  out["files_left_out"] = p.skipped;
  if (!p.message.empty()) out["message"] = printable(p.message);
  return out;
}

Json to_json(const v1::Alternative& row) {
  return {{"what", printable(row.what())},
          {"nodes", printable(row.nodes())},
          {"resident_bytes", row.resident_bytes()},
          {"total_bytes", row.total_bytes()},
          {"start", row.has_start() ? Json(seconds(row.start())) : Json()},
          {"stall", row.has_stall() ? Json(seconds(row.stall())) : Json()}};
}

Json to_json(const v1::JobStatus& job, const Config& config) {
  Json out;
  out["job_id"] = job.job().job_id();
  out["restarts"] = job.job().restarts();
  out["submitted"] = job.job().submitted();
  out["user"] = printable(job.user());
  put_text(out, "name", job.name());
  out["phase"] = phase_name(job.phase());
  out["slurm_state"] = printable(job.slurm_state());
  if (const auto request = decode_request(job.request())) out["request"] = to_json(*request);
  out["datasets"] = Json::array();
  for (const auto& dataset : job.datasets()) {
    Json item;
    put_text(item, "path", path_of(config, from_wire(dataset)));
    out["datasets"].push_back(std::move(item));
  }
  out["nodes"] = printable(job.nodes());
  out["reason"] = printable(job.reason());
  out["deadline"] = job.deadline() == 0 ? Json() : Json(job.deadline());
  out["waited"] = seconds(job.waited());
  out["warming"] = Json::array();
  for (const auto& progress : job.warming()) out["warming"].push_back(to_json(progress, config));
  out["plan"] = Json::array();
  for (const auto& row : job.plan()) out["plan"].push_back(to_json(row));
  out["planned"] = job.planned() == 0 ? Json() : Json(job.planned());
  if (job.has_receipt()) {
    const auto& r = job.receipt();
    out["receipt"] = {{"nodes", printable(r.nodes())},
                      {"outcome", printable(r.outcome())},
                      {"resident_bytes", r.resident_bytes()},
                      {"origin_bytes", r.origin_bytes()},
                      {"hit_bytes", r.has_hit_bytes() ? Json(r.hit_bytes()) : Json()},
                      {"peer_bytes", r.peer_bytes()},
                      {"throttled", seconds(r.throttled())},
                      {"throttled_bytes", r.throttled_bytes()},
                      {"bypass_bytes", r.bypass_bytes()},
                      {"waited", seconds(r.waited())},
                      {"reason", printable(r.reason())},
                      {"started", r.started()},
                      {"ended", r.ended()}};
  }
  return out;
}

Json to_json(const v1::ExplainReply& reply, const Config& config) {
  Json out;
  out["decision"] = printable(reply.decision());
  out["reason"] = printable(reply.reason());
  out["candidates"] = Json::array();
  for (const auto& c : reply.candidates())
    out["candidates"].push_back({{"nodes", printable(c.nodes())},
                                 {"resident_bytes", c.resident_bytes()},
                                 {"total_bytes", c.total_bytes()},
                                 {"free_now", c.free_now()},
                                 {"chosen", c.chosen()},
                                 {"start", c.has_start() ? Json(seconds(c.start())) : Json()},
                                 {"stall", c.has_stall() ? Json(seconds(c.stall())) : Json()},
                                 {"note", printable(c.note())}});
  out["alternatives"] = Json::array();
  for (const auto& row : reply.alternatives()) out["alternatives"].push_back(to_json(row));
  out["estimates"] = Json::array();
  for (const auto& estimate : reply.estimates()) {
    Json item;
    put_text(item, "path", path_of(config, from_wire(estimate.dataset())));
    item["bytes"] = estimate.bytes();
    item["files"] = estimate.files();
    item["complete"] = estimate.complete();
    out["estimates"].push_back(std::move(item));
  }
  return out;
}

Json to_json(const v1::Dataset& dataset, const Config& config) {
  Json out;
  out["name"] = printable(dataset.name());
  put_text(out, "path", path_of(config, from_wire(dataset.id())));
  out["origin"] = printable(dataset.id().origin());
  out["bytes"] = dataset.generation().bytes();
  out["cached_bytes"] = dataset.cached();
  out["state"] = printable(dataset.state());
  out["nodes"] = printable(dataset.nodes());
  out["pinned"] = dataset.pinned();
  out["owner"] = printable(dataset.owner());
  const auto policy = decode_policy(dataset.policy()).value_or(DatasetPolicy{});
  Json settings;
  settings["revalidate"] = show_revalidate(policy);
  settings["exclude"] = Json::array();
  for (const auto& pattern : policy.exclude) settings["exclude"].push_back(printable(pattern));
  settings["cache_bytes"] = policy.cache.count;
  settings["tier"] = printable(policy.tier);
  settings["ttl"] = seconds(policy.ttl.count());
  settings["replicas"] = policy.replicas;
  out["settings"] = std::move(settings);
  out["shares"] = Json::array();
  for (const auto& share : dataset.shares())
    out["shares"].push_back({{"group", printable(share.group())},
                             {"owner", printable(share.owner())},
                             {"by", printable(share.by())},
                             {"since", epoch_seconds(share.since())}});
  out["generation"] = generation_json(dataset.generation());
  return out;
}

Json to_json(const v1::PlacementReply::Row& row, const Config& config) {
  Json out;
  out["node"] = printable(row.node());
  out["node_state"] = printable(row.node_state());
  out["name"] = printable(row.name());
  put_text(out, "path", path_of(config, from_wire(row.replica().dataset())));
  out["state"] = state_name(row.replica().state());
  out["bytes_resident"] = row.replica().bytes_resident();
  out["files_resident"] = row.replica().files_resident();
  out["tier"] = printable(row.replica().tier());
  out["last_used"] = epoch_seconds(row.replica().last_used());
  out["pinned"] = row.replica().pinned();
  out["jobs"] = Json::array();
  for (const auto job : row.replica().leases()) out["jobs"].push_back(job);
  out["generation"] = generation_json(row.replica().generation());
  return out;
}

Json to_json(const v1::ListNodesReply::Node& node) {
  Json out;
  out["name"] = printable(node.name());
  out["state"] = printable(node.state());
  out["slurm_state"] = printable(node.slurm_state());
  out["tiers"] = Json::array();
  for (const auto& tier : node.tiers())
    out["tiers"].push_back({{"name", printable(tier.name())},
                            {"quota", tier.quota()},
                            {"used", tier.used()},
                            {"state", printable(tier.state())},
                            {"inodes", tier.inodes()},
                            {"inodes_used", tier.inodes_used()}});
  out["replicas"] = node.replicas();
  out["warming"] = node.warming();
  out["jobs"] = node.jobs();
  out["last_seen"] = node.last_seen();
  out["version"] = printable(node.version());
  return out;
}

}  // namespace atlas
