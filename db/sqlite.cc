#include "db/sqlite.h"

#include <sqlite3.h>

#include <system_error>
#include <utility>

namespace atlas {
namespace {

Code code_of(int extended) {
  switch (extended & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR:
      return Code::unavailable;
    case SQLITE_FULL:
    case SQLITE_NOMEM:
      return Code::resource_exhausted;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Code::data_loss;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return Code::permission_denied;
    case SQLITE_CANTOPEN:
      return Code::failed_precondition;
    case SQLITE_CONSTRAINT:
      return extended == SQLITE_CONSTRAINT_UNIQUE || extended == SQLITE_CONSTRAINT_PRIMARYKEY
                 ? Code::already_exists
                 : Code::failed_precondition;
    case SQLITE_INTERRUPT:
      return Code::cancelled;
    case SQLITE_RANGE:
    case SQLITE_MISUSE:
      return Code::internal;
    default:
      return Code::unknown;
  }
}

tl::unexpected<Error> failure(sqlite3* db, std::string_view what) {
  const char* file = sqlite3_db_filename(db, "main");
  return fail(Error{code_of(sqlite3_extended_errcode(db)),
                    std::string(file != nullptr && *file != '\0' ? file : "database") + ": " + std::string(what) +
                        ": " + sqlite3_errmsg(db),
                    sqlite3_system_errno(db)});
}

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : db_(other.db_), handle_(std::exchange(other.handle_, nullptr)), bind_error_(other.bind_error_) {}

Statement& Statement::operator=(Statement&& other) noexcept {
  if (this != &other) {
    sqlite3_finalize(handle_);
    db_ = other.db_;
    handle_ = std::exchange(other.handle_, nullptr);
    bind_error_ = other.bind_error_;
  }
  return *this;
}

Statement::~Statement() {
  sqlite3_finalize(handle_);
}

Statement& Statement::remember(int code) {
  if (code != SQLITE_OK && bind_error_ == SQLITE_OK) bind_error_ = code;
  return *this;
}

Statement& Statement::bind(int index, std::string_view text) {
  return remember(sqlite3_bind_text64(handle_, index, text.data() == nullptr ? "" : text.data(), text.size(),
                                      SQLITE_TRANSIENT, SQLITE_UTF8));
}

Statement& Statement::bind_blob(int index, std::string_view bytes) {
  return remember(
      sqlite3_bind_blob64(handle_, index, bytes.data() == nullptr ? "" : bytes.data(), bytes.size(), SQLITE_TRANSIENT));
}

Statement& Statement::bind(int index, double value) {
  return remember(sqlite3_bind_double(handle_, index, value));
}

Statement& Statement::bind(int index, std::nullptr_t) {
  return remember(sqlite3_bind_null(handle_, index));
}

Statement& Statement::bind_int64(int index, std::int64_t value) {
  return remember(sqlite3_bind_int64(handle_, index, value));
}

Result<bool> Statement::step() {
  if (bind_error_ != SQLITE_OK)
    return fail(Code::internal, std::string("bind: ") + sqlite3_errstr(bind_error_) + " in " + sqlite3_sql(handle_));
  switch (sqlite3_step(handle_)) {
    case SQLITE_ROW:
      return true;
    case SQLITE_DONE:
      sqlite3_reset(handle_);
      return false;
    default: {
      auto error = failure(db_, sqlite3_sql(handle_));
      sqlite3_reset(handle_);
      return error;
    }
  }
}

Status Statement::run() {
  while (true) {
    ATLAS_ASSIGN(const bool row, step());
    if (!row) return {};
  }
}

std::int64_t Statement::int64(int column) const {
  return sqlite3_column_int64(handle_, column);
}

double Statement::real(int column) const {
  return sqlite3_column_double(handle_, column);
}

std::string_view Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(handle_, column));
  return data == nullptr ? std::string_view()
                         : std::string_view(data, static_cast<std::size_t>(sqlite3_column_bytes(handle_, column)));
}

std::string_view Statement::blob(int column) const {
  const auto* data = static_cast<const char*>(sqlite3_column_blob(handle_, column));
  return data == nullptr ? std::string_view()
                         : std::string_view(data, static_cast<std::size_t>(sqlite3_column_bytes(handle_, column)));
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(handle_, column) == SQLITE_NULL;
}

