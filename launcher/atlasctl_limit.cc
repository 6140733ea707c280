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
  const int named = take("user", args.user) + take("group", args.group) + take("account", args.account);
  if (named != 1) return fail(Code::invalid_argument, "name one: --user NAME, --group NAME or --account NAME");
  return out;
}

Json to_json(const v1::Limit& limit) {
  Json out{
      {"kind", limit.subject().kind()},   {"name", limit.subject().name()}, {"cache", nullptr},
      {"cache_used", limit.cache_used()}, {"set_by", limit.set_by()},       {"since", limit.since() / 1'000'000'000}};
  if (limit.has_cache()) out["cache"] = limit.cache();
  return out;
}

}  // namespace

Outcome limit_set(Session& session, const LimitSet& args) {
  v1::SetLimitRequest request;
  ATLAS_ASSIGN(*request.mutable_subject(), subject_of(args.subject));
  ATLAS_ASSIGN(const Bytes cache, parse_size(args.cache));
  request.set_cache(cache.count);
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::SetLimit, "Controller.SetLimit", request));
  if (session.output().json) {
    print_out(dump_line(to_json(reply.limit())));
  } else {
    print_out("cache: " + session.size(reply.limit().cache()) + " on all nodes together, " +
              session.size(reply.limit().cache_used()) + " of it taken; holds for what is cached from now on\n");
  }
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
               {"CACHE QUOTA", Table::Align::right},
               {"USED", Table::Align::right},
               {"USED %", Table::Align::right},
               {"SET BY"},
               {"SET", Table::Align::right}});
  for (const auto& limit : reply.limits())
    table.add({limit.subject().kind(), limit.subject().name(), limit.has_cache() ? session.size(limit.cache()) : "-",
               session.size(limit.cache_used()), format_percent(Bytes{limit.cache_used()}, Bytes{limit.cache()}),
               limit.set_by(), session.ago(limit.since())});
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
