#include "db/catalog.h"

#include <algorithm>
#include <array>

#include "db/catalog_schema.h"

namespace atlas {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::sys_seconds;

constexpr std::string_view kPutOrigin =
    "INSERT INTO origins (name, root) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET root = ?2";
constexpr std::string_view kFindDataset = "SELECT id FROM datasets WHERE origin = ?1 AND path = ?2";
constexpr std::string_view kPutDataset = "INSERT INTO datasets (origin, path) VALUES (?1, ?2)";
constexpr std::string_view kCreateName = "INSERT INTO names (name, dataset, owner, created) VALUES (?1, ?2, ?3, ?4)";
constexpr std::string_view kDeleteName = "DELETE FROM names WHERE name = ?1";
constexpr std::string_view kNames =
    "SELECT n.name, d.origin, d.path, n.owner FROM names n JOIN datasets d ON d.id = n.dataset ORDER BY n.name";
constexpr std::string_view kPutSettings = "INSERT OR REPLACE INTO settings VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
constexpr std::string_view kSettings =
    "SELECT d.origin, d.path, s.policy, s.uid, s.gid, s.set_by FROM settings s JOIN datasets d ON d.id = s.dataset";
constexpr std::string_view kPutShare = "INSERT OR REPLACE INTO shares VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
constexpr std::string_view kDropShare = "DELETE FROM shares WHERE dataset = ?1 AND gid = ?2";
constexpr std::string_view kShares =
    "SELECT d.origin, d.path, s.gid, s.group_name, s.owner, s.owner_gid, s.owner_name, s.granted_by, s.since "
    "FROM shares s JOIN datasets d ON d.id = s.dataset ORDER BY s.group_name";
constexpr std::string_view kLogShare =
    "INSERT INTO share_log (at, dataset, group_name, owner_name, done_by, granted) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
constexpr std::string_view kShareLog =
    "SELECT done_by, granted, group_name, owner_name FROM share_log WHERE dataset = ?1 ORDER BY id";
constexpr std::string_view kPutGeneration =
    "INSERT INTO generations (dataset, digest, bytes, files, entries, opaque, outward_links, observed) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
    "ON CONFLICT (dataset, digest) DO UPDATE SET observed = max(observed, ?8)";
constexpr std::string_view kGenerations =
    "SELECT d.origin, d.path, g.digest, g.bytes, g.files, g.entries, g.opaque, g.outward_links, g.observed "
    "FROM generations g JOIN datasets d ON d.id = g.dataset ORDER BY g.observed";
constexpr std::string_view kPutReplica =
    "INSERT OR REPLACE INTO replicas "
    "(node, dataset, digest, state, bytes_resident, files_resident, tier, last_used, charged, payer_uid, payer_gid, "
    "account) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
constexpr std::string_view kDropReplica = "DELETE FROM replicas WHERE node = ?1 AND dataset = ?2 AND digest = ?3";
constexpr std::string_view kDropReplicas = "DELETE FROM replicas WHERE node = ?1";
constexpr std::string_view kReplicas =
    "SELECT r.node, d.origin, d.path, r.digest, g.bytes, g.files, g.entries, g.opaque, g.outward_links, g.observed, "
    "r.state, r.bytes_resident, r.files_resident, r.tier, r.last_used, r.charged, r.payer_uid, r.payer_gid, r.account "
    "FROM replicas r JOIN datasets d ON d.id = r.dataset "
    "JOIN generations g ON g.dataset = r.dataset AND g.digest = r.digest";
constexpr std::string_view kNoteReader = "INSERT OR IGNORE INTO readers (dataset, uid) VALUES (?1, ?2)";
constexpr std::string_view kReaders =
    "SELECT d.origin, d.path, r.uid FROM readers r JOIN datasets d ON d.id = r.dataset";
constexpr std::string_view kPutJob =
    "INSERT INTO jobs (job_id, restarts, submitted_s, cluster, uid, gid, user, name, request, phase, reason, nodes, "
    "wrote_req_nodes, wrote_begin_s, deadline_s, first_seen, waited_ms, is_array, cold, generations) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20) "
    "ON CONFLICT (job_id, restarts, submitted_s) DO UPDATE SET name = ?8, request = ?9, phase = ?10, reason = ?11, "
    "nodes = ?12, wrote_req_nodes = ?13, wrote_begin_s = ?14, deadline_s = ?15, waited_ms = ?17, is_array = ?18, "
    "cold = ?19, generations = ?20";
#define ATLAS_JOB_COLUMNS                                                                                        \
  "SELECT j.job_id, j.restarts, j.submitted_s, j.cluster, j.uid, j.gid, j.user, j.name, j.request, j.phase, "    \
  "j.reason, j.nodes, j.wrote_req_nodes, j.wrote_begin_s, j.deadline_s, j.first_seen, j.waited_ms, j.is_array, " \
  "j.cold, j.generations, r.nodes, r.resident, r.origin, r.waited_ms, r.outcome, r.reason, r.started_s, "        \
  "r.ended_s, r.hit, r.peers, r.throttled_ms, r.throttled_bytes, r.bypass FROM jobs j LEFT JOIN receipts r ON "  \
  "r.job_id = "                                                                                                  \
  "j.job_id AND r.restarts = j.restarts AND "                                                                    \
  "r.submitted_s = j.submitted_s "
constexpr std::string_view kOpenJobs = ATLAS_JOB_COLUMNS "WHERE j.phase <> 'ended' ORDER BY j.job_id";
constexpr std::string_view kEndedJobs =
    ATLAS_JOB_COLUMNS "WHERE j.phase = 'ended' ORDER BY j.submitted_s DESC, j.job_id DESC, j.restarts DESC LIMIT ?1";
constexpr std::string_view kNewestAttempt =
    ATLAS_JOB_COLUMNS "WHERE j.job_id = ?1 ORDER BY j.submitted_s DESC, j.restarts DESC LIMIT 1";
#undef ATLAS_JOB_COLUMNS
constexpr std::string_view kPruneJobs =
    "DELETE FROM jobs WHERE phase = 'ended' AND (job_id, restarts, submitted_s) NOT IN (SELECT job_id, restarts, "
    "submitted_s FROM jobs WHERE phase = 'ended' ORDER BY submitted_s DESC, job_id DESC LIMIT ?1)";
constexpr std::string_view kPutReceipt =
    "INSERT OR REPLACE INTO receipts (job_id, restarts, submitted_s, nodes, resident, origin, waited_ms, outcome, "
    "reason, started_s, ended_s, hit, peers, throttled_ms, throttled_bytes, bypass) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
constexpr std::string_view kPutLease =
    "INSERT OR REPLACE INTO leases (job_id, node, hard, acked, releasing) VALUES (?1, ?2, ?3, ?4, ?5)";
constexpr std::string_view kDropLease = "DELETE FROM leases WHERE job_id = ?1 AND node = ?2";
constexpr std::string_view kLeases = "SELECT job_id, node, hard, acked, releasing FROM leases";
constexpr std::string_view kPutPin = "INSERT OR IGNORE INTO pins (dataset, pinned_by, since) VALUES (?1, ?2, ?3)";
constexpr std::string_view kDropPin = "DELETE FROM pins WHERE dataset = ?1";
constexpr std::string_view kPins = "SELECT d.origin, d.path FROM pins p JOIN datasets d ON d.id = p.dataset";
constexpr std::string_view kPutDrain =
    "INSERT OR IGNORE INTO drained_nodes (node, drained_by, since) VALUES (?1, ?2, ?3)";
constexpr std::string_view kDropDrain = "DELETE FROM drained_nodes WHERE node = ?1";
constexpr std::string_view kDrains = "SELECT node FROM drained_nodes ORDER BY node";

constexpr std::array<std::string_view, 7> kPhaseNames = {"queued", "surveying", "waiting", "warming",
                                                         "ready",  "running",   "ended"};

JobPhase phase_of(std::string_view text) {
  const auto* at = std::find(kPhaseNames.begin(), kPhaseNames.end(), text);
  return at == kPhaseNames.end() ? JobPhase::queued : static_cast<JobPhase>(at - kPhaseNames.begin());
}

// Node names hold no comma (Slurm's own rule), so a plain list needs no quoting.
std::string join(const std::vector<std::string>& items) {
  std::string out;
  for (const auto& item : items) (out += out.empty() ? "" : ",") += item;
  return out;
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const auto comma = text.find(',');
    out.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  return out;
}

std::int64_t count(WallTime time) {
  return time.time_since_epoch().count();
}
std::int64_t count(sys_seconds time) {
  return time.time_since_epoch().count();
}
WallTime wall(std::int64_t nanoseconds) {
  return WallTime(std::chrono::nanoseconds(nanoseconds));
}

std::string join_digests(const std::vector<GenerationId>& ids) {
  std::string out;
  for (const auto& id : ids) out += id.bytes();
  return out;
}

std::vector<GenerationId> split_digests(std::string_view bytes) {
  std::vector<GenerationId> out;
  for (; bytes.size() >= 16; bytes.remove_prefix(16)) out.push_back(GenerationId::of(bytes.substr(0, 16)));
  return out;
}

/// Seven columns from `at`: digest, bytes, files, entries, opaque, outward_links, observed.
Generation generation_at(const Statement& row, int at) {
  return {.id = GenerationId::of(row.blob(at)),
          .bytes = Bytes{row.uint64(at + 1)},
          .files = row.uint64(at + 2),
          .entries = row.uint64(at + 3),
          .opaque = row.uint64(at + 4),
          .outward_links = row.uint64(at + 5),
          .observed = wall(row.int64(at + 6))};
}

DatasetId dataset_at(const Statement& row, int at) {
  return {std::string(row.text(at)), std::string(row.blob(at + 1))};
}

sys_seconds seconds_at(const Statement& row, int at) {
  return sys_seconds(seconds(row.int64(at)));
}

JobRow job_at(const Statement& row) {
  JobRow job;
  job.key = {std::string(row.text(3)), static_cast<std::uint32_t>(row.int64(0)),
             static_cast<std::uint32_t>(row.int64(1)), seconds_at(row, 2)};
  job.uid = static_cast<std::uint32_t>(row.int64(4));
  job.gid = static_cast<std::uint32_t>(row.int64(5));
  job.user = row.text(6);
  job.name = row.text(7);
  job.request = row.text(8);
  job.phase = phase_of(row.text(9));
  job.reason = row.text(10);
  job.nodes = split(row.text(11));
  if (!row.is_null(12)) job.wrote_req_nodes = row.text(12);
  if (!row.is_null(13)) job.wrote_begin = seconds_at(row, 13);
  job.deadline = seconds_at(row, 14);
  job.first_seen = wall(row.int64(15));
  job.waited = milliseconds(row.int64(16));
  job.array = row.int64(17) != 0;
  job.cold = row.int64(18) != 0;
  job.generations = split_digests(row.blob(19));
  return job;
}

std::optional<Receipt> receipt_at(const Statement& row) {
  if (row.is_null(20)) return std::nullopt;
  return Receipt{.nodes = split(row.text(20)),
                 .resident = Bytes{row.uint64(21)},
                 .origin = Bytes{row.uint64(22)},
                 .waited = milliseconds(row.int64(23)),
                 .outcome = std::string(row.text(24)),
                 .reason = std::string(row.text(25)),
                 .started = seconds_at(row, 26),
                 .ended = seconds_at(row, 27),
                 .hit = row.is_null(28) ? std::nullopt : std::optional(Bytes{row.uint64(28)}),
                 .peers = Bytes{row.uint64(29)},
                 .throttled = std::chrono::milliseconds(row.int64(30)),
                 .throttled_bytes = Bytes{row.uint64(31)},
                 .bypass = Bytes{row.uint64(32)}};
}

}  // namespace

