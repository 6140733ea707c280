#include "sim/experiment.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "sim/easy.h"

namespace atlas::sim {
namespace {

constexpr const char* kDelayGrid[] = {"15s", "30s", "60s", "120s", "240s", "480s", "900s", "1800s", "3600s"};

tl::unexpected<Error> unknown(std::string_view spec) {
  return fail(Code::invalid_argument,
              "no policy '" + std::string(spec) + "': blind, prefer, delay, delay=5m, atlas or oracle");
}

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0)) return std::nullopt;
  return value;
}

Status set(AtlasOptions& options, std::string_view setting) {
  const auto equals = setting.find('=');
  const auto name = setting.substr(0, equals);
  const auto value = equals == std::string_view::npos ? "" : setting.substr(equals + 1);
  const auto as_number = number(value);
  if (name == "patience") {
    ATLAS_ASSIGN(const auto time, parse_duration(value));
    options.patience = time;
  } else if (name == "loyalty") {
    ATLAS_ASSIGN(const auto time, parse_duration(value));
    options.loyalty = time;
  } else if (name == "idle") {
    ATLAS_ASSIGN(const auto time, parse_duration(value));
    options.idle = time;
  } else if (name == "stall" && as_number) {
    options.stall = *as_number;
  } else if (name == "transfer" && as_number) {
    options.transfer = *as_number;
  } else if (name == "depth" && as_number) {
    options.depth = static_cast<std::uint32_t>(*as_number);
  } else if (name == "ends" && (value == "limit" || value == "exact")) {
    options.ends = value == "limit" ? AtlasOptions::Ends::limit : AtlasOptions::Ends::exact;
  } else if (name == "evict" && (value == "lru" || value == "queue")) {
    options.evict = value == "lru" ? AtlasOptions::Evict::lru : AtlasOptions::Evict::queue;
  } else {
    return fail(
        Code::invalid_argument,
        "'" + std::string(setting) +
            "' is no setting of a policy: patience=TIME, loyalty=TIME, idle=TIME, stall=N, transfer=N, depth=N, "
            "ends=limit|exact, evict=lru|queue");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Policy>> make_policy(std::string_view spec, const Site& site, const Workload& workload) {
  if (spec == "blind") return std::make_unique<EasyPolicy>();
  if (spec == "prefer") return std::make_unique<PreferPolicy>();
  if (spec.starts_with("delay=")) {
    ATLAS_ASSIGN(const auto patience, parse_duration(spec.substr(6)));
    return std::make_unique<DelayPolicy>(patience);
  }
  const auto name = spec.substr(0, spec.find(','));
  if (name != "atlas" && name != "oracle") return unknown(spec);
  AtlasOptions options;
  if (name == "oracle") {
    options.ends = AtlasOptions::Ends::exact;
    options.evict = AtlasOptions::Evict::future;
    options.foresight = std::chrono::hours(2);
  }
  for (auto rest = spec.substr(name.size()); !rest.empty();) {
    rest.remove_prefix(1);
    ATLAS_TRY(set(options, rest.substr(0, rest.find(','))));
    rest.remove_prefix(std::min(rest.find(','), rest.size()));
  }
  return std::make_unique<AtlasPolicy>(site, workload, options);
}

Result<Summary> simulate(const Site& site, const Workload& workload, std::string_view spec) {
  ATLAS_ASSIGN(const auto policy, make_policy(spec, site, workload));
  ATLAS_ASSIGN(const auto outcome, Cluster(site, workload, *policy).run());
  return summarize(workload, outcome);
}

namespace {

Result<Row> over_all(const Site& site, const std::string& name, const std::vector<Workload>& workloads,
                     const std::string& spec) {
  std::vector<Summary> runs;
  for (const auto& workload : workloads) {
    ATLAS_ASSIGN(const auto summary, simulate(site, workload, spec));
    runs.push_back(summary);
  }
  return Row{name, spec, mean_of(runs), std::move(runs)};
}

}  // namespace

Result<std::vector<Row>> compare(const Site& site, const std::string& name, const std::vector<Workload>& workloads,
                                 const std::vector<std::string>& policies) {
  std::vector<Row> rows;
  for (const auto& spec : policies) {
    if (spec != "delay") {
      ATLAS_ASSIGN(auto row, over_all(site, name, workloads, spec));
      rows.push_back(std::move(row));
      continue;
    }
    std::optional<Row> best;
    for (const auto* patience : kDelayGrid) {
      ATLAS_ASSIGN(auto row, over_all(site, name, workloads, spec + "=" + patience));
      if (!best || row.summary.mean_turnaround < best->summary.mean_turnaround) best = std::move(row);
    }
    rows.push_back(std::move(*best));
  }
  return rows;
}

}  // namespace atlas::sim
