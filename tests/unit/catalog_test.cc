#include "db/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

namespace atlas {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

const WallTime kNow{1'700'000'000'000'000'000ns};

Generation generation(unsigned char id, std::uint64_t bytes, WallTime observed = kNow) {
  Generation g;
  g.id.digest[0] = id;
  g.bytes = Bytes{bytes};
  g.files = 3;
  g.entries = 4;
  g.opaque = 1;
  g.outward_links = 2;
  g.observed = observed;
  return g;
}

ReplicaInfo replica(const DatasetId& dataset, const Generation& g, ReplicaState state) {
  ReplicaInfo r;
  r.dataset = dataset;
  r.generation = g;
  r.state = state;
  r.bytes_resident = g.bytes;
  r.files_resident = 3;
  r.tier = "nvme";
  r.last_used = kNow;
  return r;
}

class CatalogTest : public ::testing::Test {
 protected:
  CatalogTest() {
    std::string name = (std::filesystem::temp_directory_path() / "atlas-catalog-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
    open();
  }
  ~CatalogTest() override { std::filesystem::remove_all(directory_); }

  void open() {
    catalog_.reset();
    auto opened = Catalog::open(file(), {{"lustre", "/lustre", "user", 48, {}}});
    ASSERT_TRUE(opened) << opened.error().message;
    catalog_ = std::move(*opened);
  }
  [[nodiscard]] std::filesystem::path file() const { return directory_ / "catalog.db"; }

  std::filesystem::path directory_;
  std::unique_ptr<Catalog> catalog_;
  const DatasetId speech_{"lustre", "speech"};
  const DatasetId odd_{"lustre", std::string("a\n\xff'; DROP TABLE jobs; --")};
};

TEST_F(CatalogTest, NamesSurviveAReopenAndAnyBytesMakeAPath) {
  ASSERT_TRUE(catalog_->create_name({"speech", speech_, "root"}, kNow));
  ASSERT_TRUE(catalog_->create_name({"~bob/odd", odd_, "bob"}, kNow));
  open();
  EXPECT_THAT(catalog_->names().value(),
              ElementsAre(DatasetName{"speech", speech_, "root"}, DatasetName{"~bob/odd", odd_, "bob"}));
}

TEST_F(CatalogTest, ATakenNameIsRefusedAndAnUnknownOneNotDeleted) {
  ASSERT_TRUE(catalog_->create_name({"speech", speech_, "root"}, kNow));
  const auto again = catalog_->create_name({"speech", odd_, "root"}, kNow);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Code::already_exists);
  EXPECT_THAT(again.error().message, HasSubstr("'speech' is taken"));
  EXPECT_EQ(catalog_->delete_name("noise").error().code, Code::not_found);
  ASSERT_TRUE(catalog_->delete_name("speech"));
  EXPECT_THAT(catalog_->names().value(), IsEmpty());
}

TEST_F(CatalogTest, TheNewestGenerationIsTheOneObservedLast) {
  ASSERT_TRUE(catalog_->note_generation(speech_, generation(1, 100, kNow + 5s)));
  ASSERT_TRUE(catalog_->note_generation(speech_, generation(2, 200, kNow)));
  EXPECT_THAT(catalog_->newest_generations().value(), ElementsAre(Pair(speech_, generation(1, 100, kNow + 5s))));
  ASSERT_TRUE(catalog_->note_generation(speech_, generation(2, 200, kNow + 9s)));
  EXPECT_EQ(catalog_->newest_generations().value()[speech_].id, generation(2, 0).id);
}

TEST_F(CatalogTest, AnInventoryReplacesWhatTheNodeHeldAndNothingElse) {
  const auto one = replica(speech_, generation(1, 100), ReplicaState::complete);
  const auto two = replica(odd_, generation(2, 50), ReplicaState::partial);
  ASSERT_TRUE(catalog_->replace_replicas("n001", {one, two}));
  ASSERT_TRUE(catalog_->replace_replicas("n002", {one}));
  ASSERT_TRUE(catalog_->replace_replicas("n001", {two}));
  EXPECT_THAT(catalog_->replicas().value(), ::testing::UnorderedElementsAre(Pair("n001", two), Pair("n002", one)));
  auto gone = one;
  gone.state = ReplicaState::absent;
  ASSERT_TRUE(catalog_->put_replica("n002", gone));
  EXPECT_THAT(catalog_->replicas().value(), ElementsAre(Pair("n001", two)));
}

TEST_F(CatalogTest, AJobComesBackAsItWasWrittenUntilItHasEnded) {
  JobRow job;
  job.key = {"c1", 42, 1, std::chrono::sys_seconds(1700000000s)};
  job.uid = 1001;
  job.gid = 1002;
  job.user = "bob";
  job.name = "it's";
  job.request = "v1,w=wait,d=/lustre/speech";
  job.phase = JobPhase::warming;
  job.reason = "warming n001";
  job.nodes = {"n001", "n002"};
  job.wrote_req_nodes = "n[001-002]";
  job.wrote_begin = std::chrono::sys_seconds(1700001800s);
  job.deadline = std::chrono::sys_seconds(1700001800s);
  job.first_seen = kNow;
  job.waited = 1500ms;
  job.generations = {generation(7, 0).id, GenerationId{}};
  ASSERT_TRUE(catalog_->put_job(job));
  open();
  EXPECT_THAT(catalog_->open_jobs().value(), ElementsAre(job));

  job.phase = JobPhase::ended;
  job.cold = true;
  ASSERT_TRUE(catalog_->put_job(job));
  const Receipt receipt{{"n001"},
                        Bytes{100},
                        Bytes{7},
                        1500ms,
                        "warm",
                        "held n001",
                        std::chrono::sys_seconds(5s),
                        std::chrono::sys_seconds(9s),
                        Bytes{93},
                        Bytes{94}};
  ASSERT_TRUE(catalog_->put_receipt(job.key, receipt));
  EXPECT_THAT(catalog_->open_jobs().value(), IsEmpty());
  const auto ended = catalog_->ended_jobs(10).value();
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].job, job);
  EXPECT_EQ(ended[0].receipt, receipt);
}

