#include "controller/rpc/limits.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "common/io_limits.h"
#include "common/percent.h"
#include "proto/convert.h"

namespace atlas {
namespace {

constexpr std::size_t kLongestName = 256;
constexpr std::uint64_t kLargest = std::uint64_t{1} << 62U;
constexpr std::uint32_t kLargestWeight = 1000;
constexpr milliseconds kShortestBurst{10}, kLongestBurst{60'000};
constexpr std::int64_t kLongestWait = 10 * 60 * 1000;

v1::Limit to_wire(const CacheSpace::Use& use, const Sharing::Use& reads) {
  const auto& limit = use.limit;
  v1::Limit out;
  out.mutable_subject()->set_kind(std::string(name_of(limit.kind)));
  out.mutable_subject()->set_name(limit.name);
  if (limit.cache) out.set_cache(limit.cache->count);
  out.set_cache_used(use.cache_used.count);
  out.set_set_by(limit.set_by);
  out.set_since(limit.since.time_since_epoch().count());
  if (limit.read) out.set_read(limit.read->count);
  if (limit.operations) out.set_operations(*limit.operations);
  if (limit.burst) out.set_burst(limit.burst->count());
  if (limit.weight) out.set_weight(static_cast<std::uint32_t>(*limit.weight));
  *out.mutable_share() = to_wire(reads.share);
  *out.mutable_used() = to_wire(reads.used);
  out.set_waiting(reads.waiting);
  return out;
}

/// What is asked for, on top of what is set already; checked.
Status apply(const v1::SetLimitRequest& request, LimitRow& row) {
  const bool shared = row.kind != LimitKind::node && row.kind != LimitKind::origin;
  if (!request.has_cache() && !request.has_read() && !request.has_operations() && !request.has_burst() &&
      !request.has_weight())
    return fail(Code::invalid_argument,
                "say which limit, e.g. --read 500M or --cache 500G (atlasctl limit delete takes one back)");
  if (!shared && (request.has_cache() || request.has_weight()))
    return fail(Code::invalid_argument, "a " + std::string(name_of(row.kind)) + " has --read, --ops and --burst only");
  if (request.has_cache()) {
    if (request.cache() > kLargest) return fail(Code::invalid_argument, "--cache: too large");
    row.cache = Bytes{request.cache()};
  }
  if (request.has_read()) {
    if (request.read() == 0 || request.read() > kFastestRead)
      return fail(Code::invalid_argument, "--read: from 1 byte to 1 petabyte per second");
    row.read = Bytes{request.read()};
  }
  if (request.has_operations()) {
    if (request.operations() == 0 || request.operations() > kMostOperations)
      return fail(Code::invalid_argument, "--ops: from 1 to 1000000000 operations per second");
    row.operations = request.operations();
  }
  if (request.has_burst()) {
    const milliseconds burst(request.burst());
    if (burst < kShortestBurst || burst > kLongestBurst)
      return fail(Code::invalid_argument, "--burst: from 10ms to 1m of the rate may come at once");
    if (!row.read && !row.operations)
      return fail(Code::invalid_argument, "--burst is of a rate: set --read or --ops, too");
    row.burst = burst;
  }
  if (request.has_weight()) {
    if (request.weight() == 0 || request.weight() > kLargestWeight)
      return fail(Code::invalid_argument, "--weight: from 1 to 1000; who has none weighs 1");
    row.weight = request.weight();
  }
  return {};
}

/// A limit that does something else than one might think.
std::string note_about(const LimitRow& row, const CacheSpace& space, const IoLimits& reads) {
  if (row.kind == LimitKind::account && !reads.knows_account(row.name))
    return "no job under account " + row.name +
           " has been in Slurm's queue since this controller was started: it is spelt right? (sacctmgr show account)";
  const double rate = row.read ? static_cast<double>(row.read->count) : 0;
  const auto burst = std::chrono::duration<double>(row.burst.value_or(kDefaultBurst)).count();
  if (row.read && row.kind != LimitKind::origin) {
    for (const auto& other : space.limits())
      if (other.kind == LimitKind::origin && other.read && *other.read < *row.read)
        return "origin " + other.name + " has a limit of " + format_size(*other.read) + "/s: the smaller one applies";
  }
  const Bytes piece{std::clamp<std::uint64_t>(row.read.value_or(Bytes{}).count, kLeastPiece.count, kMostPiece.count)};
  if (row.read && rate * burst < static_cast<double>(piece.count)) {
    const double wait = std::min<double>(kLongestDebt.count(), static_cast<double>(piece.count) / rate);
    std::array<char, 16> seconds{};
    std::snprintf(seconds.data(), seconds.size(), "%.1f", wait);
    return "a burst is less than one read, of up to " + format_size(piece) +
           ", which passes all the same; what follows it waits up to " + seconds.data() + " s";
  }
  return {};
}

}  // namespace

Result<LimitSubject> look_up(const v1::LimitSubject& subject) {
  LimitSubject out;
  ATLAS_ASSIGN(out.kind, limit_kind(subject.kind()));
  out.name = subject.name();
  if (out.name.empty() || out.name.size() > kLongestName || printable(out.name) != out.name)
    return fail(Code::invalid_argument, "'" + printable(out.name) + "' is no name of a " + subject.kind());
  // An account is Slurm's, whose database may be elsewhere, or nowhere; nodes and origins the strand knows.
  if (out.kind != LimitKind::user && out.kind != LimitKind::group) return out;
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
  ATLAS_TRY(operators_only(person, "setting limits"));
  auto& space = parts.staging.cache_space();
  if (subject.kind == LimitKind::origin &&
      std::none_of(parts.config.origins.begin(), parts.config.origins.end(),
                   [&](const OriginConfig& origin) { return origin.name == subject.name; }))
    return fail(Code::not_found, "there is no [[origin]] '" + subject.name + "' in the controller's configuration");
  if (subject.kind == LimitKind::node && parts.registry.find(subject.name) == nullptr)
    return fail(Code::not_found, "no node '" + subject.name + "' has a cache agent (atlasctl node list)");
  LimitRow row{subject.kind, subject.name, subject.id, {}, {}, {}};
  for (const auto& limit : space.limits())
    if (limit.kind == row.kind && limit.name == row.name) row = limit;
  row.id = subject.id;
  row.set_by = person.name;
  row.since = parts.clock.wall();
  ATLAS_TRY(apply(request, row));
  ATLAS_TRY(space.set(row));
  parts.staging.io_limits().changed();
  parts.log.info("limit of " + std::string(name_of(row.kind)) + " " + row.name + " by " + person.name + ":" +
                 (row.cache ? " cache " + format_size(*row.cache) : "") +
                 (row.read ? " read " + format_size(*row.read) + "/s" : "") +
                 (row.operations ? " operations " + std::to_string(*row.operations) + "/s" : "") +
                 (row.weight ? " weight " + std::to_string(*row.weight) : ""));
  v1::SetLimitReply out;
  out.set_note(note_about(row, space, parts.staging.io_limits()));
  *out.mutable_limit() = to_wire(space.use_of(row), parts.staging.io_limits().use_of(row));
  return out;
}

/// Operators see all limits, a user his own and those of his groups and accounts; all see those of nodes and origins.
bool may_see(const ControllerParts& parts, const Person& person, const LimitRow& limit) {
  if (person.is_operator) return true;
  switch (limit.kind) {
    case LimitKind::user:
      return limit.id == person.caller.uid;
    case LimitKind::group:
      return std::find(person.groups.begin(), person.groups.end(), limit.id) != person.groups.end();
    case LimitKind::account:
      return parts.staging.cache_space().accounts_of(person.caller.uid).contains(limit.name);
    case LimitKind::node:
    case LimitKind::origin:
      return true;
  }
  return false;
}

v1::ListLimitsReply list_limits(const ControllerParts& parts, const Person& person) {
  v1::ListLimitsReply out;
  const auto limits = parts.staging.cache_space().all();
  std::vector<LimitRow> rows;
  for (const auto& use : limits) rows.push_back(use.limit);
  const auto reads = parts.staging.io_limits().uses(rows);
  for (std::size_t i = 0; i < limits.size(); ++i)
    if (may_see(parts, person, limits[i].limit)) *out.add_limits() = to_wire(limits[i], reads[i]);
  return out;
}

Result<v1::ShowLimitReply> show_limit(const ControllerParts& parts, const Person& person,
                                      const v1::ShowLimitRequest& request) {
  ATLAS_ASSIGN(const auto kind, limit_kind(request.subject().kind()));
  for (const auto& limit : parts.staging.cache_space().limits()) {
    if (limit.kind != kind || limit.name != request.subject().name() || !may_see(parts, person, limit)) continue;
    v1::ShowLimitReply out;
    *out.mutable_limit() = to_wire(parts.staging.cache_space().use_of(limit), parts.staging.io_limits().use_of(limit));
    for (const auto& part : parts.staging.io_limits().uses_of(limit)) {
      // What others read is for operators.
      if (!person.is_operator && part.flow.uid != person.caller.uid) continue;
      auto* to = out.add_parts();
      to->set_node(part.node);
      *to->mutable_flow() = to_wire(part.flow);
      *to->mutable_share() = to_wire(part.use.share);
      *to->mutable_used() = to_wire(part.use.used);
      to->set_waiting(part.use.waiting);
      to->set_user(parts.users.name_of(part.flow.uid));
    }
    return out;
  }
  return fail(Code::not_found, "no limit is set for " + request.subject().kind() + " '" +
                                   printable(request.subject().name()) + "' that you may see (atlasctl limit list)");
}

Result<v1::DeleteLimitReply> delete_limit(const ControllerParts& parts, const Person& person,
                                          const v1::DeleteLimitRequest& request) {
  ATLAS_TRY(operators_only(person, "setting limits"));
  ATLAS_ASSIGN(const auto kind, limit_kind(request.subject().kind()));
  ATLAS_TRY(parts.staging.cache_space().remove(kind, request.subject().name()));
  parts.staging.io_limits().changed();
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
