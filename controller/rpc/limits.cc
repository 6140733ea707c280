#include "controller/rpc/limits.h"

#include <algorithm>

#include "common/percent.h"
#include "proto/convert.h"

namespace atlas {
namespace {

constexpr std::size_t kLongestName = 256;
constexpr std::int64_t kLongestWait = 10 * 60 * 1000;

Status operators_only(const Person& person) {
  if (person.is_operator) return {};
  return fail(Code::permission_denied, "limits are for operators (site.operators) to set: ask one of them");
}

v1::Limit to_wire(const CacheSpace::Use& use) {
  v1::Limit out;
  out.mutable_subject()->set_kind(std::string(name_of(use.limit.kind)));
  out.mutable_subject()->set_name(use.limit.name);
  if (use.limit.cache) out.set_cache(use.limit.cache->count);
  out.set_cache_used(use.cache_used.count);
  out.set_set_by(use.limit.set_by);
  out.set_since(use.limit.since.time_since_epoch().count());
  return out;
}

}  // namespace

Result<LimitSubject> look_up(const v1::LimitSubject& subject) {
  LimitSubject out;
  ATLAS_ASSIGN(out.kind, limit_kind(subject.kind()));
  out.name = subject.name();
  if (out.name.empty() || out.name.size() > kLongestName || printable(out.name) != out.name)
    return fail(Code::invalid_argument, "'" + printable(out.name) + "' is no name of a " + subject.kind());
  if (out.kind == LimitKind::account) return out;  // Slurm's, whose database may be elsewhere, or nowhere
  const auto id = out.kind == LimitKind::user ? user_named(out.name) : group_named(out.name);
  if (!id)
    return fail(Code::not_found, "there is no " + subject.kind() + " '" + out.name +
                                     "' on the controller's host (getent " +
                                     (out.kind == LimitKind::user ? "passwd" : "group") + ")");
  out.id = *id;
  return out;
}

Result<v1::SetLimitReply> set_limit(const ControllerParts& parts, const Person& person,
                                    const v1::SetLimitRequest& request, const LimitSubject& subject) {
  ATLAS_TRY(operators_only(person));
  if (!request.has_cache())
    return fail(Code::invalid_argument, "say which limit, e.g. --cache 500G (atlasctl limit delete takes one back)");
  if (request.cache() > std::uint64_t{1} << 62U) return fail(Code::invalid_argument, "--cache: too large");
  const LimitRow row{subject.kind, subject.name, subject.id, Bytes{request.cache()}, person.name, parts.clock.wall()};
  auto& space = parts.staging.cache_space();
  ATLAS_TRY(space.set(row));
  parts.log.info("limit of " + std::string(name_of(row.kind)) + " " + row.name + " by " + person.name + ": cache " +
                 format_size(*row.cache));
  v1::SetLimitReply out;
  for (const auto& use : space.all())
    if (use.limit.kind == row.kind && use.limit.name == row.name) *out.mutable_limit() = to_wire(use);
  return out;
}

v1::ListLimitsReply list_limits(const ControllerParts& parts, const Person& person) {
  const auto& space = parts.staging.cache_space();
  const auto accounts = person.is_operator ? std::set<std::string>() : space.accounts_of(person.caller.uid);
  const auto may_see = [&](const LimitRow& limit) {
    switch (limit.kind) {
      case LimitKind::user:
        return limit.id == person.caller.uid;
      case LimitKind::group:
        return std::find(person.groups.begin(), person.groups.end(), limit.id) != person.groups.end();
      case LimitKind::account:
        return accounts.contains(limit.name);
    }
    return false;
  };
  v1::ListLimitsReply out;
  for (const auto& use : space.all())
    if (person.is_operator || may_see(use.limit)) *out.add_limits() = to_wire(use);
  return out;
}

Result<v1::DeleteLimitReply> delete_limit(const ControllerParts& parts, const Person& person,
                                          const v1::DeleteLimitRequest& request) {
  ATLAS_TRY(operators_only(person));
  ATLAS_ASSIGN(const auto kind, limit_kind(request.subject().kind()));
  ATLAS_TRY(parts.staging.cache_space().remove(kind, request.subject().name()));
  parts.log.info("limit of " + std::string(name_of(kind)) + " " + request.subject().name() + " deleted by " +
                 person.name);
  return v1::DeleteLimitReply();
}

void reserve_cache(const ControllerParts& parts, const v1::ReserveCacheRequest& request,
                   const Respond<v1::ReserveCacheReply>& respond) {
  const milliseconds wait(std::clamp<std::int64_t>(request.wait(), 0, kLongestWait));
  parts.staging.cache_space().reserve(
      {request.node(), from_wire(request.dataset()), GenerationId::of(request.generation()), from_wire(request.payer()),
       Bytes{request.have()}, Bytes{request.most()}, Bytes{request.least()}, wait},
      [respond](const CacheSpace::Answer& answer) {
        v1::ReserveCacheReply out;
        out.set_granted(answer.granted.count);
        out.set_reason(printable(answer.reason));
        respond(std::move(out));
      });
}

}  // namespace atlas