TEST_F(CatalogTest, ACatalogueOfTheFirstSchemaKeepsItsReceipts) {
  JobRow job;
  job.key = {"c1", 7, 0, std::chrono::sys_seconds(7s)};
  job.phase = JobPhase::ended;
  ASSERT_TRUE(catalog_->put_job(job));
  Receipt receipt;
  receipt.origin = Bytes{7};
  ASSERT_TRUE(catalog_->put_receipt(job.key, receipt));
  catalog_.reset();
  {
    auto db = SqliteDb::open(file());
    ASSERT_TRUE(db->execute(
        "ALTER TABLE replicas DROP COLUMN charged; ALTER TABLE replicas DROP COLUMN payer_uid; "
        "ALTER TABLE replicas DROP COLUMN payer_gid; ALTER TABLE replicas DROP COLUMN account; "
        "ALTER TABLE limits DROP COLUMN id; ALTER TABLE limits DROP COLUMN cache; "
        "ALTER TABLE limits DROP COLUMN burst_ms; ALTER TABLE limits DROP COLUMN weight; "
        "ALTER TABLE receipts DROP COLUMN throttled_ms; ALTER TABLE receipts DROP COLUMN throttled_bytes; "
        "DROP TABLE user_accounts; ALTER TABLE receipts DROP COLUMN bypass; DROP TABLE plans; DROP TABLE rates; "
        "DROP TABLE observed; "
        "INSERT INTO limits VALUES ('user', 'alice', 1000, NULL, 'root', 5); "
        "DROP TABLE settings; DROP TABLE shares; DROP TABLE share_log; "
        "ALTER TABLE receipts DROP COLUMN peers; ALTER TABLE receipts DROP COLUMN hit; PRAGMA user_version = 1"));
  }
  open();
  const auto ended = catalog_->ended_jobs(10).value();
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].receipt, receipt);
  EXPECT_THAT(catalog_->limits().value(),
              ElementsAre(LimitRow{LimitKind::user, "alice", 0, std::nullopt, "root", WallTime(5ns), Bytes{1000}}));
}

TEST_F(CatalogTest, LimitsAndWhomReplicasAreChargedToAreKept) {
  const LimitRow alice{LimitKind::user, "alice", 1000, Bytes{500}, "root", kNow, Bytes{5}, 2000, 2000ms, 3};
  const LimitRow lustre{LimitKind::origin, "lustre", 0, {}, "root", kNow, Bytes{1ULL << 40}, {}, {}, {}};
  const LimitRow nothing{LimitKind::group, "guests", 99, Bytes{0}, "root", kNow};
  const LimitRow speech{LimitKind::account, "speech", 0, Bytes{1ULL << 60}, "root", kNow};
  ASSERT_TRUE(catalog_->put_limit({LimitKind::user, "alice", 7, Bytes{1}, "bob", {}}));
  for (const auto& limit : {alice, nothing, speech, lustre}) ASSERT_TRUE(catalog_->put_limit(limit));
  ASSERT_TRUE(catalog_->put_limit({LimitKind::user, "bob", 1001, Bytes{1}, "root", kNow}));
  ASSERT_TRUE(catalog_->drop_limit(LimitKind::user, "bob"));
  ReplicaInfo replica;
  replica.dataset = odd_;
  replica.generation.id = GenerationId::of(std::string(16, 'g'));
  replica.state = ReplicaState::partial;
  replica.charged = Bytes{77};
  replica.payer = Payer{1000, 99, "speech"};
  ASSERT_TRUE(catalog_->put_replica("n1", replica));
  replica.payer.reset();
  ASSERT_TRUE(catalog_->put_replica("n2", replica));
  open();
  EXPECT_THAT(catalog_->limits().value(), ElementsAre(alice, lustre, nothing, speech));
  const auto replicas = catalog_->replicas().value();
  ASSERT_EQ(replicas.size(), 2U);
  EXPECT_EQ(replicas[0].second.payer, (Payer{1000, 99, "speech"}));
  EXPECT_EQ(replicas[0].second.charged, Bytes{77});
  EXPECT_FALSE(replicas[1].second.payer);
}

