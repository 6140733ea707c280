#include "db/node_manifest.h"

#include <array>

namespace atlas {
namespace {

constexpr std::string_view kCreate = R"sql(
CREATE TABLE replica (
  origin BLOB NOT NULL, path BLOB NOT NULL, generation BLOB NOT NULL,
  tier TEXT NOT NULL, complete INTEGER NOT NULL, boot TEXT NOT NULL, last_used INTEGER NOT NULL,
  charged INTEGER NOT NULL, bytes INTEGER NOT NULL, files INTEGER NOT NULL, entries INTEGER NOT NULL,
  opaque INTEGER NOT NULL, blind INTEGER NOT NULL, outward_links INTEGER NOT NULL, blocks INTEGER NOT NULL,
  allocated INTEGER NOT NULL, is_file INTEGER NOT NULL, observed INTEGER NOT NULL,
  PRIMARY KEY (origin, path, generation)) WITHOUT ROWID;
CREATE TABLE voucher (
  origin BLOB NOT NULL, path BLOB NOT NULL, generation BLOB NOT NULL, principal TEXT NOT NULL,
  PRIMARY KEY (origin, path, generation, principal),
  FOREIGN KEY (origin, path, generation) REFERENCES replica ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE job (
  job_id INTEGER PRIMARY KEY, cluster TEXT NOT NULL, restarts INTEGER NOT NULL, submitted INTEGER NOT NULL,
  uid INTEGER NOT NULL, gid INTEGER NOT NULL, groups TEXT NOT NULL, reason TEXT NOT NULL, waited INTEGER NOT NULL,
  namespace BLOB NOT NULL);
CREATE TABLE job_dataset (
  job_id INTEGER NOT NULL REFERENCES job ON DELETE CASCADE, position INTEGER NOT NULL,
  origin BLOB NOT NULL, path BLOB NOT NULL, generation BLOB NOT NULL, mounted INTEGER NOT NULL, reason TEXT NOT NULL,
  PRIMARY KEY (job_id, position)) WITHOUT ROWID;
CREATE TABLE pin (origin BLOB NOT NULL, path BLOB NOT NULL, PRIMARY KEY (origin, path)) WITHOUT ROWID;
)sql";
constexpr std::string_view kReadThrough = R"sql(
ALTER TABLE job ADD COLUMN cache_limit INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job_dataset ADD COLUMN partial INTEGER NOT NULL DEFAULT 0;
)sql";
constexpr std::string_view kPolicies = R"sql(
ALTER TABLE replica ADD COLUMN windows BLOB NOT NULL DEFAULT x'';
ALTER TABLE replica ADD COLUMN owner INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN on_change INTEGER NOT NULL DEFAULT 0;
CREATE TABLE policy (
  origin BLOB NOT NULL, path BLOB NOT NULL, text TEXT NOT NULL, PRIMARY KEY (origin, path)) WITHOUT ROWID;
)sql";
constexpr std::string_view kSpace = R"sql(
ALTER TABLE replica ADD COLUMN inodes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN borrowed_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN borrowed_inodes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN payer_uid INTEGER;
ALTER TABLE replica ADD COLUMN payer_gid INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replica ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN account TEXT NOT NULL DEFAULT '';
)sql";
constexpr std::string_view kReadWrite = "ALTER TABLE job_dataset ADD COLUMN read_write INTEGER NOT NULL DEFAULT 0;";
/// Whole numbers per second; none = no limit.
constexpr std::string_view kIoLimit = R"sql(
ALTER TABLE job ADD COLUMN io_bytes INTEGER;
ALTER TABLE job ADD COLUMN io_operations INTEGER;
)sql";
constexpr std::string_view kDivided = "ALTER TABLE job ADD COLUMN divided TEXT NOT NULL DEFAULT '';";
constexpr std::array kMigrations = {Migration{1, kCreate}, Migration{2, kReadThrough}, Migration{3, kPolicies},
                                    Migration{4, kSpace},  Migration{5, kReadWrite},   Migration{6, kIoLimit},
                                    Migration{7, kDivided}};