std::string_view name_of(JobPhase phase) {
  return kPhaseNames[static_cast<std::size_t>(phase)];
}

struct Catalog::Statements {
  std::map<std::string_view, Statement> by_text;
  /// Every statement above was prepared at open; asking for another one is a bug that the first test finds.
  Statement& operator[](std::string_view sql) { return by_text.at(sql); }
};

Catalog::Catalog(FileLock lock, SqliteDb db)
    : lock_(std::move(lock)), db_(std::move(db)), sql_(std::make_unique<Statements>()) {}

Catalog::~Catalog() = default;

Result<std::unique_ptr<Catalog>> Catalog::open(const std::filesystem::path& file,
                                               const std::vector<OriginConfig>& origins) {
  std::error_code ec;
  if (file.has_parent_path() && !std::filesystem::is_directory(file.parent_path(), ec))
    return fail(Code::not_found, "controller.database: the directory " + file.parent_path().string() +
                                     " does not exist: create it, owned by the account atlas-controller runs under");
  ATLAS_ASSIGN(auto lock, FileLock::take(file.string() + ".lock", "the catalogue " + file.string()));
  ATLAS_ASSIGN(auto db, SqliteDb::open(file));
  ATLAS_TRY(db.migrate(catalog_migrations(), "catalogue"));
  std::unique_ptr<Catalog> catalog(new Catalog(std::move(lock), std::move(db)));
  ATLAS_TRY(catalog->prepare_all());
  ATLAS_ASSIGN(catalog->schema_version_, catalog->db_.schema_version());
  for (const auto& origin : origins) ATLAS_TRY((*catalog->sql_)[kPutOrigin].bind_all(origin.name, origin.root).run());
  return catalog;
}