TEST_F(CatalogTest, PruningKeepsTheNewestJobsAndAllOpenOnes) {
  for (std::uint32_t id = 1; id <= 5; ++id) {
    JobRow job;
    job.key = {"c1", id, 0, std::chrono::sys_seconds(std::chrono::seconds(id))};
    job.phase = id == 1 ? JobPhase::running : JobPhase::ended;
    ASSERT_TRUE(catalog_->put_job(job));
    ASSERT_TRUE(catalog_->put_receipt(job.key, {}));
  }
  ASSERT_TRUE(catalog_->prune_jobs(2));
  const auto ended = catalog_->ended_jobs(10).value();
  ASSERT_EQ(ended.size(), 2U);
  EXPECT_EQ(ended[0].job.key.job_id, 5U);
  EXPECT_EQ(ended[1].job.key.job_id, 4U);
  EXPECT_EQ(catalog_->open_jobs().value().size(), 1U);
  EXPECT_FALSE(catalog_->newest_attempt(2).value());
}

TEST_F(CatalogTest, LeasesPinsDrainsAndReadersAreKept) {
  ASSERT_TRUE(catalog_->put_lease({42, "n001", false, false, false}));
  ASSERT_TRUE(catalog_->put_lease({42, "n001", true, true, false}));
  ASSERT_TRUE(catalog_->put_lease({43, "n002", false, true, true}));
  ASSERT_TRUE(catalog_->drop_lease(43, "n002"));
  ASSERT_TRUE(catalog_->set_pin(odd_, true, "root", kNow));
  ASSERT_TRUE(catalog_->set_pin(odd_, true, "root", kNow));
  ASSERT_TRUE(catalog_->set_drained("n003", true, "root", kNow));
  ASSERT_TRUE(catalog_->note_reader(odd_, 1001));
  ASSERT_TRUE(catalog_->note_reader(odd_, 1001));
  open();
  EXPECT_THAT(catalog_->leases().value(), ElementsAre(LeaseRow{42, "n001", true, true, false}));
  EXPECT_THAT(catalog_->pins().value(), ElementsAre(odd_));
  EXPECT_THAT(catalog_->drained().value(), ElementsAre("n003"));
  EXPECT_THAT(catalog_->readers().value(), ElementsAre(Pair(odd_, 1001U)));
  ASSERT_TRUE(catalog_->set_pin(odd_, false, "root", kNow));
  ASSERT_TRUE(catalog_->set_drained("n003", false, "root", kNow));
  EXPECT_THAT(catalog_->pins().value(), IsEmpty());
  EXPECT_THAT(catalog_->drained().value(), IsEmpty());
}

TEST_F(CatalogTest, ASecondControllerIsRefused) {
  const auto second = Catalog::open(file(), {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::failed_precondition);
  EXPECT_THAT(second.error().message, HasSubstr(file().string()));
  EXPECT_THAT(second.error().message, HasSubstr("belongs to a running process"));
}

TEST_F(CatalogTest, AMissingDirectoryAndANewerSchemaAreExplained) {
  const auto missing = Catalog::open(directory_ / "none" / "c.db", {});
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr((directory_ / "none").string() + " does not exist"));

  catalog_.reset();
  {
    auto db = SqliteDb::open(file());
    ASSERT_TRUE(db->execute("PRAGMA user_version = 99"));
  }
  const auto newer = Catalog::open(file(), {});
  ASSERT_FALSE(newer);
  EXPECT_EQ(newer.error().code, Code::failed_precondition);
  EXPECT_THAT(newer.error().message, HasSubstr("schema version 99"));
}

TEST_F(CatalogTest, WhatIsObservedIsAddedUpByAccount) {
  const ObservedRow first{"ml", 1, 1, 2s, 1, 3s, 4s, Bytes{10}, Bytes{5}, std::chrono::sys_seconds(100s)};
  const ObservedRow second{"ml", 1, 0, 1s, 0, 0s, 0s, Bytes{10}, Bytes{0}, std::chrono::sys_seconds(200s)};
  const ObservedRow other{odd_.path, 1, 1, 0s, 0, 0s, 0s, Bytes{1}, Bytes{1}, std::chrono::sys_seconds(300s)};
  for (const auto& row : {first, second, other}) ASSERT_TRUE(catalog_->add_observed(row));
  open();
  const ObservedRow sum{"ml", 2, 1, 3s, 1, 3s, 4s, Bytes{20}, Bytes{5}, std::chrono::sys_seconds(100s)};
  EXPECT_THAT(catalog_->observed().value(), ::testing::UnorderedElementsAre(sum, other));
}

}  // namespace
}  // namespace atlas
