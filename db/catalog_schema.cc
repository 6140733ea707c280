#include "db/catalog_schema.h"

namespace atlas {
namespace {

// Times are nanoseconds since the epoch unless the column's name says otherwise; paths and digests are blobs.
constexpr std::string_view kVersion1 = R"sql(
CREATE TABLE origins (
  name TEXT PRIMARY KEY,
  root TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE datasets (
  id INTEGER PRIMARY KEY,
  origin TEXT NOT NULL,
  path BLOB NOT NULL,
  UNIQUE (origin, path)
) STRICT;

CREATE TABLE names (
  name TEXT PRIMARY KEY,
  dataset INTEGER NOT NULL REFERENCES datasets (id),
  owner TEXT NOT NULL,
  created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE readers (
  dataset INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
  uid INTEGER NOT NULL,
  PRIMARY KEY (dataset, uid)
) STRICT, WITHOUT ROWID;

CREATE TABLE generations (
  dataset INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
  digest BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  files INTEGER NOT NULL,
  entries INTEGER NOT NULL,
  opaque INTEGER NOT NULL,
  outward_links INTEGER NOT NULL,
  observed INTEGER NOT NULL,
  PRIMARY KEY (dataset, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE replicas (
  node TEXT NOT NULL,
  dataset INTEGER NOT NULL,
  digest BLOB NOT NULL,
  state INTEGER NOT NULL,
  bytes_resident INTEGER NOT NULL,
  files_resident INTEGER NOT NULL,
  tier TEXT NOT NULL,
  last_used INTEGER NOT NULL,
  PRIMARY KEY (node, dataset, digest),
  FOREIGN KEY (dataset, digest) REFERENCES generations (dataset, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
  job_id INTEGER NOT NULL,
  restarts INTEGER NOT NULL,
  submitted_s INTEGER NOT NULL,
  cluster TEXT NOT NULL,
  uid INTEGER NOT NULL,
  gid INTEGER NOT NULL,
  user TEXT NOT NULL,
  name TEXT NOT NULL,
  request TEXT NOT NULL,
  phase TEXT NOT NULL,
  reason TEXT NOT NULL,
  nodes TEXT NOT NULL,
  wrote_req_nodes TEXT,
  wrote_begin_s INTEGER,
  deadline_s INTEGER NOT NULL,
  first_seen INTEGER NOT NULL,
  waited_ms INTEGER NOT NULL,
  is_array INTEGER NOT NULL,
  cold INTEGER NOT NULL,
  generations BLOB NOT NULL,
  PRIMARY KEY (job_id, restarts, submitted_s)
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_submit ON jobs (submitted_s);
CREATE INDEX jobs_open ON jobs (phase) WHERE phase <> 'ended';

CREATE TABLE receipts (
  job_id INTEGER NOT NULL,
  restarts INTEGER NOT NULL,
  submitted_s INTEGER NOT NULL,
  nodes TEXT NOT NULL,
  resident INTEGER NOT NULL,
  origin INTEGER NOT NULL,
  waited_ms INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  started_s INTEGER NOT NULL,
  ended_s INTEGER NOT NULL,
  PRIMARY KEY (job_id, restarts, submitted_s),
  FOREIGN KEY (job_id, restarts, submitted_s) REFERENCES jobs (job_id, restarts, submitted_s) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
  job_id INTEGER NOT NULL,
  node TEXT NOT NULL,
  hard INTEGER NOT NULL,
  acked INTEGER NOT NULL,
  releasing INTEGER NOT NULL,
  PRIMARY KEY (job_id, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE pins (
  dataset INTEGER PRIMARY KEY REFERENCES datasets (id) ON DELETE CASCADE,
  pinned_by TEXT NOT NULL,
  since INTEGER NOT NULL
) STRICT;

CREATE TABLE drained_nodes (
  node TEXT PRIMARY KEY,
  drained_by TEXT NOT NULL,
  since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE limits (
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  bytes_per_second INTEGER,
  operations_per_second INTEGER,
  set_by TEXT NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;
)sql";

/// Bytes read from the nodes, of jobs for which they were counted.
constexpr std::string_view kVersion2 = "ALTER TABLE receipts ADD COLUMN hit INTEGER;";
/// Bytes read from other nodes' caches.
constexpr std::string_view kVersion3 = "ALTER TABLE receipts ADD COLUMN peers INTEGER NOT NULL DEFAULT 0;";

/// What was settled about datasets; policy: common/dataset_policy.h.
constexpr std::string_view kVersion4 = R"sql(
CREATE TABLE settings (
  dataset INTEGER PRIMARY KEY REFERENCES datasets (id) ON DELETE CASCADE,
  policy TEXT NOT NULL,
  uid INTEGER NOT NULL,
  gid INTEGER NOT NULL,
  set_by TEXT NOT NULL,
  since INTEGER NOT NULL
) STRICT;

CREATE TABLE shares (
  dataset INTEGER NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
  gid INTEGER NOT NULL,
  group_name TEXT NOT NULL,
  owner INTEGER NOT NULL,
  owner_gid INTEGER NOT NULL,
  owner_name TEXT NOT NULL,
  granted_by TEXT NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (dataset, gid)
) STRICT, WITHOUT ROWID;

CREATE TABLE share_log (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  dataset INTEGER NOT NULL,
  group_name TEXT NOT NULL,
  owner_name TEXT NOT NULL,
  done_by TEXT NOT NULL,
  granted INTEGER NOT NULL
) STRICT;
)sql";

/// For whom replicas were brought to nodes, and how much cache he may take; id: uid or gid.
constexpr std::string_view kVersion5 = R"sql(
ALTER TABLE replicas ADD COLUMN charged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replicas ADD COLUMN payer_uid INTEGER;
ALTER TABLE replicas ADD COLUMN payer_gid INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replicas ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE limits ADD COLUMN id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE limits ADD COLUMN cache INTEGER;
)sql";

/// How limits of reading are shared, and what they cost jobs.
constexpr std::string_view kVersion6 = R"sql(
ALTER TABLE limits ADD COLUMN burst_ms INTEGER;
ALTER TABLE limits ADD COLUMN weight INTEGER;
ALTER TABLE receipts ADD COLUMN throttled_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE receipts ADD COLUMN throttled_bytes INTEGER NOT NULL DEFAULT 0;
)sql";

/// What placement weighed for a job, and how fast data has come from origins and ("") from other nodes.
constexpr std::string_view kVersion7 = R"sql(
CREATE TABLE plans (
  job_id INTEGER NOT NULL,
  restarts INTEGER NOT NULL,
  submitted_s INTEGER NOT NULL,
  position INTEGER NOT NULL,
  made_s INTEGER NOT NULL,
  what TEXT NOT NULL,
  nodes TEXT NOT NULL,
  resident INTEGER NOT NULL,
  total INTEGER NOT NULL,
  start_ms INTEGER NOT NULL,
  stall_ms INTEGER NOT NULL,
  PRIMARY KEY (job_id, restarts, submitted_s, position),
  FOREIGN KEY (job_id, restarts, submitted_s) REFERENCES jobs (job_id, restarts, submitted_s) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE rates (
  source TEXT PRIMARY KEY,
  one INTEGER NOT NULL,
  every INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
)sql";

/// What jobs read past Atlas.
constexpr std::string_view kVersion8 = R"sql(
ALTER TABLE receipts ADD COLUMN bypass INTEGER NOT NULL DEFAULT 0;
)sql";

/// Under which of Slurm's accounts users' jobs have been seen, and when last.
constexpr std::string_view kVersion9 = R"sql(
CREATE TABLE user_accounts (
  uid INTEGER NOT NULL,
  account TEXT NOT NULL,
  seen INTEGER NOT NULL,
  PRIMARY KEY (uid, account)
) STRICT, WITHOUT ROWID;
)sql";

/// What would have been done with jobs that were only looked at, in sums by Slurm account.
constexpr std::string_view kVersion10 = R"sql(
CREATE TABLE observed (
  account TEXT PRIMARY KEY,
  since_s INTEGER NOT NULL,
  jobs INTEGER NOT NULL,
  same_nodes INTEGER NOT NULL,
  waited_ms INTEGER NOT NULL,
  estimated INTEGER NOT NULL,
  start_ms INTEGER NOT NULL,
  stall_ms INTEGER NOT NULL,
  total INTEGER NOT NULL,
  held INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
)sql";

constexpr Migration kMigrations[] = {{1, kVersion1}, {2, kVersion2}, {3, kVersion3}, {4, kVersion4}, {5, kVersion5},
                                     {6, kVersion6}, {7, kVersion7}, {8, kVersion8}, {9, kVersion9}, {10, kVersion10}};

}  // namespace

std::span<const Migration> catalog_migrations() {
  return kMigrations;
}

}  // namespace atlas