Status Catalog::prepare_all() {
  for (const auto sql : {kPutOrigin,     kFindDataset, kPutDataset, kCreateName,  kDeleteName,   kNames,
                         kPutGeneration, kGenerations, kPutReplica, kDropReplica, kDropReplicas, kReplicas,
                         kNoteReader,    kReaders,     kPutJob,     kOpenJobs,    kEndedJobs,    kNewestAttempt,
                         kPruneJobs,     kPutReceipt,  kPutLease,   kDropLease,   kLeases,       kPutPin,
                         kDropPin,       kPins,        kPutDrain,   kDropDrain,   kDrains,       kPutSettings,
                         kSettings,      kPutShare,    kDropShare,  kShares,      kLogShare,     kShareLog}) {
    ATLAS_ASSIGN(auto statement, db_.prepare(sql));
    sql_->by_text.emplace(sql, std::move(statement));
  }
  return {};
}

Result<std::int64_t> Catalog::dataset_row(const DatasetId& dataset) {
  auto& find = (*sql_)[kFindDataset].bind_all(dataset.origin, Statement::Blob{dataset.path});
  ATLAS_ASSIGN(const bool row, find.step());
  const std::int64_t id = row ? find.int64(0) : 0;
  find.reset();
  if (row) return id;
  ATLAS_TRY((*sql_)[kPutDataset].bind_all(dataset.origin, Statement::Blob{dataset.path}).run());
  return db_.last_insert_rowid();
}