constexpr std::string_view kSelectReplicas =
    "SELECT origin, path, generation, tier, complete, boot, last_used, charged, bytes, files, entries, opaque, blind, "
    "outward_links, blocks, allocated, is_file, observed, windows, owner, inodes, payer_uid, payer_gid, account, "
    "borrowed_bytes, borrowed_inodes FROM replica";
constexpr std::string_view kSelectVouchers =
    "SELECT principal FROM voucher WHERE origin = ?1 AND path = ?2 AND generation = ?3";
constexpr std::string_view kPutReplica =
    "INSERT INTO replica (origin, path, generation, tier, complete, boot, last_used, charged, bytes, files, entries, "
    "opaque, blind, outward_links, blocks, allocated, is_file, observed, windows, owner, inodes, payer_uid, payer_gid, "
    "account, borrowed_bytes, borrowed_inodes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, "
    "?15, ?16, ?17, ?18, ?19, ?20, ?21, "
    "?22, ?23, ?24, ?25, ?26) "
    "ON CONFLICT (origin, path, generation) DO UPDATE SET tier = ?4, complete = ?5, boot = ?6, last_used = ?7, "
    "charged = ?8, observed = ?18, owner = ?20, inodes = ?21, payer_uid = ?22, payer_gid = ?23, account = ?24, "
    "borrowed_bytes = ?25, borrowed_inodes = ?26";
constexpr std::string_view kVouch = "INSERT OR IGNORE INTO voucher VALUES (?1, ?2, ?3, ?4)";
constexpr std::string_view kTouch =
    "UPDATE replica SET last_used = ?4 WHERE origin = ?1 AND path = ?2 AND generation = ?3";
constexpr std::string_view kDropReplica = "DELETE FROM replica WHERE origin = ?1 AND path = ?2 AND generation = ?3";
constexpr std::string_view kSelectJobs =
    "SELECT job_id, cluster, restarts, submitted, uid, gid, groups, reason, waited, namespace, cache_limit, on_change, "
    "account, io_bytes, io_operations, divided FROM job";
constexpr std::string_view kSelectJobDatasets =
    "SELECT origin, path, generation, mounted, reason, partial, read_write FROM job_dataset WHERE job_id = ?1 ORDER BY "
    "position";
constexpr std::string_view kDropJob = "DELETE FROM job WHERE job_id = ?1";
constexpr std::string_view kPutJob =
    "INSERT INTO job VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
constexpr std::string_view kPutJobDataset = "INSERT INTO job_dataset VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
constexpr std::string_view kSelectPolicies = "SELECT origin, path, text FROM policy";
constexpr std::string_view kPutPolicy = "INSERT OR REPLACE INTO policy VALUES (?1, ?2, ?3)";
constexpr std::string_view kDropPolicy = "DELETE FROM policy WHERE origin = ?1 AND path = ?2";
constexpr std::string_view kSelectPins = "SELECT origin, path FROM pin";
constexpr std::string_view kPin = "INSERT OR IGNORE INTO pin VALUES (?1, ?2)";
constexpr std::string_view kUnpin = "DELETE FROM pin WHERE origin = ?1 AND path = ?2";

using Blob = Statement::Blob;

std::optional<std::int64_t> whole(double rate) {
  return is_unlimited(rate) ? std::nullopt : std::optional(static_cast<std::int64_t>(rate));
}

std::string join(const std::vector<std::uint32_t>& groups) {
  std::string out;
  for (const auto group : groups) out += (out.empty() ? "" : ",") + std::to_string(group);
  return out;
}

std::vector<std::uint32_t> split(std::string_view text) {
  std::vector<std::uint32_t> groups;
  std::uint32_t value = 0;
  bool any = false;
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      value = value * 10 + static_cast<std::uint32_t>(c - '0');
      any = true;
    } else if (std::exchange(any, false)) {
      groups.push_back(std::exchange(value, 0));
    }
  }
  if (any) groups.push_back(value);
  return groups;
}

