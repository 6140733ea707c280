#include <array>

#include "db/node_manifest.h"

namespace atlas {
namespace {

constexpr std::string_view kCreate =
    "CREATE TABLE entry (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, leader INTEGER NOT NULL, name BLOB NOT NULL, "
    "target BLOB NOT NULL, type INTEGER NOT NULL, flags INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL, "
    "gid INTEGER NOT NULL, size INTEGER NOT NULL, rdev INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT "
    "NULL)";
constexpr std::array kMigrations = {Migration{1, kCreate}};
constexpr std::string_view kInsert =
    "INSERT INTO entry VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
constexpr std::string_view kSelect =
    "SELECT parent, leader, name, target, type, flags, mode, uid, gid, size, rdev, mtime, ctime FROM entry ORDER BY id";

Status write_rows(SqliteDb& db, std::uint32_t count, const std::function<ManifestFile::Row(std::uint32_t)>& row) {
  // The store syncs the whole replica at once, when it is sealed.
  ATLAS_TRY(db.execute("PRAGMA synchronous = OFF"));
  ATLAS_TRY(db.migrate(kMigrations, "manifest"));
  ATLAS_ASSIGN(auto transaction, Transaction::begin(db));
  ATLAS_ASSIGN(auto insert, db.prepare(kInsert));
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto r = row(i);
    insert.bind_all(i, r.parent, r.leader, Statement::Blob{r.name}, Statement::Blob{r.target}, r.type, r.flags, r.mode,
                    r.uid, r.gid, r.size, r.rdev, r.mtime, r.ctime);
    ATLAS_TRY(insert.run());
  }
  return transaction.commit();
}

}  // namespace

Status ManifestFile::write(const std::filesystem::path& file, std::uint32_t count,
                           const std::function<Row(std::uint32_t)>& row) {
  std::error_code ignored;
  const auto remove_all = [&] {
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(file.string() + suffix, ignored);
  };
  if (std::filesystem::exists(file, ignored)) return fail(Code::already_exists, file.string() + " exists already");
  auto db = SqliteDb::open(file);
  if (!db) return fail(db.error());
  const Status done = write_rows(*db, count, row);
  { const auto closed = std::move(*db); }  // folds the write-ahead log into the file
  if (!done) remove_all();
  return done;
}

Status ManifestFile::read(const std::filesystem::path& file, const std::function<Status(const Row&)>& take) {
  ATLAS_ASSIGN(auto db, SqliteDb::open(file));
  ATLAS_TRY(db.migrate(kMigrations, "manifest"));
  ATLAS_ASSIGN(auto select, db.prepare(kSelect));
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) return {};
    Row r;
    r.parent = static_cast<std::uint32_t>(select.int64(0));
    r.leader = static_cast<std::uint32_t>(select.int64(1));
    r.name = select.blob(2);
    r.target = select.blob(3);
    r.type = static_cast<std::uint8_t>(select.int64(4));
    r.flags = static_cast<std::uint8_t>(select.int64(5));
    r.mode = static_cast<std::uint32_t>(select.int64(6));
    r.uid = static_cast<std::uint32_t>(select.int64(7));
    r.gid = static_cast<std::uint32_t>(select.int64(8));
    r.size = select.uint64(9);
    r.rdev = select.uint64(10);
    r.mtime = select.int64(11);
    r.ctime = select.int64(12);
    ATLAS_TRY(take(r));
  }
}

}  // namespace atlas
