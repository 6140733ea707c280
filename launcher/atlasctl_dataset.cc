#include <unistd.h>

#include <algorithm>
#include <map>

#include "common/percent.h"
#include "launcher/atlasctl_verbs.h"
#include "launcher/ui_job.h"
#include "proto/convert.h"

namespace atlas::ctl {
namespace {

using Stub = ControllerClient::Stub;

std::string exact_path(const Session& session, const v1::Dataset& dataset) {
  return path_of(session.config(), from_wire(dataset.id()));
}

Result<v1::ListDatasetsReply> ask(Session& session, const std::string& which) {
  v1::ListDatasetsRequest request;
  if (!which.empty()) {
    ATLAS_ASSIGN(auto dataset, dataset_argument(which));
    request.set_which(std::move(dataset));
  }
  return session.call(&Stub::ListDatasets, "Controller.ListDatasets", request);
}

Table table_of(const Session& session, const v1::ListDatasetsReply& reply) {
  Table table({{"NAME"},
               {"PATH"},
               {"UFS TOTAL SIZE", Table::Align::right},
               {"CACHED", Table::Align::right},
               {"CACHED %", Table::Align::right},
               {"STATE"},
               {"NODES"}});
  for (const auto& d : reply.datasets())
    table.add({d.name().empty() ? "-" : d.name(), exact_path(session, d), session.size(d.generation().bytes()),
               session.size(d.cached()), format_percent(Bytes{d.cached()}, Bytes{d.generation().bytes()}), d.state(),
               d.nodes().empty() ? "-" : d.nodes()});
  return table;
}

void print_one(const Session& session, const v1::Dataset& d) {
  const auto& g = d.generation();
  std::string out;
  const auto row = [&out](std::string_view title, const std::string& value) {
    out += std::string(title) + std::string(12 - title.size(), ' ') + printable(value) + "\n";
  };
  row("Name", d.name().empty() ? "-" : d.name());
  row("Path", exact_path(session, d));
  row("Origin", d.id().origin());
  if (!d.owner().empty()) row("Owner", d.owner());
  row("State", d.state() + (d.pinned() ? ", pinned" : ""));
  if (g.observed() == 0) {
    row("Size", "not known yet: nobody has warmed or read it through Atlas");
  } else {
    row("Size", format_size(Bytes{g.bytes()}) + " in " + std::to_string(g.files()) + " files, " +
                    std::to_string(g.entries()) + " entries");
    row("Seen", session.ago(g.observed()));
  }
  row("Cached", format_size(Bytes{d.cached()}) + " (" + format_percent(Bytes{d.cached()}, Bytes{g.bytes()}) +
                    " %) on " + (d.nodes().empty() ? "no node completely" : d.nodes()));
  if (g.opaque() > 0) row("Unreadable", std::to_string(g.opaque()) + " entries that the warming user may not read");
  if (g.outward_links() > 0)
    row("Links", std::to_string(g.outward_links()) + " symlinks leave the dataset; what they point to is not cached");
  print_out(out);
}

}  // namespace

Outcome dataset_create(Session& session, const DatasetCreate& args) {
  ATLAS_ASSIGN(auto path, dataset_argument(args.path));
  ATLAS_ASSIGN(auto name, dataset_argument(args.name));
  if (path[0] != '/')
    return fail(Code::invalid_argument, "'" + printable(args.path) + "' is not a path: NAME, then PATH");
  if (name[0] == '/')
    return fail(Code::invalid_argument, "'" + printable(args.name) + "' is not a name: NAME, then PATH");
  v1::CreateDatasetRequest request;
  request.set_name(std::move(name));
  request.set_path(std::move(path));
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::CreateDataset, "Controller.CreateDataset", request));
  if (session.output().json) {
    print_out(dump(to_json(reply.dataset(), session.config())));
  } else {
    print_out(printable(reply.dataset().name()) + " is " + printable(exact_path(session, reply.dataset())) + "\n");
  }
  return kExitOk;
}

