// Limits of users, groups and accounts.
#include <algorithm>
#include <array>

#include "db/catalog.h"

namespace atlas {
namespace {

constexpr std::string_view kPut =
    "INSERT INTO limits (kind, subject, id, cache, set_by, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6) "
    "ON CONFLICT (kind, subject) DO UPDATE SET id = ?3, cache = ?4, set_by = ?5, since = ?6";
constexpr std::string_view kDrop = "DELETE FROM limits WHERE kind = ?1 AND subject = ?2";
constexpr std::string_view kSelect =
    "SELECT kind, subject, id, cache, set_by, since FROM limits ORDER BY kind DESC, subject";
constexpr std::array<std::string_view, 3> kKinds = {"user", "group", "account"};

}  // namespace

std::string_view name_of(LimitKind kind) {
  return kKinds[static_cast<std::size_t>(kind)];
}

Result<LimitKind> limit_kind(std::string_view text) {
  const auto* at = std::find(kKinds.begin(), kKinds.end(), text);
  if (at == kKinds.end()) return fail(Code::invalid_argument, "a limit is for a user, a group or an account");
  return static_cast<LimitKind>(at - kKinds.begin());
}

Status Catalog::put_limit(const LimitRow& limit) {
  ATLAS_ASSIGN(auto put, db_.prepare(kPut));
  const std::optional<std::uint64_t> cache = limit.cache ? std::optional(limit.cache->count) : std::nullopt;
  put.bind_all(name_of(limit.kind), limit.name, limit.id, cache, limit.set_by, limit.since.time_since_epoch().count());
  return put.run();
}

Status Catalog::drop_limit(LimitKind kind, std::string_view name) {
  ATLAS_ASSIGN(auto drop, db_.prepare(kDrop));
  drop.bind_all(name_of(kind), name);
  return drop.run();
}

Result<std::vector<LimitRow>> Catalog::limits() {
  ATLAS_ASSIGN(auto select, db_.prepare(kSelect));
  std::vector<LimitRow> out;
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) return out;
    LimitRow row;
    ATLAS_ASSIGN(row.kind, limit_kind(select.text(0)));
    row.name = select.text(1);
    row.id = static_cast<std::uint32_t>(select.int64(2));
    if (!select.is_null(3)) row.cache = Bytes{select.uint64(3)};
    row.set_by = select.text(4);
    row.since = WallTime(std::chrono::nanoseconds(select.int64(5)));
    out.push_back(std::move(row));
  }
}

}  // namespace atlas
