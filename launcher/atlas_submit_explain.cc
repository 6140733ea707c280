#include "launcher/atlas_submit_explain.h"

#include <charconv>

#include "common/percent.h"
#include "common/table.h"
#include "launcher/ui_controller.h"
#include "launcher/ui_json.h"
#include "launcher/ui_plan.h"
#include "proto/convert.h"

namespace atlas {
namespace {

std::string free_text(const v1::Candidate& candidate) {
  if (candidate.free_now()) return "now";
  return candidate.has_start() ? "in " + plan_span(candidate.start()) : "no";
}

}  // namespace

Result<v1::ExplainRequest> explain_request(const SubmitPlan& plan) {
  v1::ExplainRequest out;
  ATLAS_ASSIGN(auto request, encode(plan.request));
  out.set_request(std::move(request));
  const std::string nodes = plan.view.nodes.value_or("1");
  std::uint32_t count = 0;
  std::from_chars(nodes.data(), nodes.data() + nodes.size(), count);
  out.set_nodes(std::max(count, 1U));
  out.set_partition(plan.view.partition.value_or(""));
  out.set_node_list(plan.view.nodelist.value_or(""));
  out.set_exclude(plan.view.exclude.value_or(""));
  return out;
}

std::string explain_text(const v1::ExplainReply& reply, const Config& config) {
  Table table({{""},
               {"NODES"},
               {"RESIDENT", Table::Align::right},
               {"OF", Table::Align::right},
               {"%", Table::Align::right},
               {"FREE"},
               {"STALL", Table::Align::right},
               {"NOTE"}});
  for (const auto& c : reply.candidates())
    table.add({c.chosen() ? "*" : "", c.nodes(), format_size(Bytes{c.resident_bytes()}),
               c.total_bytes() == 0 ? "-" : format_size(Bytes{c.total_bytes()}),
               format_percent(Bytes{c.resident_bytes()}, Bytes{c.total_bytes()}), free_text(c),
               c.has_stall() ? plan_span(c.stall()) : "-", c.note()});
  std::string out = table.rows() == 0 ? "No candidates.\n" : table.render({});
  if (const auto weighed = plan_table(reply.alternatives()); !weighed.empty()) out += "\nWeighed:\n" + weighed + "\n";
  for (const auto& estimate : reply.estimates())
    out += "Estimate: " + printable(path_of(config, from_wire(estimate.dataset()))) +
           " has never been read through Atlas; " +
           (estimate.complete() ? "a walk found " : "a walk of 10 s found at least ") +
           format_size(Bytes{estimate.bytes()}) + " in " + std::to_string(estimate.files()) +
           (estimate.files() == 1 ? " file" : " files") + "\n";
  out += "Decision: " + printable(reply.decision()) + "\n";
  if (!reply.reason().empty()) out += "Reason:   " + printable(reply.reason()) + "\n";
  return out + "Nothing was submitted.\n";
}

int explain(const Config& config, const SubmitPlan& plan, bool json) {
  constexpr const char* kTool = "atlas-submit";
  // A dataset that was never seen is walked for ten seconds first.
  constexpr milliseconds kWalkPatience{25'000};
  const auto request = explain_request(plan);
  if (!request) return report(kTool, request.error());
  auto client = ControllerClient::make(config);
  if (!client) return report(kTool, client.error());
  const auto reply = (*client)->call(&v1::Controller::Stub::Explain, "Controller.Explain", *request, kWalkPatience);
  if (!reply) return report(kTool, reply.error());
  print_out(json ? dump(to_json(*reply, config)) : explain_text(*reply, config));
  return kExitOk;
}

}  // namespace atlas
