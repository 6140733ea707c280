// Limits of users, groups, accounts, nodes and origins.
#include "db/catalog.h"

namespace atlas {
namespace {

constexpr std::string_view kPut =
    "INSERT OR REPLACE INTO limits (kind, subject, id, cache, set_by, since, bytes_per_second, operations_per_second, "
    "burst_ms, weight) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
constexpr std::string_view kDrop = "DELETE FROM limits WHERE kind = ?1 AND subject = ?2";
constexpr std::string_view kSelect =
    "SELECT kind, subject, id, cache, set_by, since, bytes_per_second, operations_per_second, burst_ms, weight "
    "FROM limits ORDER BY kind DESC, subject";

constexpr std::string_view kNoteAccount =
    "INSERT OR REPLACE INTO user_accounts (uid, account, seen) VALUES (?1, ?2, ?3)";
constexpr std::string_view kForgetAccounts = "DELETE FROM user_accounts WHERE seen < ?1";
constexpr std::string_view kAccounts = "SELECT uid, account, seen FROM user_accounts";

}  // namespace

Status Catalog::put_limit(const LimitRow& limit) {
  ATLAS_ASSIGN(auto put, db_.prepare(kPut));
  const std::optional<std::uint64_t> cache = limit.cache ? std::optional(limit.cache->count) : std::nullopt;
  put.bind_all(name_of(limit.kind), limit.name, limit.id, cache, limit.set_by, limit.since.time_since_epoch().count());
  if (limit.read) put.bind(7, limit.read->count);
  if (limit.operations) put.bind(8, *limit.operations);
  if (limit.burst) put.bind(9, limit.burst->count());
  if (limit.weight) put.bind(10, *limit.weight);
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
    if (!select.is_null(6)) row.read = Bytes{select.uint64(6)};
    if (!select.is_null(7)) row.operations = select.uint64(7);
    if (!select.is_null(8)) row.burst = std::chrono::milliseconds(select.int64(8));
    if (!select.is_null(9)) row.weight = select.int64(9);
    out.push_back(std::move(row));
  }
}

Status Catalog::note_account(const UserAccount& account) {
  ATLAS_ASSIGN(auto note, db_.prepare(kNoteAccount));
  note.bind_all(account.uid, account.account, account.seen.time_since_epoch().count());
  return note.run();
}

Result<std::vector<Catalog::UserAccount>> Catalog::accounts(WallTime since) {
  ATLAS_ASSIGN(auto forget, db_.prepare(kForgetAccounts));
  forget.bind_all(since.time_since_epoch().count());
  ATLAS_TRY(forget.run());
  ATLAS_ASSIGN(auto select, db_.prepare(kAccounts));
  std::vector<UserAccount> out;
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) return out;
    out.push_back({static_cast<std::uint32_t>(select.int64(0)), std::string(select.text(1)),
                   WallTime(std::chrono::nanoseconds(select.int64(2)))});
  }
}

}  // namespace atlas