Status Catalog::create_name(const DatasetName& name, WallTime now) {
  ATLAS_ASSIGN(const auto id, dataset_row(name.dataset));
  auto ok = (*sql_)[kCreateName].bind_all(name.name, id, name.owner, count(now)).run();
  if (!ok && ok.error().code == Code::already_exists)
    return fail(Code::already_exists,
                "the name '" + name.name + "' is taken: choose another, or delete it first (atlasctl dataset delete)");
  return ok;
}

Status Catalog::delete_name(std::string_view name) {
  ATLAS_TRY((*sql_)[kDeleteName].bind_all(name).run());
  if (db_.changes() == 0) return fail(Code::not_found, "there is no dataset named '" + std::string(name) + "'");
  return {};
}

Result<std::vector<DatasetName>> Catalog::names() {
  auto& rows = (*sql_)[kNames].bind_all();
  std::vector<DatasetName> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    out.push_back({std::string(rows.text(0)), dataset_at(rows, 1), std::string(rows.text(3))});
  }
}

Status Catalog::put_settings(const DatasetId& dataset, const DatasetSettings& settings, WallTime now) {
  ATLAS_ASSIGN(const auto id, dataset_row(dataset));
  return (*sql_)[kPutSettings]
      .bind_all(id, encode(settings.policy), settings.uid, settings.gid, settings.set_by, count(now))
      .run();
}