Outcome dataset_list(Session& session, const DatasetOne& args) {
  ATLAS_ASSIGN(const auto reply, ask(session, args.dataset));
  if (session.output().json) {
    Json out = Json::array();
    for (const auto& dataset : reply.datasets()) out.push_back(to_json(dataset, session.config()));
    print_out(dump(out));
  } else {
    session.print(table_of(session, reply));
  }
  return kExitOk;
}

Outcome dataset_show(Session& session, const DatasetOne& args) {
  ATLAS_ASSIGN(const auto reply, ask(session, args.dataset));
  if (reply.datasets().empty())
    return fail(Code::not_found, "'" + printable(args.dataset) + "' is not known to Atlas: see atlasctl dataset list");
  if (session.output().json) {
    print_out(dump(to_json(reply.datasets(0), session.config())));
  } else if (session.output().parsable) {
    session.print(table_of(session, reply));
  } else {
    print_one(session, reply.datasets(0));
  }
  return kExitOk;
}

namespace {

Outcome warm_or_verify(Session& session, const DatasetOnNodes& args, bool verify) {
  v1::WarmDatasetRequest request;
  request.set_verify(verify);
  ATLAS_ASSIGN(auto dataset, dataset_argument(args.dataset));
  ATLAS_ASSIGN(auto nodes, hostlist_argument(args.nodes));
  request.set_dataset(std::move(dataset));
  request.set_nodes(std::move(nodes));
  hold_signals();
  ATLAS_ASSIGN(auto* const client, session.controller());
  const bool json = session.output().json;
  const SystemClock clock;
  ProgressView view(terminal_of(STDOUT_FILENO), clock, print_out);
  std::map<std::string, ProgressRow> rows;  // by node: a node's newest state
  const auto end = client->watch(&ControllerClient::Async::WarmDataset, "Controller.WarmDataset", request,
                                 [&](const v1::Progress& progress) {
                                   if (json) print_out(dump_line(to_json(progress, session.config())));
                                   rows[progress.node()] = row_of(progress, session.config());
                                   std::vector<ProgressRow> list;
                                   for (const auto& [node, row] : rows) list.push_back(row);
                                   if (!json) view.show(list);
                                 });
  view.leave();
  if (end.interrupted) {
    print_err(std::string(kTool) + ": the warm-up goes on; look again with: atlasctl placement " +
              printable(args.dataset) + "\n");
    return kExitOk;
  }
  if (!end.status) return fail(end.status.error());
  const bool failed = std::any_of(rows.begin(), rows.end(),
                                  [](const auto& row) { return row.second.state.phase != WarmPhase::complete; });
  if (rows.empty()) return fail(Code::internal, "the controller reported no warm-up; see its log");
  return failed ? kExitFailed : kExitOk;
}

}  // namespace

Outcome dataset_warm(Session& session, const DatasetOnNodes& args) {
  return warm_or_verify(session, args, false);
}
Outcome dataset_verify(Session& session, const DatasetOnNodes& args) {
  return warm_or_verify(session, args, true);
}

Outcome dataset_delete(Session& session, const DatasetOne& args) {
  v1::DeleteDatasetRequest request;
  ATLAS_ASSIGN(auto name, dataset_argument(args.dataset));
  if (name[0] == '/')
    return fail(Code::invalid_argument,
                "delete takes a name: it removes the name, never data. To free node-local space: "
                "atlasctl evict " +
                    printable(name));
  request.set_name(name);
  ATLAS_TRY(session.call(&Stub::DeleteDataset, "Controller.DeleteDataset", request));
  if (session.output().json) {
    print_out(dump_line({{"deleted", printable(name)}}));
  } else {
    print_out("the name " + printable(name) + " is gone; the data at the origin and its replicas are untouched\n");
  }
  return kExitOk;
}

}  // namespace atlas::ctl
