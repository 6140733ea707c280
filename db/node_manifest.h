#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/dataset_policy.h"
#include "common/identity.h"
#include "common/io_limits.h"
#include "common/request.h"
#include "common/result.h"
#include "db/sqlite.h"

namespace atlas {

/// A replica as the node remembers it.
struct ReplicaRow {
  DatasetId dataset;
  Generation generation;
  std::string tier;
  bool complete = false;  ///< sealed and synced: to be trusted after any crash
  std::string boot;       ///< boot id under which it was last written
  WallTime last_used{};
  std::uint64_t charged = 0;                              ///< bytes of the tier's quota
  std::uint64_t inodes = 0;                               ///< the same of its quota of inodes; 0 = not known
  std::uint64_t borrowed_bytes = 0, borrowed_inodes = 0;  ///< of files that it shares, charged to other replicas
  std::optional<Payer> payer{};
  std::uint64_t blind = 0;
  std::uint64_t blocks = 0;
  std::uint64_t allocated = 0;
  bool is_file = false;
  std::vector<std::string> windows;   ///< directories that are the origin's own
  std::vector<std::string> vouchers;  ///< principals whose own walk produced exactly this generation
};

/// A job's dataset on this node.
struct NodeJobDatasetRow {
  DatasetId dataset;
  GenerationId generation;  ///< what it holds a lease of; none = nothing
  bool mounted = false;
  std::string reason;    ///< when it is not mounted
  bool partial = false;  ///< it is read through: not all of it was here
  bool read_write = false;
};

/// A job the node has been told of.
struct NodeJobRow {
  JobKey job;
  Principal as;
  std::string reason;
  std::chrono::milliseconds waited{0};
  std::string name_space;  ///< where its mount namespace is pinned, empty = nowhere
  std::vector<NodeJobDatasetRow> datasets;
  Bytes cache_limit{};  ///< bytes it may fill here, all datasets together; 0 = as needed
  OnChange on_change = OnChange::refresh;
  std::string account{};  ///< of Slurm
  IoRate io_limit = kUnlimited;
  /// All its nodes, this one too, if it has several: what does not fit one of them they divide.
  std::vector<NodeAddress> divided{};
  /// When the job asked for each of its datasets. Not stored: no walk is remembered over a restart either.
  std::vector<SteadyTime> asked{};
};

/// What a node must remember over a restart of its agent: replicas, jobs and their leases, pins. One SQLite file, never
/// on the path of a read. Thread-safe; every call blocks on the disk.
class NodeManifest {
 public:
  /// Creates or migrates the file. failed_precondition when a newer version of Atlas wrote it.
  [[nodiscard]] static Result<std::unique_ptr<NodeManifest>> open(const std::filesystem::path& file);

  [[nodiscard]] Result<std::vector<ReplicaRow>> replicas();
  [[nodiscard]] Status put_replica(const ReplicaRow& row);
  [[nodiscard]] Status touch_replica(const DatasetId& dataset, const GenerationId& generation, WallTime last_used);
  [[nodiscard]] Status vouch(const DatasetId& dataset, const GenerationId& generation, const std::string& principal);
  [[nodiscard]] Status drop_replica(const DatasetId& dataset, const GenerationId& generation);

  [[nodiscard]] Result<std::vector<NodeJobRow>> jobs();
  /// Replaces what was known of the job id.
  [[nodiscard]] Status put_job(const NodeJobRow& row);
  [[nodiscard]] Status drop_job(std::uint32_t job_id);

  /// What the controller has settled about datasets; one that cannot be read is left out.
  [[nodiscard]] Result<std::map<DatasetId, DatasetPolicy>> policies();
  [[nodiscard]] Status put_policy(const DatasetId& dataset, const DatasetPolicy& policy);

  [[nodiscard]] Result<std::vector<DatasetId>> pins();
  [[nodiscard]] Status set_pin(const DatasetId& dataset, bool pinned);

 private:
  explicit NodeManifest(SqliteDb db) : db_(std::move(db)) {}
  [[nodiscard]] Status in_transaction(const std::function<Status()>& work);

  std::mutex mutex_;  ///< guards db_: one statement at a time, which is why it is held while the disk works
  SqliteDb db_;
};

/// The entries of one generation in a file beside the replica's tree.
class ManifestFile {
 public:
  struct Row {
    std::uint32_t parent = 0, leader = 0;
    std::string_view name, target;  ///< valid during the call they are passed to
    std::uint8_t type = 0, flags = 0;
    std::uint32_t mode = 0, uid = 0, gid = 0;
    std::uint64_t size = 0, rdev = 0;
    std::int64_t mtime = 0, ctime = 0;
  };
  /// Writes all rows in one transaction to a file that must not exist; nothing of it stays on failure.
  [[nodiscard]] static Status write(const std::filesystem::path& file, std::uint32_t count,
                                    const std::function<Row(std::uint32_t)>& row);
  /// Reads the rows in their order until `take` fails. data_loss when the file cannot be read.
  [[nodiscard]] static Status read(const std::filesystem::path& file, const std::function<Status(const Row&)>& take);
};

}  // namespace atlas
