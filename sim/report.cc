#include "sim/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

namespace atlas::sim {
namespace {

std::string number(double value, int digits = 1) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string size_of(double bytes) {
  return format_size(Bytes{static_cast<std::uint64_t>(bytes)});
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double jain(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  return squares == 0 ? 1 : sum * sum / (static_cast<double>(values.size()) * squares);
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else
      out += c;
  }
  return out;
}

}  // namespace

double percentile(std::vector<double> samples, double share) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(samples.size())));
  return samples[std::min(std::max<std::size_t>(rank, 1), samples.size()) - 1];
}

Summary summarize(const Workload& workload, const Outcome& outcome) {
  std::vector<double> waits, stalls, turnarounds;
  std::map<std::uint32_t, std::vector<double>> slowdowns;
  double hits = 0, reads = 0;
  for (std::size_t i = 0; i < workload.jobs.size(); ++i) {
    const auto& job = workload.jobs[i];
    const auto& result = outcome.jobs[i];
    waits.push_back((result.start - job.submit).count());
    stalls.push_back(result.stall.count());
    turnarounds.push_back((result.end - job.submit).count());
    constexpr double kShort = 10;  // bounded slowdown: a job of a second that waits a minute is no catastrophe
    slowdowns[job.user].push_back(std::max(1.0, turnarounds.back() / std::max(job.runtime.count(), kShort)));
    hits += result.hit_bytes;
    reads += result.hit_bytes + result.origin_bytes + result.peer_bytes;
  }
  Summary out;
  out.mean_wait = mean(waits);
  out.p95_wait = percentile(waits, 0.95);
  out.mean_stall = mean(stalls);
  out.p95_stall = percentile(stalls, 0.95);
  out.mean_turnaround = mean(turnarounds);
  out.p95_turnaround = percentile(turnarounds, 0.95);
  out.hit_ratio = reads > 0 ? hits / reads : 0;
  out.origin_bytes = outcome.origin_bytes;
  out.peer_bytes = outcome.peer_bytes;
  out.warm_bytes = outcome.warm_bytes;
  out.wasted_bytes = outcome.wasted_bytes;
  out.makespan = outcome.makespan.count();
  std::vector<double> users;
  for (const auto& [user, values] : slowdowns) users.push_back(mean(values));
  out.fairness = jain(users);
  return out;
}

Summary mean_of(const std::vector<Summary>& runs) {
  Summary out;
  constexpr double Summary::*kFigures[] = {&Summary::mean_wait,  &Summary::p95_wait,        &Summary::mean_stall,
                                           &Summary::p95_stall,  &Summary::mean_turnaround, &Summary::p95_turnaround,
                                           &Summary::hit_ratio,  &Summary::origin_bytes,    &Summary::peer_bytes,
                                           &Summary::warm_bytes, &Summary::wasted_bytes,    &Summary::fairness,
                                           &Summary::makespan};
  for (const auto figure : kFigures) {
    std::vector<double> values;
    for (const auto& run : runs) values.push_back(run.*figure);
    out.*figure = mean(values);
  }
  return out;
}

double reuse(const Workload& workload) {
  std::vector<bool> seen(workload.datasets.size(), false);
  double first = 0, all = 0;
  for (const auto& job : workload.jobs)
    for (const auto dataset : job.datasets) {
      const auto size = static_cast<double>(workload.datasets[dataset].size.count);
      all += size * job.nodes;
      if (!seen[dataset]) first += size * job.nodes;
      seen[dataset] = true;
    }
  return all > 0 ? 1 - first / all : 0;
}

Table table_of(const std::vector<Row>& rows) {
  constexpr auto kRight = Table::Align::right;
  Table table({{"WORKLOAD"},
               {"POLICY"},
               {"WAIT", kRight},
               {"P95 WAIT", kRight},
               {"STALL", kRight},
               {"TURNAROUND", kRight},
               {"P95 TURNAROUND", kRight},
               {"HIT %", kRight},
               {"ORIGIN", kRight},
               {"PEERS", kRight},
               {"WARMED", kRight},
               {"WASTED", kRight},
               {"FAIRNESS", kRight}});
  for (const auto& [workload, policy, s, runs] : rows)
    table.add({workload, policy, number(s.mean_wait), number(s.p95_wait), number(s.mean_stall),
               number(s.mean_turnaround), number(s.p95_turnaround), number(100 * s.hit_ratio), size_of(s.origin_bytes),
               size_of(s.peer_bytes), size_of(s.warm_bytes), size_of(s.wasted_bytes), number(s.fairness, 3)});
  return table;
}

namespace {

nlohmann::ordered_json json_of(const Summary& s) {
  return {{"mean_wait", s.mean_wait},
          {"p95_wait", s.p95_wait},
          {"mean_stall", s.mean_stall},
          {"p95_stall", s.p95_stall},
          {"mean_turnaround", s.mean_turnaround},
          {"p95_turnaround", s.p95_turnaround},
          {"hit_ratio", s.hit_ratio},
          {"origin_bytes", s.origin_bytes},
          {"peer_bytes", s.peer_bytes},
          {"warm_bytes", s.warm_bytes},
          {"wasted_bytes", s.wasted_bytes},
          {"fairness", s.fairness},
          {"makespan", s.makespan}};
}

}  // namespace

nlohmann::ordered_json json_of(const Row& row) {
  nlohmann::ordered_json out{{"workload", row.workload}, {"policy", row.policy}};
  out.update(json_of(row.summary));
  auto& seeds = out["seeds"] = nlohmann::ordered_json::array();
  for (const auto& run : row.runs) seeds.push_back(json_of(run));
  return out;
}

std::string plot(const std::vector<Row>& rows) {
  constexpr double kLeft = 190, kWidth = 560, kBar = 16, kTop = 50;
  double most = 1;
  for (const auto& row : rows) most = std::max(most, row.summary.mean_wait + row.summary.mean_stall);
  std::string bars;
  double y = kTop;
  std::string last;
  for (const auto& row : rows) {
    if (!last.empty() && last != row.workload) y += kBar;
    last = row.workload;
    const double wait = row.summary.mean_wait / most * kWidth, stall = row.summary.mean_stall / most * kWidth;
    const auto rect = [&](double x, double width, const char* colour) {
      return "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(width) + "\" height=\"" +
             number(kBar - 4) + "\" fill=\"" + colour + "\"/>\n";
    };
    bars += "<text x=\"" + number(kLeft - 6) + "\" y=\"" + number(y + kBar - 6) + "\" text-anchor=\"end\">" +
            escaped(row.workload + " " + row.policy) + "</text>\n" + rect(kLeft, wait, "#9db4c0") +
            rect(kLeft + wait, stall, "#c0392b") + "<text x=\"" + number(kLeft + wait + stall + 5) + "\" y=\"" +
            number(y + kBar - 6) + "\">" + number(row.summary.mean_wait, 0) + " + " +
            number(row.summary.mean_stall, 0) + " s</text>\n";
    y += kBar;
  }
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"" + number(y + 20) +
         "\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
         "<text x=\"10\" y=\"20\" font-size=\"14\">Mean seconds a job waits in the queue (grey) and for its data (red)"
         "</text>\n" +
         bars + "</svg>\n";
}

}  // namespace atlas::sim
