// What a node remembers over a restart of its agent, also if an older version wrote it.
#include "db/node_manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace atlas {
namespace {

class NodeManifestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "atlas-node-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    open();
  }
  void TearDown() override {
    manifest_.reset();
    std::filesystem::remove_all(directory_);
  }
  [[nodiscard]] std::filesystem::path file() const { return directory_ / "node.db"; }
  void open() {
    manifest_.reset();
    auto opened = NodeManifest::open(file());
    ASSERT_TRUE(opened) << opened.error().message;
    manifest_ = std::move(*opened);
  }
  static ReplicaRow replica() {
    ReplicaRow row;
    row.dataset = {"lustre", "speech"};
    row.generation.id = GenerationId::of(std::string(16, 'g'));
    row.generation.entries = 9;
    row.tier = "nvme";
    row.charged = 4096;
    row.inodes = 13;
    row.borrowed_bytes = 2048;
    row.borrowed_inodes = 2;
    row.payer = Payer{1000, 100, "speech"};
    return row;
  }

  std::filesystem::path directory_;
  std::unique_ptr<NodeManifest> manifest_;
};

TEST_F(NodeManifestTest, WhomAReplicaWasBroughtForIsKeptAndMayChange) {
  auto row = replica();
  ASSERT_TRUE(manifest_->put_replica(row));
  open();
  ASSERT_EQ(manifest_->replicas()->size(), 1U);
  EXPECT_EQ(manifest_->replicas()->at(0).payer, row.payer);
  EXPECT_EQ(manifest_->replicas()->at(0).inodes, 13U);
  EXPECT_EQ(manifest_->replicas()->at(0).borrowed_bytes, 2048U);
  EXPECT_EQ(manifest_->replicas()->at(0).borrowed_inodes, 2U);
  row.payer = Payer{1001, 100, ""};
  row.inodes = 14;
  ASSERT_TRUE(manifest_->put_replica(row));
  open();
  EXPECT_EQ(manifest_->replicas()->at(0).payer, row.payer);
  EXPECT_EQ(manifest_->replicas()->at(0).inodes, 14U);
}

TEST_F(NodeManifestTest, AJobsAccountIsKept) {
  NodeJobRow job;
  job.job.job_id = 7;
  job.account = "speech";
  job.io_limit.bytes = 5e6;
  ASSERT_TRUE(manifest_->put_job(job));
  open();
  ASSERT_EQ(manifest_->jobs()->size(), 1U);
  EXPECT_EQ(manifest_->jobs()->at(0).account, "speech");
  EXPECT_EQ(manifest_->jobs()->at(0).io_limit, (IoRate{5e6, kNoRate}));
}

TEST_F(NodeManifestTest, ADatabaseOfTheThirdSchemaKeepsItsReplicasAndJobs) {
  ASSERT_TRUE(manifest_->put_replica(replica()));
  NodeJobRow job;
  job.job.job_id = 7;
  job.account = "speech";
  ASSERT_TRUE(manifest_->put_job(job));
  manifest_.reset();
  {
    auto db = SqliteDb::open(file());
    ASSERT_TRUE(
        db->execute("ALTER TABLE replica DROP COLUMN inodes; "
                    "ALTER TABLE replica DROP COLUMN borrowed_bytes; "
                    "ALTER TABLE replica DROP COLUMN borrowed_inodes; ALTER TABLE replica DROP COLUMN payer_uid; "
                    "ALTER TABLE replica DROP COLUMN payer_gid; ALTER TABLE replica DROP COLUMN account; "
                    "ALTER TABLE job DROP COLUMN account; ALTER TABLE job DROP COLUMN io_bytes; "
                    "ALTER TABLE job DROP COLUMN io_operations; "
                    "ALTER TABLE job DROP COLUMN divided; ALTER TABLE job_dataset DROP COLUMN read_write; PRAGMA "
                    "user_version = 3"));
  }
  open();
  ASSERT_EQ(manifest_->replicas()->size(), 1U);
  const auto row = manifest_->replicas()->at(0);
  EXPECT_EQ(row.charged, 4096U);
  EXPECT_EQ(row.inodes, 0U) << "not known: counted from its entries";
  EXPECT_FALSE(row.payer);
  ASSERT_EQ(manifest_->jobs()->size(), 1U);
  EXPECT_EQ(manifest_->jobs()->at(0).account, "");
}

}  // namespace
}  // namespace atlas