/// Paths hold no NUL, so each ends with one.
std::string join(const std::vector<std::string>& paths) {
  std::string out;
  for (const auto& path : paths) (out += path) += '\0';
  return out;
}

std::vector<std::string> split_paths(std::string_view text) {
  std::vector<std::string> paths;
  for (auto end = text.find('\0'); end != std::string_view::npos; end = text.find('\0')) {
    paths.emplace_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return paths;
}

/// "NODE ADDRESS", each followed by a newline.
std::string text_of(const std::vector<NodeAddress>& nodes) {
  std::string out;
  for (const auto& [node, address] : nodes) out += node + " " + address + "\n";
  return out;
}

std::vector<NodeAddress> nodes_of(std::string_view text) {
  std::vector<NodeAddress> nodes;
  for (auto end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const auto line = text.substr(0, end), node = line.substr(0, line.find(' '));
    nodes.push_back({std::string(node), std::string(line.substr(std::min(line.size(), node.size() + 1)))});
    text.remove_prefix(end + 1);
  }
  return nodes;
}

WallTime wall(std::int64_t nanoseconds) {
  return WallTime(std::chrono::nanoseconds(nanoseconds));
}
std::int64_t count(WallTime time) {
  return time.time_since_epoch().count();
}

ReplicaRow read_replica(const Statement& s) {
  ReplicaRow row;
  row.dataset = {std::string(s.blob(0)), std::string(s.blob(1))};
  row.generation.id = GenerationId::of(s.blob(2));
  row.tier = s.text(3);
  row.complete = s.int64(4) != 0;
  row.boot = s.text(5);
  row.last_used = wall(s.int64(6));
  row.charged = s.uint64(7);
  row.generation.bytes = Bytes{s.uint64(8)};
  row.generation.files = s.uint64(9);
  row.generation.entries = s.uint64(10);
  row.generation.opaque = s.uint64(11);
  row.blind = s.uint64(12);
  row.generation.outward_links = s.uint64(13);
  row.blocks = s.uint64(14);
  row.allocated = s.uint64(15);
  row.is_file = s.int64(16) != 0;
  row.generation.observed = wall(s.int64(17));
  row.windows = split_paths(s.blob(18));
  row.generation.owner = static_cast<std::uint32_t>(s.int64(19));
  row.inodes = s.uint64(20);
  if (!s.is_null(21))
    row.payer = Payer{static_cast<std::uint32_t>(s.int64(21)), static_cast<std::uint32_t>(s.int64(22)),
                      std::string(s.text(23))};
  row.borrowed_bytes = s.uint64(24);
  row.borrowed_inodes = s.uint64(25);
  return row;
}

}  // namespace

Result<std::unique_ptr<NodeManifest>> NodeManifest::open(const std::filesystem::path& file) {
  ATLAS_ASSIGN(auto db, SqliteDb::open(file));
  ATLAS_TRY(db.migrate(kMigrations, "node manifest"));
  return std::unique_ptr<NodeManifest>(new NodeManifest(std::move(db)));
}

Status NodeManifest::in_transaction(const std::function<Status()>& work) {
  ATLAS_ASSIGN(auto transaction, Transaction::begin(db_));
  ATLAS_TRY(work());
  return transaction.commit();
}

Result<std::vector<ReplicaRow>> NodeManifest::replicas() {
  const std::lock_guard lock(mutex_);
  std::vector<ReplicaRow> rows;
  ATLAS_ASSIGN(auto select, db_.prepare(kSelectReplicas));
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) break;
    rows.push_back(read_replica(select));
  }
  ATLAS_ASSIGN(auto vouchers, db_.prepare(kSelectVouchers));
  for (auto& row : rows) {
    const std::string generation = row.generation.id.bytes();
    vouchers.bind_all(Blob{row.dataset.origin}, Blob{row.dataset.path}, Blob{generation});
    for (;;) {
      ATLAS_ASSIGN(const bool more, vouchers.step());
      if (!more) break;
      row.vouchers.emplace_back(vouchers.text(0));
    }
  }
  return rows;
}

