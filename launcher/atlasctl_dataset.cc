#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iostream>
#include <map>

#include "common/dataset_policy.h"
#include "common/patterns.h"
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

Result<v1::DatasetSettings> wire_of(const SettingsText& text) {
  v1::DatasetSettings out;
  if (text.revalidate) {
    DatasetPolicy check;
    ATLAS_TRY(parse_revalidate_option(*text.revalidate, check));
    out.set_revalidate(*text.revalidate);
  }
  for (const auto& pattern : text.exclude) {
    ATLAS_TRY(check_pattern(pattern));
    out.add_exclude(pattern);
  }
  out.set_clear_exclude(text.no_exclude);
  if (text.cache) {
    auto size = parse_size(*text.cache);
    if (!size) return fail(std::move(size).error().in("--cache"));
    out.set_cache(size->count);
  }
  if (text.tier) out.set_tier(*text.tier == "any" ? "" : *text.tier);
  if (text.ttl) {
    auto time = parse_duration(*text.ttl);
    if (!time) return fail(std::move(time).error().in("--ttl"));
    out.set_ttl(time->count());
  }
  if (text.replicas) out.set_replicas(*text.replicas);
  return out;
}

/// "revalidate=never, exclude='*.tmp', cache=200G"; "-" when nothing was settled.
std::string settings_line(const std::string& encoded) {
  const auto policy = decode_policy(encoded).value_or(DatasetPolicy{});
  std::string out;
  const auto add = [&out](const std::string& name, const std::string& value) {
    out += (out.empty() ? "" : ", ") + name + "=" + value;
  };
  if (policy.revalidate != Revalidate::standard) add("revalidate", show_revalidate(policy));
  for (const auto& pattern : policy.exclude) add("exclude", pattern);
  if (policy.cache.count != 0) add("cache", format_size(policy.cache));
  if (!policy.tier.empty()) add("tier", policy.tier);
  if (policy.ttl.count() != 0) add("ttl", format_duration(policy.ttl));
  if (policy.replicas != 0) add("replicas", std::to_string(policy.replicas));
  return out.empty() ? "-" : out;
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
  row("Settings", settings_line(d.policy()));
  for (const auto& share : d.shares())
    row("Shared", "with group " + share.group() + ": what " + share.owner() + " may read (by " + share.by() + ", " +
                      session.ago(share.since()) + ")");
  row("State", d.state() + (d.pinned() ? ", pinned" : ""));
  if (g.observed() == 0) {
    row("Size", std::string("not known yet: ") + (d.state() == "unknown" ? "you have not" : "nobody has") +
                    " warmed or read it through Atlas");
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
  ATLAS_ASSIGN(*request.mutable_settings(), wire_of(args.settings));
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::CreateDataset, "Controller.CreateDataset", request));
  if (session.output().json) {
    print_out(dump(to_json(reply.dataset(), session.config())));
  } else {
    print_out(printable(reply.dataset().name()) + " is " + printable(exact_path(session, reply.dataset())) + "\n");
  }
  return kExitOk;
}

Outcome dataset_set(Session& session, const DatasetSet& args) {
  v1::SetDatasetRequest request;
  ATLAS_ASSIGN(*request.mutable_dataset(), dataset_argument(args.dataset));
  ATLAS_ASSIGN(*request.mutable_settings(), wire_of(args.settings));
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::SetDataset, "Controller.SetDataset", request));
  if (session.output().json) {
    print_out(dump(to_json(reply.dataset(), session.config())));
  } else {
    print_out(printable(args.dataset) + ": " + printable(settings_line(reply.dataset().policy())) + "\n");
  }
  return kExitOk;
}

Outcome dataset_share(Session& session, const DatasetShareWith& args) {
  v1::ShareDatasetRequest request;
  ATLAS_ASSIGN(*request.mutable_dataset(), dataset_argument(args.dataset));
  request.set_group(args.group);
  request.set_remove(args.remove);
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::ShareDataset, "Controller.ShareDataset", request));
  if (session.output().json) {
    print_out(dump(to_json(reply.dataset(), session.config())));
    return kExitOk;
  }
  print_out(printable(args.dataset) +
            (args.remove ? " is no longer shared with group " + printable(args.group) +
                               ": jobs that run keep what they have, later ones are refused\n"
                         : " is shared with group " + printable(args.group) +
                               ": its members' jobs read the replicas that its owner's warm-ups make\n"));
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

/// The paths that a file lists, one a line; "./" in front and empty lines are passed over.
Result<std::vector<std::string>> files_from(const std::string& name) {
  constexpr std::size_t kMost = 3 * 1024 * 1024;  // what fits into one message
  std::ifstream file;
  if (name != "-") file.open(name);
  std::istream& in = name == "-" ? std::cin : file;
  if (!in) return fail_errno(errno, "--files-from: " + printable(name));
  std::vector<std::string> out;
  std::size_t bytes = 0;
  for (std::string line; std::getline(in, line);) {
    while (line.starts_with("./")) line.erase(0, 2);
    if (line.empty()) continue;
    bytes += line.size() + 3;
    if (bytes > kMost)
      return fail(Code::out_of_range,
                  "--files-from: " + printable(name) + " lists more than 3M of names: split it, or use --path");
    out.push_back(std::move(line));
  }
  if (out.empty()) return fail(Code::invalid_argument, "--files-from: " + printable(name) + " lists no file");
  return out;
}

Outcome warm_or_verify(Session& session, const DatasetWarm& args, bool verify) {
  v1::WarmDatasetRequest request;
  request.set_verify(verify);
  request.set_metadata_only(args.metadata_only);
  for (const auto& pattern : args.patterns) {
    ATLAS_TRY(check_pattern(pattern));
    request.add_patterns(pattern);
  }
  if (!args.files_from.empty()) {
    ATLAS_ASSIGN(const auto files, files_from(args.files_from));
    for (const auto& path : files) request.add_files(path);
  }
  if (args.metadata_only && (!args.patterns.empty() || !args.files_from.empty()))
    return fail(Code::invalid_argument,
                "--metadata-only is about the whole dataset: leave --path and --files-from out");
  ATLAS_ASSIGN(auto dataset, dataset_argument(args.dataset));
  ATLAS_ASSIGN(auto nodes, hostlist_argument(args.nodes));
  request.set_dataset(std::move(dataset));
  request.set_nodes(std::move(nodes));
  hold_signals();
  ATLAS_ASSIGN(auto* const client, session.controller());
  const bool json = session.output().json;
  const SystemClock clock;
  ProgressView view(terminal_of(STDOUT_FILENO), clock, print_out);
  std::uint64_t left_out = 0;
  std::map<std::string, ProgressRow> rows;  // by node: a node's newest state
  const auto end = client->watch(&ControllerClient::Async::WarmDataset, "Controller.WarmDataset", request,
                                 [&](const v1::Progress& progress) {
                                   if (json) print_out(dump_line(to_json(progress, session.config())));
                                   left_out = std::max(left_out, progress.skipped());
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
  if (!json && left_out > 0) print_err(std::string(kTool) + ": " + std::to_string(left_out) + " files were left out\n");
  if (rows.empty()) return fail(Code::internal, "the controller reported no warm-up; see its log");
  return failed ? kExitFailed : kExitOk;
}

}  // namespace

Outcome dataset_warm(Session& session, const DatasetWarm& args) {
  return warm_or_verify(session, args, false);
}
Outcome dataset_verify(Session& session, const DatasetOnNodes& args) {
  return warm_or_verify(session, {args.dataset, args.nodes, "", {}, false}, true);
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
