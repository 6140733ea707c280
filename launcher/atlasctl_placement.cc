#include <algorithm>
#include <map>

#include "common/hostlist.h"
#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"
#include "proto/convert.h"

namespace atlas::ctl {
namespace {

using Stub = ControllerClient::Stub;

/// "17,19" for the jobs that hold a replica.
std::string jobs_of(const v1::Replica& replica) {
  std::string out;
  for (const auto job : replica.leases()) out += (out.empty() ? "" : ",") + std::to_string(job);
  return out.empty() ? "-" : out;
}

Result<int> set_pin(Session& session, const DatasetOne& args, bool pinned) {
  v1::PinDatasetRequest request;
  ATLAS_ASSIGN(auto dataset, dataset_argument(args.dataset));
  request.set_dataset(std::move(dataset));
  request.set_unpin(!pinned);
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::PinDataset, "Controller.PinDataset", request));
  if (session.output().json) {
    print_out(dump_line({{"replicas", reply.replicas()}, {"pinned", pinned}}));
  } else {
    print_out(std::to_string(reply.replicas()) + (reply.replicas() == 1 ? " replica " : " replicas ") +
              (pinned ? "pinned\n" : "unpinned\n"));
  }
  return kExitOk;
}

}  // namespace

Outcome placement(Session& session, const Placement& args) {
  v1::PlacementRequest request;
  if (!args.dataset.empty()) {
    ATLAS_ASSIGN(auto dataset, dataset_argument(args.dataset));
    request.set_dataset(std::move(dataset));
  }
  ATLAS_ASSIGN(auto nodes, hostlist_argument(args.nodes));
  request.set_nodes(std::move(nodes));
  ATLAS_ASSIGN(auto reply, session.call(&Stub::Placement, "Controller.Placement", request));
  if (args.job_id != 0) {
    auto* rows = reply.mutable_rows();
    rows->erase(std::remove_if(rows->begin(), rows->end(),
                               [&](const auto& row) {
                                 const auto& leases = row.replica().leases();
                                 return std::find(leases.begin(), leases.end(), args.job_id) == leases.end();
                               }),
                rows->end());
  }
  if (session.output().json) {
    Json out = Json::array();
    for (const auto& row : reply.rows()) out.push_back(to_json(row, session.config()));
    print_out(dump(out));
    return kExitOk;
  }
  Table table({{"NODES"},
               {"NODE STATE"},
               {"DATASET"},
               {"STATE"},
               {"RESIDENT", Table::Align::right},
               {"%", Table::Align::right},
               {"TIER"},
               {"LAST USED", Table::Align::right},
               {"PINNED"},
               {"JOBS"}});
  // Nodes of which the same can be said are one row: a thousand of them can be read.
  std::map<std::vector<std::string>, std::size_t> rows;
  std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> found;  // what is said, of which nodes
  std::vector<std::int64_t> used;
  for (const auto& row : reply.rows()) {
    const auto& r = row.replica();
    std::vector<std::string> said = {
        row.node_state(),
        row.name().empty() ? path_of(session.config(), from_wire(r.dataset())) : row.name(),
        std::string(state_name(r.state())),
        session.size(r.bytes_resident()),
        format_percent(Bytes{r.bytes_resident()}, Bytes{r.generation().bytes()}),
        r.tier(),
        r.pinned() ? "yes" : "no",
        jobs_of(r)};
    const auto [at, fresh] = rows.try_emplace(said, found.size());
    if (fresh) {
      found.emplace_back(std::move(said), std::vector<std::string>());
      used.push_back(r.last_used());
    }
    found[at->second].second.push_back(row.node());
    used[at->second] = std::max(used[at->second], r.last_used());
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    auto& [said, names] = found[i];
    sort_hosts(names);
    table.add({compress_hostlist(names), said[0], said[1], said[2], said[3], said[4], said[5], session.ago(used[i]),
               said[6], said[7]});
  }
  session.print(table);
  return kExitOk;
}

Outcome pin(Session& session, const DatasetOne& args) {
  return set_pin(session, args, true);
}
Outcome unpin(Session& session, const DatasetOne& args) {
  return set_pin(session, args, false);
}

Outcome evict(Session& session, const DatasetOnNodes& args) {
  constexpr milliseconds kDeleting = std::chrono::minutes(11);  // a little longer than the controller waits for a node
  v1::EvictDatasetRequest request;
  ATLAS_ASSIGN(auto dataset, dataset_argument(args.dataset));
  ATLAS_ASSIGN(auto nodes, hostlist_argument(args.nodes));
  request.set_dataset(std::move(dataset));
  request.set_nodes(std::move(nodes));
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::EvictDataset, "Controller.EvictDataset", request, kDeleting));
  if (session.output().json) {
    Json kept = Json::array();
    for (const auto& reason : reply.kept()) kept.push_back(printable(reason));
    print_out(dump_line({{"replicas", reply.replicas()}, {"bytes", reply.bytes()}, {"kept", kept}}));
  } else {
    print_out(std::to_string(reply.replicas()) + (reply.replicas() == 1 ? " replica" : " replicas") + " evicted, " +
              session.size(reply.bytes()) + " freed\n");
    for (const auto& reason : reply.kept()) print_err("kept: " + printable(reason) + "\n");
  }
  return reply.kept().empty() ? kExitOk : kExitFailed;
}

}  // namespace atlas::ctl
