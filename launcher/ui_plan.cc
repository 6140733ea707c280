#include "launcher/ui_plan.h"

#include <algorithm>

#include "common/percent.h"
#include "common/table.h"
#include "launcher/ui.h"

namespace atlas {
namespace {

std::string what_of(const v1::Alternative& alternative) {
  if (alternative.what() == "go") return "start there now";
  if (alternative.what() == "wait") return "wait for it";
  if (alternative.what() == "warm") return "warm it first";
  return "start on the origin";
}

}  // namespace

std::string plan_span(std::int64_t ms) {
  return format_duration(std::chrono::seconds((std::max<std::int64_t>(0, ms) + 999) / 1000));
}

std::string plan_table(const google::protobuf::RepeatedPtrField<v1::Alternative>& plan) {
  if (plan.empty()) return "";
  Table table({{""},
               {"NODES"},
               {"RESIDENT", Table::Align::right},
               {"%", Table::Align::right},
               {"FREE IN", Table::Align::right},
               {"THEN STALL", Table::Align::right},
               {"TOTAL", Table::Align::right},
               {"WHAT"}});
  bool first = true;
  for (const auto& row : plan)
    table.add({std::exchange(first, false) ? "*" : "", row.nodes().empty() ? "any" : printable(row.nodes()),
               format_size(Bytes{row.resident_bytes()}),
               format_percent(Bytes{row.resident_bytes()}, Bytes{row.total_bytes()}),
               row.has_start() ? plan_span(row.start()) : "-", row.has_stall() ? plan_span(row.stall()) : "-",
               row.has_start() && row.has_stall() ? plan_span(row.start() + row.stall()) : "-", what_of(row)});
  return table.render({});
}

std::string plan_and_outcome(const v1::JobStatus& job) {
  if (job.plan().empty() || !job.has_receipt() || job.receipt().started() == 0) return "";
  const auto& chosen = job.plan(0);
  const auto& receipt = job.receipt();
  std::string out = (chosen.nodes().empty() ? "any node" : printable(chosen.nodes())) + " in " +
                    plan_span(chosen.start()) + ", then " + plan_span(chosen.stall()) + " of waiting for data; it ";
  out += receipt.nodes() == chosen.nodes() ? "ran there" : "ran on " + printable(receipt.nodes());
  out += ", " + plan_span((receipt.started() - job.planned()) * 1000) + " later, and read " +
         format_size(Bytes{receipt.origin_bytes()}) + " from the origin";
  return out;
}

}  // namespace atlas