Status NodeManifest::put_replica(const ReplicaRow& row) {
  const std::lock_guard lock(mutex_);
  return in_transaction([&]() -> Status {
    const std::string generation = row.generation.id.bytes();
    ATLAS_ASSIGN(auto put, db_.prepare(kPutReplica));
    const auto& g = row.generation;
    const std::string windows = join(row.windows);
    put.bind_all(Blob{row.dataset.origin}, Blob{row.dataset.path}, Blob{generation}, row.tier, row.complete ? 1 : 0,
                 row.boot, count(row.last_used), row.charged, g.bytes.count, g.files, g.entries, g.opaque, row.blind,
                 g.outward_links, row.blocks, row.allocated, row.is_file ? 1 : 0, count(g.observed), Blob{windows},
                 g.owner.value_or(0), row.inodes, row.payer ? std::optional(row.payer->uid) : std::nullopt,
                 row.payer ? row.payer->gid : 0, row.payer ? row.payer->account : "", row.borrowed_bytes,
                 row.borrowed_inodes);
    ATLAS_TRY(put.run());
    ATLAS_ASSIGN(auto vouch, db_.prepare(kVouch));
    for (const auto& principal : row.vouchers) {
      vouch.bind_all(Blob{row.dataset.origin}, Blob{row.dataset.path}, Blob{generation}, principal);
      ATLAS_TRY(vouch.run());
    }
    return {};
  });
}

Status NodeManifest::touch_replica(const DatasetId& dataset, const GenerationId& generation, WallTime last_used) {
  const std::lock_guard lock(mutex_);
  const std::string id = generation.bytes();
  ATLAS_ASSIGN(auto touch, db_.prepare(kTouch));
  touch.bind_all(Blob{dataset.origin}, Blob{dataset.path}, Blob{id}, count(last_used));
  return touch.run();
}

Status NodeManifest::vouch(const DatasetId& dataset, const GenerationId& generation, const std::string& principal) {
  const std::lock_guard lock(mutex_);
  const std::string id = generation.bytes();
  ATLAS_ASSIGN(auto put, db_.prepare(kVouch));
  put.bind_all(Blob{dataset.origin}, Blob{dataset.path}, Blob{id}, principal);
  return put.run();
}

Status NodeManifest::drop_replica(const DatasetId& dataset, const GenerationId& generation) {
  const std::lock_guard lock(mutex_);
  const std::string id = generation.bytes();
  ATLAS_ASSIGN(auto drop, db_.prepare(kDropReplica));
  drop.bind_all(Blob{dataset.origin}, Blob{dataset.path}, Blob{id});
  return drop.run();
}

Result<std::vector<NodeJobRow>> NodeManifest::jobs() {
  const std::lock_guard lock(mutex_);
  std::vector<NodeJobRow> rows;
  ATLAS_ASSIGN(auto select, db_.prepare(kSelectJobs));
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) break;
    NodeJobRow row;
    row.job = {std::string(select.text(1)), static_cast<std::uint32_t>(select.int64(0)),
               static_cast<std::uint32_t>(select.int64(2)),
               std::chrono::sys_seconds(std::chrono::seconds(select.int64(3)))};
    row.as = {static_cast<std::uint32_t>(select.int64(4)), static_cast<std::uint32_t>(select.int64(5)),
              split(select.text(6))};
    row.reason = select.text(7);
    row.waited = std::chrono::milliseconds(select.int64(8));
    row.name_space = select.blob(9);
    row.cache_limit = Bytes{select.uint64(10)};
    const auto on_change = select.int64(11);
    if (on_change >= 0 && on_change <= static_cast<std::int64_t>(OnChange::fail))
      row.on_change = static_cast<OnChange>(on_change);
    row.account = select.text(12);
    if (!select.is_null(13)) row.io_limit.bytes = static_cast<double>(select.int64(13));
    if (!select.is_null(14)) row.io_limit.operations = static_cast<double>(select.int64(14));
    row.divided = nodes_of(select.text(15));
    rows.push_back(std::move(row));
  }
  ATLAS_ASSIGN(auto datasets, db_.prepare(kSelectJobDatasets));
  for (auto& row : rows) {
    datasets.bind_all(row.job.job_id);
    for (;;) {
      ATLAS_ASSIGN(const bool more, datasets.step());
      if (!more) break;
      row.datasets.push_back({{std::string(datasets.blob(0)), std::string(datasets.blob(1))},
                              GenerationId::of(datasets.blob(2)),
                              datasets.int64(3) != 0,
                              std::string(datasets.text(4)),
                              datasets.int64(5) != 0,
                              datasets.int64(6) != 0});
    }
  }
  return rows;
}