Result<std::map<DatasetId, DatasetSettings>> Catalog::settings() {
  auto& rows = (*sql_)[kSettings].bind_all();
  std::map<DatasetId, DatasetSettings> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    auto policy = decode_policy(rows.text(2));
    if (!policy) continue;
    out[dataset_at(rows, 0)] = {std::move(*policy), static_cast<std::uint32_t>(rows.int64(3)),
                                static_cast<std::uint32_t>(rows.int64(4)), std::string(rows.text(5))};
  }
}

Status Catalog::put_share(const DatasetId& dataset, const DatasetShare& share) {
  ATLAS_ASSIGN(auto transaction, Transaction::begin(db_));
  ATLAS_ASSIGN(const auto id, dataset_row(dataset));
  ATLAS_TRY((*sql_)[kPutShare]
                .bind_all(id, share.grant.group, share.group, share.grant.owner, share.grant.owner_group, share.owner,
                          share.by, count(share.since))
                .run());
  ATLAS_TRY((*sql_)[kLogShare].bind_all(count(share.since), id, share.group, share.owner, share.by, 1).run());
  return transaction.commit();
}

Status Catalog::drop_share(const DatasetId& dataset, const DatasetShare& share, std::string_view by, WallTime now) {
  ATLAS_ASSIGN(auto transaction, Transaction::begin(db_));
  ATLAS_ASSIGN(const auto id, dataset_row(dataset));
  ATLAS_TRY((*sql_)[kDropShare].bind_all(id, share.grant.group).run());
  ATLAS_TRY((*sql_)[kLogShare].bind_all(count(now), id, share.group, share.owner, by, 0).run());
  return transaction.commit();
}

Result<std::vector<std::pair<DatasetId, DatasetShare>>> Catalog::shares() {
  auto& rows = (*sql_)[kShares].bind_all();
  std::vector<std::pair<DatasetId, DatasetShare>> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    const auto number = [&](int column) { return static_cast<std::uint32_t>(rows.int64(column)); };
    out.push_back({dataset_at(rows, 0),
                   {{number(2), number(4), number(5)},
                    std::string(rows.text(3)),
                    std::string(rows.text(6)),
                    std::string(rows.text(7)),
                    wall(rows.int64(8))}});
  }
}

Result<std::vector<std::string>> Catalog::share_log(const DatasetId& dataset) {
  ATLAS_ASSIGN(const auto id, dataset_row(dataset));
  auto& rows = (*sql_)[kShareLog].bind_all(id);
  std::vector<std::string> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    const bool granted = rows.int64(1) != 0;
    out.push_back(std::string(rows.text(0)) + (granted ? " shared " : " unshared ") + std::string(rows.text(3)) +
                  (granted ? "'s replicas with " : "'s replicas from ") + std::string(rows.text(2)));
  }
}

Status Catalog::note_generation(const DatasetId& dataset, const Generation& g) {
  ATLAS_ASSIGN(const auto id, dataset_row(dataset));
  return (*sql_)[kPutGeneration]
      .bind_all(id, Statement::Blob{g.id.bytes()}, g.bytes.count, g.files, g.entries, g.opaque, g.outward_links,
                count(g.observed))
      .run();
}

