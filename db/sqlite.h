#pragma once
#include <chrono>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/result.h"

// Owner types of SQLite's handles. db/sqlite.cc is the only file that includes sqlite3.h.
struct sqlite3;
struct sqlite3_stmt;

namespace atlas {

class SqliteDb;

/// One prepared statement: bind, step, read columns, reset. Belongs to the thread that uses its database; must not
/// outlive the SqliteDb it came from. A failed bind is remembered and reported by the next step() or run().
///
///   db->prepare("SELECT name FROM t WHERE id = ?1") -> statement;
///   statement.bind_all(id); while (row) { ATLAS_ASSIGN(row, statement.step()); ... }
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  /// Parameters are numbered from 1. Text and blobs are copied. uint64 values are stored as the int64 of the same bits.
  Statement& bind(int index, std::string_view text);
  Statement& bind(int index, const char* text) { return bind(index, std::string_view(text)); }
  Statement& bind(int index, double value);
  Statement& bind(int index, std::nullptr_t);
  template <std::integral Int>
  Statement& bind(int index, Int value) {
    return bind_int64(index, static_cast<std::int64_t>(value));
  }
  template <class T>
  Statement& bind(int index, const std::optional<T>& value) {
    return value ? bind(index, *value) : bind(index, nullptr);
  }
  /// Bytes that need not be UTF-8 (paths, digests).
  Statement& bind_blob(int index, std::string_view bytes);

  /// Resets, then binds the values to parameters 1, 2, 3, ... Blobs are passed as Blob{bytes}.
  template <class... Values>
  Statement& bind_all(const Values&... values) {
    reset();
    int index = 0;
    (bind(++index, values), ...);
    return *this;
  }
  struct Blob {
    std::string_view bytes;
  };
  Statement& bind(int index, Blob blob) { return bind_blob(index, blob.bytes); }

  /// Moves to the next row: true = a row is there, false = done (and reset, bindings kept).
  [[nodiscard]] Result<bool> step();
  /// For statements that return nothing (rows are skipped): steps to the end and resets.
  [[nodiscard]] Status run();

  /// Columns are numbered from 0 and valid until the next step(), run() or reset().
  [[nodiscard]] std::int64_t int64(int column) const;
  [[nodiscard]] std::uint64_t uint64(int column) const { return static_cast<std::uint64_t>(int64(column)); }
  [[nodiscard]] double real(int column) const;
  [[nodiscard]] std::string_view text(int column) const;
  [[nodiscard]] std::string_view blob(int column) const;
  [[nodiscard]] bool is_null(int column) const;

  void reset();

 private:
  friend class SqliteDb;
  Statement(sqlite3* db, sqlite3_stmt* handle) : db_(db), handle_(handle) {}
  Statement& bind_int64(int index, std::int64_t value);
  Statement& remember(int code);

  sqlite3* db_ = nullptr;
  sqlite3_stmt* handle_ = nullptr;
  int bind_error_ = 0;
};

/// One step of a schema's history. Versions start at 1 and have no gaps; a published one never changes.
struct Migration {
  int version;
  std::string_view sql;
};

/// One open database file (WAL, synchronous=NORMAL, foreign keys on). One thread uses it at a time.
class SqliteDb {
 public:
  struct Options {
    std::chrono::milliseconds busy_timeout{5000};  ///< how long a statement waits for another process's lock
    bool read_only = false;
  };
  /// Creates the file if it is missing, never its directory: that is not_found, with the directory's name. data_loss if
  /// the file is not a database.
  [[nodiscard]] static Result<SqliteDb> open(const std::filesystem::path& file, Options options);
  [[nodiscard]] static Result<SqliteDb> open(const std::filesystem::path& file) { return open(file, Options{}); }

  SqliteDb(SqliteDb&& other) noexcept;
  SqliteDb& operator=(SqliteDb&& other) noexcept;
  SqliteDb(const SqliteDb&) = delete;
  SqliteDb& operator=(const SqliteDb&) = delete;
  ~SqliteDb();

  /// Compiles one statement, to be kept and used many times.
  [[nodiscard]] Result<Statement> prepare(std::string_view sql);
  /// Runs one or more statements without parameters.
  [[nodiscard]] Status execute(std::string_view sql);

  [[nodiscard]] Result<int> schema_version();
  /// Brings the schema to the newest version, each step in a transaction of its own. A schema newer than the last
  /// migration is failed_precondition: nothing is touched, the message names both versions and what to do. `what` names
  /// the database in messages ("catalogue").
  [[nodiscard]] Status migrate(std::span<const Migration> migrations, std::string_view what);

  [[nodiscard]] std::int64_t last_insert_rowid() const;
  /// Rows changed by the last INSERT, UPDATE or DELETE.
  [[nodiscard]] std::int64_t changes() const;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  SqliteDb(sqlite3* handle, std::filesystem::path path) : handle_(handle), path_(std::move(path)) {}
  sqlite3* handle_ = nullptr;
  std::filesystem::path path_;
};

/// A write transaction (BEGIN IMMEDIATE). Rolls back when it goes without commit().
class Transaction {
 public:
  [[nodiscard]] static Result<Transaction> begin(SqliteDb& db);
  Transaction(Transaction&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  Transaction(const Transaction&) = delete;
  ~Transaction();
  [[nodiscard]] Status commit();

 private:
  explicit Transaction(SqliteDb& db) : db_(&db) {}
  SqliteDb* db_;
};

}  // namespace atlas
