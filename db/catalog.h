#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/config.h"
#include "common/dataset_policy.h"
#include "common/identity.h"
#include "common/io_limits.h"
#include "db/file_lock.h"
#include "db/sqlite.h"

namespace atlas {

/// A short name for a dataset: "speech" (site-wide) or "~user/name".
struct DatasetName {
  std::string name;
  DatasetId dataset;
  std::string owner;  ///< account that made it
  bool operator==(const DatasetName&) const = default;
};

/// What was settled about a dataset, and for whom it is warmed when that asks for it.
struct DatasetSettings {
  DatasetPolicy policy;  ///< without grants
  std::uint32_t uid = 0, gid = 0;
  std::string set_by;
  bool operator==(const DatasetSettings&) const = default;
};

/// A group that may read a dataset by its owner's rights.
struct DatasetShare {
  Grant grant;
  std::string group, owner, by;
  WallTime since{};
  bool operator==(const DatasetShare&) const = default;
};

/// What a user, a Unix group, a Slurm account, a node or an origin may take, or give.
struct LimitRow {
  LimitKind kind = LimitKind::user;
  std::string name;
  std::uint32_t id = 0;        ///< uid or gid when it was set; others have none
  std::optional<Bytes> cache;  ///< cache space, on all nodes together
  std::string set_by;
  WallTime since{};
  std::optional<Bytes> read{};  ///< from origins, per second, on all nodes together
  std::optional<std::uint64_t> operations{};
  std::optional<std::chrono::milliseconds> burst{};  ///< so much of the rates may come at once
  std::optional<std::int64_t> weight{};              ///< among those who want the same; 1 = as without
  bool operator==(const LimitRow&) const = default;
};

/// What one attempt of a job got.
struct Receipt {
  std::vector<std::string> nodes;
  Bytes resident, origin;  ///< resident when attached; read by Atlas from the origin for this job
  std::chrono::milliseconds waited{0};
  std::string outcome;  ///< warm | partial | cold | mixed
  std::string reason;
  std::chrono::sys_seconds started{}, ended{};
  std::optional<Bytes> hit{};              ///< read from the nodes, where that is counted: not of complete replicas
  Bytes peers{};                           ///< read by Atlas from other nodes' caches for this job
  std::chrono::milliseconds throttled{0};  ///< for which reads waited for limits, on all nodes together
  Bytes throttled_bytes{};                 ///< of these reads
  Bytes bypass{};                          ///< read from origins past Atlas, where that can be measured
  bool operator==(const Receipt&) const = default;
};

/// Where a job stands; the catalogue's text for it is name_of().
enum class JobPhase { queued, surveying, waiting, warming, ready, running, ended };
[[nodiscard]] std::string_view name_of(JobPhase phase);

/// What must survive a restart of the controller about one attempt of a job: what was asked, decided, and written into
/// Slurm's record.
struct JobRow {
  JobKey key;
  std::uint32_t uid = 0, gid = 0;
  std::string user, name;
  std::string request;  ///< encoded
  JobPhase phase = JobPhase::queued;
  std::string reason;                          ///< one sentence
  std::vector<std::string> nodes;              ///< planned, later where it runs
  std::optional<std::string> wrote_req_nodes;  ///< what Atlas last wrote there; anything else is the user's
  std::optional<std::chrono::sys_seconds> wrote_begin;
  std::chrono::sys_seconds deadline{};  ///< epoch = none
  WallTime first_seen{};
  std::chrono::milliseconds waited{0};
  bool array = false;
  bool cold = false;                      ///< it starts, or has started, without its data
  std::vector<GenerationId> generations;  ///< parallel to the request's datasets; none = the newest complete one
  bool operator==(const JobRow&) const = default;
};

/// One of the things that could have been done with a job, as it was seen when its nodes were chosen.
struct PlanRow {
  std::string what;   ///< go | wait | warm | cold
  std::string nodes;  ///< hostlist
  Bytes resident, total;
  std::chrono::milliseconds start{0}, stall{0};  ///< until the nodes are free, and from then until the data is there
  bool operator==(const PlanRow&) const = default;
};

/// What was weighed for one attempt of a job, the chosen one first; empty = nothing was, or rates were not known.
struct PlanRows {
  std::chrono::sys_seconds made{};
  std::vector<PlanRow> rows;
  bool operator==(const PlanRows&) const = default;
};

/// What Atlas would have done with the jobs of a Slurm account that it only looked at, in sums.
struct ObservedRow {
  std::string account;
  std::uint64_t jobs = 0;
  std::uint64_t same_nodes = 0;         ///< of which so many ran where Atlas would have put them
  std::chrono::milliseconds waited{0};  ///< as Slurm ran them, from when they could start
  std::uint64_t estimated = 0;          ///< jobs for which the next two are known
  std::chrono::milliseconds start{0};   ///< until the nodes of Atlas's choice were expected to be free
  std::chrono::milliseconds stall{0};   ///< and from then until the data would have been there
  Bytes total, held;                    ///< of data, for each node of a job; what would have been there already
  std::chrono::sys_seconds since{};
  bool operator==(const ObservedRow&) const = default;
};

/// A node was, or is to be, told of a job (Agent.Plan) and must be told of its end.
struct LeaseRow {
  std::uint32_t job_id = 0;
  std::string node;
  bool hard = false;       ///< the job runs there; soft = it is expected there
  bool acked = false;      ///< the agent knows
  bool releasing = false;  ///< the job has ended or will not come; the agent does not know yet
  bool operator==(const LeaseRow&) const = default;
};

/// The controller's catalogue: one SQLite file, owned by one controller. All calls are made from one thread and take
/// microseconds to a few milliseconds; an error means the disk failed or is full.
class Catalog {
 public:
  /// Takes sole ownership (lock file beside it), brings the schema up to date, notes the origins. failed_precondition:
  /// another controller has it, or the schema is newer; not_found: its directory is missing.
  [[nodiscard]] static Result<std::unique_ptr<Catalog>> open(const std::filesystem::path& file,
                                                             const std::vector<OriginConfig>& origins);
  ~Catalog();

