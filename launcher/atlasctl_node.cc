#include "common/hostlist.h"
#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"

namespace atlas::ctl {
namespace {

using Stub = ControllerClient::Stub;

constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;

Result<v1::ListNodesReply> ask(Session& session, const std::string& which) {
  v1::ListNodesRequest request;
  ATLAS_ASSIGN(auto nodes, hostlist_argument(which));
  request.set_nodes(std::move(nodes));
  return session.call(&Stub::ListNodes, "Controller.ListNodes", request);
}

void print_json(const v1::ListNodesReply& reply) {
  Json out = Json::array();
  for (const auto& node : reply.nodes()) out.push_back(to_json(node));
  print_out(dump(out));
}

Result<int> set_drain(Session& session, const std::string& which, bool resume) {
  ATLAS_ASSIGN(auto nodes, hostlist_argument(which));
  if (nodes.empty()) return fail(Code::invalid_argument, "name the nodes, e.g. n[001-003]");
  v1::DrainNodeRequest request;
  request.set_nodes(nodes);
  request.set_resume(resume);
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::DrainNode, "Controller.DrainNode", request));
  if (session.output().json) {
    print_out(dump_line({{"nodes", reply.nodes()}, {"drained", !resume}}));
  } else {
    print_out(
        std::to_string(reply.nodes()) + (reply.nodes() == 1 ? " node " : " nodes ") +
        (resume ? "used for placement again\n" : "no longer used for placement; replicas and jobs stay as they are\n"));
  }
  return kExitOk;
}

}  // namespace

Outcome node_list(Session& session, const Nodes& args) {
  ATLAS_ASSIGN(const auto reply, ask(session, args.nodes));
  if (session.output().json) return print_json(reply), kExitOk;
  Table table({{"NODE"},
               {"STATE"},
               {"SLURM STATE"},
               {"CACHE SIZE", Table::Align::right},
               {"USED", Table::Align::right},
               {"USED %", Table::Align::right},
               {"REPLICAS", Table::Align::right},
               {"WARMING", Table::Align::right},
               {"JOBS", Table::Align::right},
               {"LAST SEEN", Table::Align::right},
               {"VERSION"}});
  for (const auto& n : reply.nodes()) {
    std::uint64_t quota = 0, used = 0;
    for (const auto& tier : n.tiers()) {
      quota += tier.state() == "out" ? 0 : tier.quota();
      used += tier.state() == "out" ? 0 : tier.used();
    }
    table.add({n.name(), n.state(), n.slurm_state(), session.size(quota), session.size(used),
               format_percent(Bytes{used}, Bytes{quota}), std::to_string(n.replicas()), std::to_string(n.warming()),
               std::to_string(n.jobs()), session.ago(n.last_seen() * kNanosecondsPerSecond), n.version()});
  }
  session.print(table);
  return kExitOk;
}

Outcome node_show(Session& session, const Nodes& args) {
  ATLAS_ASSIGN(const auto reply, ask(session, args.nodes));
  if (reply.nodes().empty())
    return fail(Code::not_found,
                "no agent has ever reported as '" + printable(args.nodes) + "': see atlasctl node list");
  if (session.output().json) return print_json(reply), kExitOk;
  Table table({{"NODE"},
               {"STATE"},
               {"TIER"},
               {"TIER STATE"},
               {"SIZE", Table::Align::right},
               {"USED", Table::Align::right},
               {"USED %", Table::Align::right},
               {"INODES", Table::Align::right},
               {"INODES USED", Table::Align::right}});
  for (const auto& n : reply.nodes()) {
    if (n.tiers().empty()) table.add({n.name(), n.state(), "-", "-", "-", "-", "-", "-", "-"});
    for (const auto& tier : n.tiers())
      table.add({n.name(), n.state(), tier.name(), tier.state(), session.size(tier.quota()), session.size(tier.used()),
                 format_percent(Bytes{tier.used()}, Bytes{tier.quota()}),
                 tier.inodes() == 0 ? "-" : std::to_string(tier.inodes()), std::to_string(tier.inodes_used())});
  }
  session.print(table);
  if (session.output().parsable) return kExitOk;
  print_out("\n");
  return placement(session, {.dataset = "", .nodes = args.nodes});
}

Outcome node_drain(Session& session, const Nodes& args) {
  return set_drain(session, args.nodes, false);
}
Outcome node_resume(Session& session, const Nodes& args) {
  return set_drain(session, args.nodes, true);
}

}  // namespace atlas::ctl
