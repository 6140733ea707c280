#include "db/sqlite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "db/file_lock.h"

namespace atlas {
namespace {

using ::testing::HasSubstr;

class Sqlite : public ::testing::Test {
 protected:
  Sqlite() {
    std::string name = (std::filesystem::temp_directory_path() / "atlas-db-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
  }
  ~Sqlite() override { std::filesystem::remove_all(directory_); }
  [[nodiscard]] std::filesystem::path file() const { return directory_ / "test.db"; }

  std::filesystem::path directory_;
};

constexpr Migration kOne[] = {{1, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, data BLOB) STRICT"}};
constexpr Migration kTwo[] = {{1, kOne[0].sql}, {2, "ALTER TABLE t ADD COLUMN size INTEGER NOT NULL DEFAULT 7"}};
constexpr Migration kBroken[] = {{1, "CREATE TABLE u (id INTEGER PRIMARY KEY); SELECT nonsense FROM nowhere"}};

TEST_F(Sqlite, ValuesComeBackAsTheyWereBound) {
  auto db = SqliteDb::open(file());
  ASSERT_TRUE(db) << db.error().message;
  ASSERT_TRUE(db->migrate(kOne, "test"));
  auto insert = db->prepare("INSERT INTO t (id, name, data) VALUES (?1, ?2, ?3)");
  ASSERT_TRUE(insert);
  const std::string bytes("a\0\xff\n", 4);
  ASSERT_TRUE(insert->bind_all(~std::uint64_t{0}, "it's; a \"name\"", Statement::Blob{bytes}).run());
  ASSERT_TRUE(insert->bind_all(5, std::optional<std::string_view>(), nullptr).run());

  auto select = db->prepare("SELECT id, name, data FROM t ORDER BY id");
  ASSERT_TRUE(select);
  ASSERT_TRUE(select->step().value());
  EXPECT_EQ(select->uint64(0), ~std::uint64_t{0});
  EXPECT_EQ(select->text(1), "it's; a \"name\"");
  EXPECT_EQ(select->blob(2), bytes);
  ASSERT_TRUE(select->step().value());
  EXPECT_TRUE(select->is_null(1));
  EXPECT_TRUE(select->is_null(2));
  EXPECT_FALSE(select->step().value());
}

TEST_F(Sqlite, AnEmptyTextIsNotNull) {
  auto db = SqliteDb::open(file());
  auto select = db->prepare("SELECT ?1 IS NULL, ?2 IS NULL");
  ASSERT_TRUE(select->bind_all(std::string_view(), Statement::Blob{}).step().value());
  EXPECT_EQ(select->int64(0), 0);
  EXPECT_EQ(select->int64(1), 0);
}

TEST_F(Sqlite, ABoundParameterThatDoesNotExistIsReportedByTheStep) {
  auto db = SqliteDb::open(file());
  auto select = db->prepare("SELECT 1");
  const auto row = select->bind(1, 5).step();
  ASSERT_FALSE(row);
  EXPECT_EQ(row.error().code, Code::internal);
}

TEST_F(Sqlite, AUniqueViolationIsAlreadyExists) {
  auto db = SqliteDb::open(file());
  ASSERT_TRUE(db->migrate(kOne, "test"));
  auto insert = db->prepare("INSERT INTO t (name) VALUES (?1)");
  ASSERT_TRUE(insert->bind_all("x").run());
  const auto again = insert->bind_all("x").run();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Code::already_exists);
  EXPECT_TRUE(insert->bind_all("y").run()) << "the statement must be usable after a failure";
}

TEST_F(Sqlite, ATransactionWithoutCommitLeavesNothingBehind) {
  auto db = SqliteDb::open(file());
  ASSERT_TRUE(db->migrate(kOne, "test"));
  {
    auto transaction = Transaction::begin(*db);
    ASSERT_TRUE(transaction);
    ASSERT_TRUE(db->execute("INSERT INTO t (name) VALUES ('gone')"));
  }
  {
    auto transaction = Transaction::begin(*db);
    ASSERT_TRUE(transaction);
    ASSERT_TRUE(db->execute("INSERT INTO t (name) VALUES ('kept')"));
    ASSERT_TRUE(transaction->commit());
  }
  auto select = db->prepare("SELECT group_concat(name) FROM t");
  ASSERT_TRUE(select->step().value());
  EXPECT_EQ(select->text(0), "kept");
}

TEST_F(Sqlite, MigrationsContinueWhereTheFileStands) {
  {
    auto db = SqliteDb::open(file());
    ASSERT_TRUE(db->migrate(kOne, "test"));
    ASSERT_TRUE(db->execute("INSERT INTO t (name) VALUES ('old')"));
  }
  auto db = SqliteDb::open(file());
  ASSERT_TRUE(db->migrate(kTwo, "test"));
  EXPECT_EQ(db->schema_version().value(), 2);
  auto select = db->prepare("SELECT size FROM t WHERE name = 'old'");
  ASSERT_TRUE(select);
  ASSERT_TRUE(select->step().value());
  EXPECT_EQ(select->int64(0), 7);
  EXPECT_TRUE(db->migrate(kTwo, "test")) << "a second run has nothing to do";
}

TEST_F(Sqlite, ANewerSchemaIsRefusedWithBothVersionsAndUntouched) {
  auto db = SqliteDb::open(file());
  ASSERT_TRUE(db->migrate(kTwo, "test"));
  const auto refused = db->migrate(kOne, "catalogue");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::failed_precondition);
  EXPECT_THAT(refused.error().message, HasSubstr("catalogue has schema version 2"));
  EXPECT_THAT(refused.error().message, HasSubstr("up to 1"));
  EXPECT_THAT(refused.error().message, HasSubstr("start the newer Atlas"));
  EXPECT_EQ(db->schema_version().value(), 2);
}

TEST_F(Sqlite, AFailedMigrationIsRolledBackWhole) {
  auto db = SqliteDb::open(file());
  ASSERT_FALSE(db->migrate(kBroken, "test"));
  EXPECT_EQ(db->schema_version().value(), 0);
  EXPECT_FALSE(db->prepare("SELECT * FROM u"));
}

TEST_F(Sqlite, AMissingDirectoryIsNamed) {
  const auto db = SqliteDb::open(directory_ / "missing" / "x.db");
  ASSERT_FALSE(db);
  EXPECT_EQ(db.error().code, Code::not_found);
  EXPECT_THAT(db.error().message, HasSubstr((directory_ / "missing").string()));
  EXPECT_THAT(db.error().message, HasSubstr("mkdir -p"));
}

TEST_F(Sqlite, AFileThatIsNoDatabaseIsDataLoss) {
  std::ofstream(file()) << std::string(4096, 'x');
  const auto db = SqliteDb::open(file());
  ASSERT_FALSE(db);
  EXPECT_EQ(db.error().code, Code::data_loss);
  EXPECT_THAT(db.error().message, HasSubstr(file().string()));
}

TEST_F(Sqlite, ASecondOwnerIsRefusedAndToldWhoTheFirstIs) {
  const auto lock_file = directory_ / "test.lock";
  {
    auto first = FileLock::take(lock_file, "catalogue test.db");
    ASSERT_TRUE(first) << first.error().message;
    const auto second = FileLock::take(lock_file, "catalogue test.db");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Code::failed_precondition);
    EXPECT_THAT(second.error().message,
                HasSubstr("catalogue test.db belongs to a running process (pid " + std::to_string(::getpid()) + ")"));
  }
  EXPECT_TRUE(FileLock::take(lock_file, "catalogue test.db")) << "the lock ends with its owner";
}

}  // namespace
}  // namespace atlas