Result<std::map<DatasetId, Generation>> Catalog::newest_generations() {
  auto& rows = (*sql_)[kGenerations].bind_all();
  std::map<DatasetId, Generation> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    out[dataset_at(rows, 0)] = generation_at(rows, 2);  // ordered by observation: the last one stays
  }
}

Status Catalog::put_replica_row(std::string_view node, const ReplicaInfo& replica) {
  ATLAS_ASSIGN(const auto id, dataset_row(replica.dataset));
  const auto digest = replica.generation.id.bytes();
  if (replica.state == ReplicaState::absent)
    return (*sql_)[kDropReplica].bind_all(node, id, Statement::Blob{digest}).run();
  ATLAS_TRY(note_generation(replica.dataset, replica.generation));
  const auto& payer = replica.payer;
  return (*sql_)[kPutReplica]
      .bind_all(node, id, Statement::Blob{digest}, static_cast<int>(replica.state), replica.bytes_resident.count,
                replica.files_resident, replica.tier, count(replica.last_used), replica.charged.count,
                payer ? std::optional(payer->uid) : std::nullopt, payer ? payer->gid : 0, payer ? payer->account : "")
      .run();
}

Status Catalog::replace_replicas(std::string_view node, const std::vector<ReplicaInfo>& replicas) {
  ATLAS_ASSIGN(auto transaction, Transaction::begin(db_));
  ATLAS_TRY((*sql_)[kDropReplicas].bind_all(node).run());
  for (const auto& replica : replicas) ATLAS_TRY(put_replica_row(node, replica));
  return transaction.commit();
}

Status Catalog::put_replica(std::string_view node, const ReplicaInfo& replica) {
  ATLAS_ASSIGN(auto transaction, Transaction::begin(db_));
  ATLAS_TRY(put_replica_row(node, replica));
  return transaction.commit();
}

Result<std::vector<std::pair<std::string, ReplicaInfo>>> Catalog::replicas() {
  auto& rows = (*sql_)[kReplicas].bind_all();
  std::vector<std::pair<std::string, ReplicaInfo>> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    ReplicaInfo replica;
    replica.dataset = dataset_at(rows, 1);
    replica.generation = generation_at(rows, 3);
    replica.state = rows.int64(10) == 2 ? ReplicaState::complete : ReplicaState::partial;
    replica.bytes_resident = Bytes{rows.uint64(11)};
    replica.files_resident = rows.uint64(12);
    replica.tier = rows.text(13);
    replica.last_used = wall(rows.int64(14));
    replica.charged = Bytes{rows.uint64(15)};
    if (!rows.is_null(16))
      replica.payer = Payer{static_cast<std::uint32_t>(rows.int64(16)), static_cast<std::uint32_t>(rows.int64(17)),
                            std::string(rows.text(18))};
    out.emplace_back(std::string(rows.text(0)), std::move(replica));
  }
}

Status Catalog::note_reader(const DatasetId& dataset, std::uint32_t uid) {
  ATLAS_ASSIGN(const auto id, dataset_row(dataset));
  return (*sql_)[kNoteReader].bind_all(id, uid).run();
}

Result<std::vector<std::pair<DatasetId, std::uint32_t>>> Catalog::readers() {
  auto& rows = (*sql_)[kReaders].bind_all();
  std::vector<std::pair<DatasetId, std::uint32_t>> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    out.emplace_back(dataset_at(rows, 0), static_cast<std::uint32_t>(rows.int64(2)));
  }
}

Status Catalog::put_job(const JobRow& job) {
  std::optional<std::int64_t> begin;
  if (job.wrote_begin) begin = count(*job.wrote_begin);
  return (*sql_)[kPutJob]
      .bind_all(job.key.job_id, job.key.restarts, count(job.key.submitted), job.key.cluster, job.uid, job.gid, job.user,
                job.name, job.request, name_of(job.phase), job.reason, join(job.nodes), job.wrote_req_nodes, begin,
                count(job.deadline), count(job.first_seen), job.waited.count(), job.array ? 1 : 0, job.cold ? 1 : 0,
                Statement::Blob{join_digests(job.generations)})
      .run();
}