void Statement::reset() {
  sqlite3_reset(handle_);
  bind_error_ = SQLITE_OK;
}

Result<SqliteDb> SqliteDb::open(const std::filesystem::path& file, Options options) {
  const auto directory = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  std::error_code ec;
  if (!std::filesystem::is_directory(directory, ec))
    return fail(Code::not_found, directory.string() + ": no such directory, so the database " +
                                     file.filename().string() + " cannot be there: create it (mkdir -p " +
                                     directory.string() + "), owned by the account that this program runs under");
  sqlite3* handle = nullptr;
  const int flags = options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  const int code = sqlite3_open_v2(file.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  if (handle == nullptr) return fail(Code::resource_exhausted, file.string() + ": out of memory");
  SqliteDb db(handle, file);
  if (code != SQLITE_OK) return failure(handle, "open");
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, static_cast<int>(options.busy_timeout.count()));
  ATLAS_TRY(db.execute("PRAGMA foreign_keys = ON"));
  if (!options.read_only) ATLAS_TRY(db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL"));
  return db;
}

SqliteDb::SqliteDb(SqliteDb&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), path_(std::move(other.path_)) {}

SqliteDb& SqliteDb::operator=(SqliteDb&& other) noexcept {
  if (this != &other) {
    sqlite3_close_v2(handle_);
    handle_ = std::exchange(other.handle_, nullptr);
    path_ = std::move(other.path_);
  }
  return *this;
}

SqliteDb::~SqliteDb() {
  sqlite3_close_v2(handle_);  // waits for statements that still live, so the order of destruction cannot hurt
}

Result<Statement> SqliteDb::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &statement,
                         nullptr) != SQLITE_OK)
    return failure(handle_, sql);
  if (statement == nullptr) return fail(Code::internal, "empty SQL statement");
  return Statement(handle_, statement);
}

Status SqliteDb::execute(std::string_view sql) {
  if (sqlite3_exec(handle_, std::string(sql).c_str(), nullptr, nullptr, nullptr) != SQLITE_OK)
    return failure(handle_, sql.substr(0, 60));
  return {};
}

Result<int> SqliteDb::schema_version() {
  ATLAS_ASSIGN(auto statement, prepare("PRAGMA user_version"));
  ATLAS_ASSIGN(const bool row, statement.step());
  return row ? static_cast<int>(statement.int64(0)) : 0;
}

Status SqliteDb::migrate(std::span<const Migration> migrations, std::string_view what) {
  const int newest = migrations.empty() ? 0 : migrations.back().version;
  ATLAS_ASSIGN(const int found, schema_version());
  if (found > newest)
    return fail(Code::failed_precondition,
                path_.string() + ": the " + std::string(what) + " has schema version " + std::to_string(found) +
                    ", this program knows versions up to " + std::to_string(newest) +
                    ": start the newer Atlas that wrote it, or move the file away to begin with an empty one");
  for (const auto& migration : migrations) {
    if (migration.version <= found) continue;
    ATLAS_ASSIGN(auto transaction, Transaction::begin(*this));
    if (auto ok = execute(migration.sql); !ok)
      return fail(ok.error().in("schema version " + std::to_string(migration.version)));
    ATLAS_TRY(execute("PRAGMA user_version = " + std::to_string(migration.version)));
    ATLAS_TRY(transaction.commit());
  }
  return {};
}

std::int64_t SqliteDb::last_insert_rowid() const {
  return sqlite3_last_insert_rowid(handle_);
}

std::int64_t SqliteDb::changes() const {
  return sqlite3_changes64(handle_);
}

Result<Transaction> Transaction::begin(SqliteDb& db) {
  ATLAS_TRY(db.execute("BEGIN IMMEDIATE"));
  return Transaction(db);
}

Transaction::~Transaction() {
  if (db_ == nullptr) return;
  // Nobody to tell: a failed rollback (disk gone) leaves nothing to do, the file is as it was before BEGIN.
  [[maybe_unused]] const auto rolled_back = db_->execute("ROLLBACK");
}

Status Transaction::commit() {
  ATLAS_TRY(db_->execute("COMMIT"));
  db_ = nullptr;
  return {};
}

}  // namespace atlas