Status NodeManifest::put_job(const NodeJobRow& row) {
  const std::lock_guard lock(mutex_);
  return in_transaction([&]() -> Status {
    ATLAS_ASSIGN(auto drop, db_.prepare(kDropJob));
    drop.bind_all(row.job.job_id);
    ATLAS_TRY(drop.run());
    ATLAS_ASSIGN(auto put, db_.prepare(kPutJob));
    put.bind_all(row.job.job_id, row.job.cluster, row.job.restarts, row.job.submitted.time_since_epoch().count(),
                 row.as.uid, row.as.gid, join(row.as.groups), row.reason, row.waited.count(), Blob{row.name_space},
                 row.cache_limit.count, static_cast<int>(row.on_change), row.account, whole(row.io_limit.bytes),
                 whole(row.io_limit.operations), text_of(row.divided));
    ATLAS_TRY(put.run());
    ATLAS_ASSIGN(auto put_dataset, db_.prepare(kPutJobDataset));
    int position = 0;
    for (const auto& d : row.datasets) {
      const std::string generation = d.generation.empty() ? "" : d.generation.bytes();
      put_dataset.bind_all(row.job.job_id, position++, Blob{d.dataset.origin}, Blob{d.dataset.path}, Blob{generation},
                           d.mounted ? 1 : 0, d.reason, d.partial ? 1 : 0, d.read_write ? 1 : 0);
      ATLAS_TRY(put_dataset.run());
    }
    return {};
  });
}

Status NodeManifest::drop_job(std::uint32_t job_id) {
  const std::lock_guard lock(mutex_);
  ATLAS_ASSIGN(auto drop, db_.prepare(kDropJob));
  drop.bind_all(job_id);
  return drop.run();
}

Result<std::map<DatasetId, DatasetPolicy>> NodeManifest::policies() {
  const std::lock_guard lock(mutex_);
  std::map<DatasetId, DatasetPolicy> policies;
  ATLAS_ASSIGN(auto select, db_.prepare(kSelectPolicies));
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) return policies;
    if (auto policy = decode_policy(select.text(2)))
      policies[{std::string(select.blob(0)), std::string(select.blob(1))}] = std::move(*policy);
  }
}

Status NodeManifest::put_policy(const DatasetId& dataset, const DatasetPolicy& policy) {
  const std::lock_guard lock(mutex_);
  const std::string text = encode(policy);
  ATLAS_ASSIGN(auto put, db_.prepare(text.empty() ? kDropPolicy : kPutPolicy));
  if (text.empty()) {
    put.bind_all(Blob{dataset.origin}, Blob{dataset.path});
  } else {
    put.bind_all(Blob{dataset.origin}, Blob{dataset.path}, text);
  }
  return put.run();
}

Result<std::vector<DatasetId>> NodeManifest::pins() {
  const std::lock_guard lock(mutex_);
  std::vector<DatasetId> pins;
  ATLAS_ASSIGN(auto select, db_.prepare(kSelectPins));
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) return pins;
    pins.push_back({std::string(select.blob(0)), std::string(select.blob(1))});
  }
}

Status NodeManifest::set_pin(const DatasetId& dataset, bool pinned) {
  const std::lock_guard lock(mutex_);
  ATLAS_ASSIGN(auto change, db_.prepare(pinned ? kPin : kUnpin));
  change.bind_all(Blob{dataset.origin}, Blob{dataset.path});
  return change.run();
}

}  // namespace atlas
