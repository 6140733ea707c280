#include "common/percent.h"
#include "common/request.h"
#include "launcher/atlasctl_verbs.h"

namespace atlas::ctl {
namespace {

using Stub = ControllerClient::Stub;

Result<v1::LimitSubject> subject_of(const LimitFor& args) {
  v1::LimitSubject out;
  const auto take = [&](const char* kind, const std::string& name) {
    if (name.empty()) return 0;
    out.set_kind(kind);
    out.set_name(name);
    return 1;
  };
  const int named = take("user", args.user) + take("group", args.group) + take("account", args.account) +
                    take("node", args.node) + take("origin", args.origin);
  if (named != 1) return fail(Code::invalid_argument, "name one: --user, --group, --account, --node or --origin NAME");
  return out;
}

Json to_json(const v1::IoRate& rate) {
  return {{"read", rate.has_bytes() ? Json(static_cast<std::uint64_t>(rate.bytes())) : Json()},
          {"operations", rate.has_operations() ? Json(static_cast<std::uint64_t>(rate.operations())) : Json()}};
}

Json to_json(const v1::Limit& limit) {
  Json out{{"kind", limit.subject().kind()},
           {"name", limit.subject().name()},
           {"cache", nullptr},
           {"cache_used", limit.cache_used()},
           {"read", limit.has_read() ? Json(limit.read()) : Json()},
           {"operations", limit.has_operations() ? Json(limit.operations()) : Json()},
           {"burst", limit.has_burst() ? Json(static_cast<double>(limit.burst()) / 1000) : Json()},
           {"weight", limit.has_weight() ? Json(limit.weight()) : Json()},
           {"share", to_json(limit.share())},
           {"used", to_json(limit.used())},
           {"waiting", limit.waiting()},
           {"set_by", limit.set_by()},
           {"since", limit.since() / 1'000'000'000}};
  if (limit.has_cache()) out["cache"] = limit.cache();
  return out;
}

/// "500M/s", "-" for none; scripts get bytes.
std::string rate_cell(const Session& session, bool set, double bytes) {
  if (!set) return "-";
  return session.size(static_cast<std::uint64_t>(bytes)) + (session.output().parsable ? "" : "/s");
}
std::string count_cell(bool set, double count) {
  return set ? std::to_string(static_cast<std::uint64_t>(count)) : "-";
}

std::string in_words(const Session& session, const v1::Limit& limit) {
  std::string out;
  if (limit.has_cache())
    out += "cache: " + session.size(limit.cache()) + " on all nodes together, " + session.size(limit.cache_used()) +
           " of it taken; holds for what is cached from now on\n";
  const bool node = limit.subject().kind() == "node";
  const std::string where = node ? " per second" : " per second, on all nodes together";
  if (limit.has_read()) out += "read: " + session.size(limit.read()) + where + "\n";
  if (limit.has_operations()) out += "operations: " + std::to_string(limit.operations()) + where + "\n";
  if (limit.has_burst()) out += "burst: " + format_duration(milliseconds(limit.burst())) + " of that at once\n";
  if (limit.has_weight()) out += "weight: " + std::to_string(limit.weight()) + "\n";
  return out;
}

}  // namespace

Outcome limit_set(Session& session, const LimitSet& args) {
  v1::SetLimitRequest request;
  ATLAS_ASSIGN(*request.mutable_subject(), subject_of(args.subject));
  if (!args.cache && !args.read && !args.operations && !args.burst && !args.weight)
    return fail(Code::invalid_argument, "say which limit: --read, --ops, --burst, --weight or --cache");
  if (args.cache) {
    ATLAS_ASSIGN(const Bytes cache, parse_size(*args.cache));
    request.set_cache(cache.count);
  }
  if (args.read) {
    ATLAS_ASSIGN(const Bytes read, parse_rate("--read", *args.read));
    request.set_read(read.count);
  }
  if (args.operations) {
    ATLAS_ASSIGN(const std::uint64_t operations, parse_operations("--ops", *args.operations));
    request.set_operations(operations);
  }
  if (args.burst) {
    ATLAS_ASSIGN(const milliseconds burst, parse_duration(*args.burst));
    request.set_burst(burst.count());
  }
  if (args.weight) request.set_weight(*args.weight);
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::SetLimit, "Controller.SetLimit", request));
  if (session.output().json) {
    Json out = to_json(reply.limit());
    out["note"] = reply.note();
    print_out(dump_line(out));
    return kExitOk;
  }
  print_out(in_words(session, reply.limit()));
  if (!reply.note().empty()) print_err("atlasctl: note: " + printable(reply.note()) + "\n");
  return kExitOk;
}

Outcome limit_show(Session& session, const LimitFor& args) {
  v1::ShowLimitRequest request;
  ATLAS_ASSIGN(*request.mutable_subject(), subject_of(args));
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::ShowLimit, "Controller.ShowLimit", request));
  const auto& limit = reply.limit();
  if (session.output().json) {
    Json out = to_json(limit);
    out["parts"] = Json::array();
    for (const auto& part : reply.parts())
      out["parts"].push_back({{"node", part.node()},
                              {"origin", part.flow().origin()},
                              {"user", printable(part.user())},
                              {"job", part.flow().job_id() == 0 ? Json() : Json(part.flow().job_id())},
                              {"share", to_json(part.share())},
                              {"used", to_json(part.used())},
                              {"waiting", part.waiting()}});
    print_out(dump(out));
    return kExitOk;
  }
  if (!session.output().parsable) {
    print_out(in_words(session, limit));
    print_out("now: " + rate_cell(session, true, limit.used().bytes()) + " and " +
              count_cell(true, limit.used().operations()) + " operations/s used, " + std::to_string(limit.waiting()) +
              " reads wait\n");
  }
  Table table({{"NODE"},
               {"ORIGIN"},
               {"USER"},
               {"JOB", Table::Align::right},
               {"SHARE", Table::Align::right},
               {"USED", Table::Align::right},
               {"SHARE OPS", Table::Align::right},
               {"USED OPS", Table::Align::right},
               {"WAITING", Table::Align::right}});
  for (const auto& part : reply.parts())
    table.add({part.node(), part.flow().origin(), printable(part.user()),
               part.flow().job_id() == 0 ? "-" : std::to_string(part.flow().job_id()),
               rate_cell(session, part.share().has_bytes(), part.share().bytes()),
               rate_cell(session, true, part.used().bytes()),
               count_cell(part.share().has_operations(), part.share().operations()),
               count_cell(true, part.used().operations()), std::to_string(part.waiting())});
  session.print(table);
  return kExitOk;
}