  /// Names. already_exists / not_found as they say.
  [[nodiscard]] Status create_name(const DatasetName& name, WallTime now);
  [[nodiscard]] Status delete_name(std::string_view name);
  [[nodiscard]] Result<std::vector<DatasetName>> names();

  [[nodiscard]] Status put_settings(const DatasetId& dataset, const DatasetSettings& settings, WallTime now);
  [[nodiscard]] Result<std::map<DatasetId, DatasetSettings>> settings();
  /// With an entry in the log of grants, which nothing removes.
  [[nodiscard]] Status put_share(const DatasetId& dataset, const DatasetShare& share);
  [[nodiscard]] Status drop_share(const DatasetId& dataset, const DatasetShare& share, std::string_view by,
                                  WallTime now);
  [[nodiscard]] Result<std::vector<std::pair<DatasetId, DatasetShare>>> shares();
  /// "alice granted faces to ml", oldest first.
  [[nodiscard]] Result<std::vector<std::string>> share_log(const DatasetId& dataset);

  /// Versions that were observed; the newest one by observation time.
  [[nodiscard]] Status note_generation(const DatasetId& dataset, const Generation& generation);
  [[nodiscard]] Result<std::map<DatasetId, Generation>> newest_generations();

  /// What nodes hold, as they last said. An absent replica is removed.
  [[nodiscard]] Status replace_replicas(std::string_view node, const std::vector<ReplicaInfo>& replicas);
  [[nodiscard]] Status put_replica(std::string_view node, const ReplicaInfo& replica);
  [[nodiscard]] Result<std::vector<std::pair<std::string, ReplicaInfo>>> replicas();

  /// Who has read a dataset with success: he may see it.
  [[nodiscard]] Status note_reader(const DatasetId& dataset, std::uint32_t uid);
  [[nodiscard]] Result<std::vector<std::pair<DatasetId, std::uint32_t>>> readers();

  [[nodiscard]] Status put_job(const JobRow& job);
  [[nodiscard]] Status put_receipt(const JobKey& key, const Receipt& receipt);
  /// Jobs that have not ended.
  [[nodiscard]] Result<std::vector<JobRow>> open_jobs();
  struct EndedJob {
    JobRow job;
    std::optional<Receipt> receipt;
  };
  /// Newest first.
  [[nodiscard]] Result<std::vector<EndedJob>> ended_jobs(std::size_t limit);
  [[nodiscard]] Result<std::optional<EndedJob>> newest_attempt(std::uint32_t job_id);
  /// Forgets ended jobs and their receipts beyond the newest `keep`.
  [[nodiscard]] Status prune_jobs(std::size_t keep);

  /// Replaces what was kept; goes with the job's row, which comes first.
  [[nodiscard]] Status put_plan(const JobKey& key, const PlanRows& plan);
  [[nodiscard]] Result<PlanRows> plan_of(const JobKey& key);
  /// Bytes per second that one transfer, and all together, have had from a source.
  [[nodiscard]] Status put_rate(std::string_view source, Bytes one, Bytes all);
  [[nodiscard]] Result<std::map<std::string, std::pair<Bytes, Bytes>>> rates();

  /// Adds to the account's sums; `since` counts for the first only.
  [[nodiscard]] Status add_observed(const ObservedRow& more);
  [[nodiscard]] Result<std::vector<ObservedRow>> observed();

  [[nodiscard]] Status put_lease(const LeaseRow& lease);
  [[nodiscard]] Status drop_lease(std::uint32_t job_id, std::string_view node);
  [[nodiscard]] Result<std::vector<LeaseRow>> leases();

  [[nodiscard]] Status set_pin(const DatasetId& dataset, bool pinned, std::string_view by, WallTime now);
  [[nodiscard]] Result<std::vector<DatasetId>> pins();
  [[nodiscard]] Status set_drained(std::string_view node, bool drained, std::string_view by, WallTime now);
  [[nodiscard]] Result<std::vector<std::string>> drained();

  [[nodiscard]] Status put_limit(const LimitRow& limit);
  [[nodiscard]] Status drop_limit(LimitKind kind, std::string_view name);
  [[nodiscard]] Result<std::vector<LimitRow>> limits();

  /// A user has run jobs under one of Slurm's accounts; seen last at that time.
  struct UserAccount {
    std::uint32_t uid = 0;
    std::string account;
    WallTime seen{};
  };
  [[nodiscard]] Status note_account(const UserAccount& account);
  /// Those seen since then; earlier ones are forgotten.
  [[nodiscard]] Result<std::vector<UserAccount>> accounts(WallTime since);

  [[nodiscard]] int schema_version() const { return schema_version_; }

 private:
  struct Statements;
  Catalog(FileLock lock, SqliteDb db);
  [[nodiscard]] Status prepare_all();
  [[nodiscard]] Status put_replica_row(std::string_view node, const ReplicaInfo& replica);
  [[nodiscard]] Result<std::int64_t> dataset_row(const DatasetId& dataset);
  [[nodiscard]] Result<std::vector<EndedJob>> read_jobs(Statement& statement);

  FileLock lock_;
  SqliteDb db_;
  std::unique_ptr<Statements> sql_;  // after db_: statements go first
  int schema_version_ = 0;
};

}  // namespace atlas
