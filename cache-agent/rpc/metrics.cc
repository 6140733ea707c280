#include "cache-agent/rpc/metrics.h"

#include "common/metrics/open_metrics.h"

namespace atlas::agent {

std::string metrics_of(const Node& node) {
  OpenMetrics out;
  const auto tiers = node.tiers();
  out.gauge("atlas_tier_quota_bytes", "Bytes that replicas may take of a tier.");
  for (const auto& tier : tiers) out.add({{"tier", tier.name}}, static_cast<double>(tier.quota.count));
  out.gauge("atlas_tier_used_bytes", "Bytes that replicas take of a tier.");
  for (const auto& tier : tiers) out.add({{"tier", tier.name}}, static_cast<double>(tier.used.count));
  out.gauge("atlas_tier_used_inodes", "Files, directories and links of replicas in a tier.");
  for (const auto& tier : tiers) out.add({{"tier", tier.name}}, static_cast<double>(tier.inodes_used));
  out.gauge("atlas_tier_state", "1 for the state that a tier is in: ok, crowded, suspect or out.");
  for (const auto& tier : tiers)
    for (const std::string_view state : {"ok", "crowded", "suspect", "out"})
      out.add({{"tier", tier.name}, {"state", state}}, tier.state == state ? 1 : 0);
  const auto activity = node.activity();
  out.gauge("atlas_warmups", "Warm-ups under way.", activity.warming);
  out.gauge("atlas_fetches", "Reads of origins and other nodes under way.", activity.in_flight);
  out.gauge("atlas_jobs", "Jobs that this node has been told of.", static_cast<double>(node.jobs().size()));
  const auto reads = node.reads();
  out.counter("atlas_origin_read_bytes", "Data read from origins, by the user it was read for.");
  for (const auto& user : reads)
    out.add({{"uid", std::to_string(user.uid)}}, static_cast<double>(user.origin_bytes.count));
  out.counter("atlas_origin_operations", "Opens and reads at origins, by the user they were made for.");
  for (const auto& user : reads) out.add({{"uid", std::to_string(user.uid)}}, static_cast<double>(user.operations));
  out.counter("atlas_peer_read_bytes", "Data read from other nodes' caches, by the user it was read for.");
  for (const auto& user : reads)
    out.add({{"uid", std::to_string(user.uid)}}, static_cast<double>(user.peer_bytes.count));
  out.counter("atlas_bypass_read_bytes",
              "Data that jobs read from origins past Atlas, where that is measured, by user.");
  for (const auto& user : reads)
    out.add({{"uid", std::to_string(user.uid)}}, static_cast<double>(user.bypass_bytes.count));
  return out.end();
}

}  // namespace atlas::agent