Outcome limit_list(Session& session, const LimitFor&) {
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::ListLimits, "Controller.ListLimits", v1::ListLimitsRequest()));
  if (session.output().json) {
    Json out = Json::array();
    for (const auto& limit : reply.limits()) out.push_back(to_json(limit));
    print_out(dump(out));
    return kExitOk;
  }
  Table table({{"KIND"},
               {"NAME"},
               {"READ", Table::Align::right},
               {"SHARE", Table::Align::right},
               {"USED NOW", Table::Align::right},
               {"OPS", Table::Align::right},
               {"USED OPS", Table::Align::right},
               {"WAITING", Table::Align::right},
               {"WEIGHT", Table::Align::right},
               {"CACHE QUOTA", Table::Align::right},
               {"USED", Table::Align::right},
               {"USED %", Table::Align::right},
               {"SET BY"},
               {"SET", Table::Align::right}});
  for (const auto& limit : reply.limits())
    table.add({limit.subject().kind(), limit.subject().name(),
               rate_cell(session, limit.has_read(), static_cast<double>(limit.read())),
               rate_cell(session, limit.share().has_bytes(), limit.share().bytes()),
               rate_cell(session, true, limit.used().bytes()),
               count_cell(limit.has_operations(), static_cast<double>(limit.operations())),
               count_cell(true, limit.used().operations()), std::to_string(limit.waiting()),
               limit.has_weight() ? std::to_string(limit.weight()) : "-",
               limit.has_cache() ? session.size(limit.cache()) : "-", session.size(limit.cache_used()),
               format_percent(Bytes{limit.cache_used()}, Bytes{limit.cache()}), limit.set_by(),
               session.ago(limit.since())});
  session.print(table);
  return kExitOk;
}

Outcome limit_delete(Session& session, const LimitFor& args) {
  v1::DeleteLimitRequest request;
  ATLAS_ASSIGN(*request.mutable_subject(), subject_of(args));
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::DeleteLimit, "Controller.DeleteLimit", request));
  static_cast<void>(reply);
  if (session.output().json) {
    print_out(dump_line({{"deleted", true}}));
  } else {
    print_out("no limit any more for " + request.subject().kind() + " " + request.subject().name() + "\n");
  }
  return kExitOk;
}

}  // namespace atlas::ctl
