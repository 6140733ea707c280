#include "controller/rpc/metrics.h"

#include <array>
#include <future>

#include "common/metrics/open_metrics.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 2s;

double seconds_of(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}
double number(Bytes bytes) {
  return static_cast<double>(bytes.count);
}

void add_nodes(OpenMetrics& out, const ControllerParts& parts) {
  std::size_t connected = 0, drained = 0;
  Bytes quota, used;
  for (const auto& [node, agent] : parts.registry.agents()) {
    connected += agent.connected ? 1 : 0;
    drained += agent.drained ? 1 : 0;
    for (const auto& tier : agent.tiers) {
      quota += tier.quota;
      used += tier.used;
    }
  }
  out.gauge("atlas_agents", "Nodes that a cache agent was seen on, by whether it is connected now.");
  out.add({{"connected", "yes"}}, static_cast<double>(connected));
  out.add({{"connected", "no"}}, static_cast<double>(parts.registry.agents().size() - connected));
  out.gauge("atlas_agents_drained", "Nodes that an operator has taken out of use in Atlas.",
            static_cast<double>(drained));
  out.gauge("atlas_cache_quota_bytes", "Bytes that replicas may take on all nodes together.", number(quota));
  out.gauge("atlas_cache_used_bytes", "Bytes that replicas take on all nodes together.", number(used));
  out.gauge("atlas_slurm_up", "1 when slurmctld answered the last time it was asked.",
            parts.staging.slurm_trouble() ? 0 : 1);
}

void add_jobs(OpenMetrics& out, const ControllerParts& parts) {
  std::map<JobPhase, std::size_t> phases;
  for (const auto& job : parts.staging.jobs()) ++phases[job.row.phase];
  out.gauge("atlas_jobs", "Jobs with datasets, by what they are at.");
  for (const auto phase : {JobPhase::queued, JobPhase::surveying, JobPhase::waiting, JobPhase::warming, JobPhase::ready,
                           JobPhase::running})
    out.add({{"phase", name_of(phase)}}, static_cast<double>(phases[phase]));
  out.gauge("atlas_warmups", "Warm-ups under way, on all nodes.",
            static_cast<double>(parts.staging.warmups().all().size()));
  const auto& totals = parts.staging.totals();
  out.counter("atlas_jobs_ended", "Jobs with datasets that have ended, by what they ran on.");
  for (const std::string outcome : {"warm", "partial", "cold", "mixed", "not started"}) {
    const auto at = totals.jobs.find(outcome);
    out.add({{"outcome", outcome}}, at == totals.jobs.end() ? 0 : static_cast<double>(at->second));
  }
  out.counter("atlas_job_waited_seconds", "Time for which ended jobs waited for their data alone.",
              seconds_of(totals.waited));
  out.counter("atlas_job_origin_bytes", "Data that Atlas read from origins for ended jobs.", number(totals.origin));
  out.counter("atlas_job_peer_bytes", "Data that Atlas read from other nodes' caches for ended jobs.",
              number(totals.peers));
  out.counter("atlas_job_hit_bytes", "Data that ended jobs read from partial replicas, where that is counted.",
              number(totals.hit));
  out.counter("atlas_job_throttled_seconds", "Time for which reads of ended jobs waited for limits.",
              seconds_of(totals.throttled));
  out.counter("atlas_job_throttled_bytes", "Data of these reads.", number(totals.throttled_bytes));
  out.counter("atlas_job_bypass_bytes", "Data that ended jobs read from origins past Atlas, where that is measured.",
              number(totals.bypass));
}

void add_limits(OpenMetrics& out, const ControllerParts& parts) {
  struct Line {
    const char *name, *help;
    std::optional<double> (*value)(const LimitRow& limit, const Sharing::Use& use);
  };
  static constexpr std::array<Line, 5> kLines{{
      {"atlas_limit_rate_bytes", "Bytes per second that a limit allows.",
       [](const LimitRow& limit, const Sharing::Use&) -> std::optional<double> {
         return limit.read ? std::optional(number(*limit.read)) : std::nullopt;
       }},
      {"atlas_limit_operations", "Operations per second that a limit allows.",
       [](const LimitRow& limit, const Sharing::Use&) -> std::optional<double> {
         return limit.operations ? std::optional(static_cast<double>(*limit.operations)) : std::nullopt;
       }},
      {"atlas_limit_used_bytes", "Bytes per second that were read under a limit lately.",
       [](const LimitRow&, const Sharing::Use& use) -> std::optional<double> { return use.used.bytes; }},
      {"atlas_limit_used_operations", "Operations per second that were made under a limit lately.",
       [](const LimitRow&, const Sharing::Use& use) -> std::optional<double> { return use.used.operations; }},
      {"atlas_limit_waiting", "Reads that wait for a limit now.",
       [](const LimitRow&, const Sharing::Use& use) -> std::optional<double> { return use.waiting; }},
  }};
  const auto limits = parts.staging.cache_space().limits();
  const auto uses = parts.staging.io_limits().uses(limits);
  for (const auto& line : kLines) {
    out.gauge(line.name, line.help);
    for (std::size_t i = 0; i < limits.size(); ++i) {
      const auto& limit = limits[i];
      if (!limit.read && !limit.operations) continue;
      if (const auto value = line.value(limit, uses[i]))
        out.add({{"kind", name_of(limit.kind)}, {"name", limit.name}}, *value);
    }
  }
}

}  // namespace

std::string metrics_of(const ControllerParts& parts) {
  OpenMetrics out;
  add_nodes(out, parts);
  add_jobs(out, parts);
  add_limits(out, parts);
  return out.end();
}

Result<std::unique_ptr<MetricsServer>> serve_metrics(const ControllerParts& parts) {
  const std::string& listen = parts.config.controller.metrics;
  if (listen.empty()) return std::unique_ptr<MetricsServer>();
  return MetricsServer::start(listen, [parts]() -> Result<std::string> {
    const auto text = std::make_shared<std::promise<std::string>>();
    auto said = text->get_future();
    parts.strand.post([parts, text] { text->set_value(metrics_of(parts)); });
    if (said.wait_for(kPatience) != std::future_status::ready)
      return fail(Code::unavailable, "the controller is busy: ask again");
    return said.get();
  });
}

}  // namespace atlas