Status Catalog::put_receipt(const JobKey& key, const Receipt& r) {
  return (*sql_)[kPutReceipt]
      .bind_all(key.job_id, key.restarts, count(key.submitted), join(r.nodes), r.resident.count, r.origin.count,
                r.waited.count(), r.outcome, r.reason, count(r.started), count(r.ended),
                r.hit ? std::optional(r.hit->count) : std::nullopt, r.peers.count, r.throttled.count(),
                r.throttled_bytes.count, r.bypass.count)
      .run();
}

Result<std::vector<Catalog::EndedJob>> Catalog::read_jobs(Statement& rows) {
  std::vector<EndedJob> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    out.push_back({job_at(rows), receipt_at(rows)});
  }
}

Result<std::vector<JobRow>> Catalog::open_jobs() {
  ATLAS_ASSIGN(auto all, read_jobs((*sql_)[kOpenJobs].bind_all()));
  std::vector<JobRow> out;
  for (auto& job : all) out.push_back(std::move(job.job));
  return out;
}

Result<std::vector<Catalog::EndedJob>> Catalog::ended_jobs(std::size_t limit) {
  return read_jobs((*sql_)[kEndedJobs].bind_all(limit));
}

Result<std::optional<Catalog::EndedJob>> Catalog::newest_attempt(std::uint32_t job_id) {
  ATLAS_ASSIGN(auto found, read_jobs((*sql_)[kNewestAttempt].bind_all(job_id)));
  if (found.empty()) return std::optional<EndedJob>();
  return std::optional<EndedJob>(std::move(found.front()));
}

Status Catalog::prune_jobs(std::size_t keep) {
  return (*sql_)[kPruneJobs].bind_all(keep).run();
}

Status Catalog::put_lease(const LeaseRow& lease) {
  return (*sql_)[kPutLease]
      .bind_all(lease.job_id, lease.node, lease.hard ? 1 : 0, lease.acked ? 1 : 0, lease.releasing ? 1 : 0)
      .run();
}

Status Catalog::drop_lease(std::uint32_t job_id, std::string_view node) {
  return (*sql_)[kDropLease].bind_all(job_id, node).run();
}

Result<std::vector<LeaseRow>> Catalog::leases() {
  auto& rows = (*sql_)[kLeases].bind_all();
  std::vector<LeaseRow> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    out.push_back({static_cast<std::uint32_t>(rows.int64(0)), std::string(rows.text(1)), rows.int64(2) != 0,
                   rows.int64(3) != 0, rows.int64(4) != 0});
  }
}

Status Catalog::set_pin(const DatasetId& dataset, bool pinned, std::string_view by, WallTime now) {
  ATLAS_ASSIGN(const auto id, dataset_row(dataset));
  return pinned ? (*sql_)[kPutPin].bind_all(id, by, count(now)).run() : (*sql_)[kDropPin].bind_all(id).run();
}

Result<std::vector<DatasetId>> Catalog::pins() {
  auto& rows = (*sql_)[kPins].bind_all();
  std::vector<DatasetId> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    out.push_back(dataset_at(rows, 0));
  }
}

Status Catalog::set_drained(std::string_view node, bool drained, std::string_view by, WallTime now) {
  return drained ? (*sql_)[kPutDrain].bind_all(node, by, count(now)).run() : (*sql_)[kDropDrain].bind_all(node).run();
}

Result<std::vector<std::string>> Catalog::drained() {
  auto& rows = (*sql_)[kDrains].bind_all();
  std::vector<std::string> out;
  while (true) {
    ATLAS_ASSIGN(const bool row, rows.step());
    if (!row) return out;
    out.emplace_back(rows.text(0));
  }
}

}  // namespace atlas
