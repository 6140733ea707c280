// What placement weighed for jobs, what it has learned of the storage, and what it would have done with jobs that were
// only looked at.
#include "db/catalog.h"

namespace atlas {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kDropPlan = "DELETE FROM plans WHERE job_id = ?1 AND restarts = ?2 AND submitted_s = ?3";
constexpr std::string_view kPutPlan =
    "INSERT INTO plans (job_id, restarts, submitted_s, position, made_s, what, nodes, resident, total, start_ms, "
    "stall_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
constexpr std::string_view kPlan =
    "SELECT made_s, what, nodes, resident, total, start_ms, stall_ms FROM plans WHERE job_id = ?1 AND restarts = ?2 "
    "AND "
    "submitted_s = ?3 ORDER BY position";
constexpr std::string_view kPutRate = "INSERT OR REPLACE INTO rates (source, one, every) VALUES (?1, ?2, ?3)";
constexpr std::string_view kRates = "SELECT source, one, every FROM rates";

constexpr std::string_view kAddObserved =
    "INSERT INTO observed (account, since_s, jobs, same_nodes, waited_ms, estimated, start_ms, stall_ms, total, held) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) "
    "ON CONFLICT (account) DO UPDATE SET jobs = jobs + ?3, same_nodes = same_nodes + ?4, waited_ms = waited_ms + ?5, "
    "estimated = estimated + ?6, start_ms = start_ms + ?7, stall_ms = stall_ms + ?8, total = total + ?9, "
    "held = held + ?10";
constexpr std::string_view kObserved =
    "SELECT account, since_s, jobs, same_nodes, waited_ms, estimated, start_ms, stall_ms, total, held FROM observed "
    "ORDER BY account";

}  // namespace

Status Catalog::put_plan(const JobKey& key, const PlanRows& plan) {
  ATLAS_ASSIGN(auto drop, db_.prepare(kDropPlan));
  ATLAS_TRY(drop.bind_all(key.job_id, key.restarts, key.submitted.time_since_epoch().count()).run());
  ATLAS_ASSIGN(auto put, db_.prepare(kPutPlan));
  std::int64_t position = 0;
  for (const auto& row : plan.rows)
    ATLAS_TRY(put.bind_all(key.job_id, key.restarts, key.submitted.time_since_epoch().count(), position++,
                           plan.made.time_since_epoch().count(), row.what, row.nodes, row.resident.count,
                           row.total.count, row.start.count(), row.stall.count())
                  .run());
  return {};
}

Result<PlanRows> Catalog::plan_of(const JobKey& key) {
  ATLAS_ASSIGN(auto select, db_.prepare(kPlan));
  select.bind_all(key.job_id, key.restarts, key.submitted.time_since_epoch().count());
  PlanRows out;
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) return out;
    out.made = std::chrono::sys_seconds(std::chrono::seconds(select.int64(0)));
    out.rows.push_back({std::string(select.text(1)), std::string(select.text(2)), Bytes{select.uint64(3)},
                        Bytes{select.uint64(4)}, milliseconds(select.int64(5)), milliseconds(select.int64(6))});
  }
}

Status Catalog::put_rate(std::string_view source, Bytes one, Bytes all) {
  ATLAS_ASSIGN(auto put, db_.prepare(kPutRate));
  return put.bind_all(source, one.count, all.count).run();
}

Result<std::map<std::string, std::pair<Bytes, Bytes>>> Catalog::rates() {
  ATLAS_ASSIGN(auto select, db_.prepare(kRates));
  std::map<std::string, std::pair<Bytes, Bytes>> out;
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) return out;
    out[std::string(select.text(0))] = {Bytes{select.uint64(1)}, Bytes{select.uint64(2)}};
  }
}

Status Catalog::add_observed(const ObservedRow& more) {
  ATLAS_ASSIGN(auto add, db_.prepare(kAddObserved));
  return add
      .bind_all(more.account, more.since.time_since_epoch().count(), more.jobs, more.same_nodes, more.waited.count(),
                more.estimated, more.start.count(), more.stall.count(), more.total.count, more.held.count)
      .run();
}

Result<std::vector<ObservedRow>> Catalog::observed() {
  ATLAS_ASSIGN(auto select, db_.prepare(kObserved));
  std::vector<ObservedRow> out;
  for (;;) {
    ATLAS_ASSIGN(const bool more, select.step());
    if (!more) return out;
    out.push_back({std::string(select.text(0)), select.uint64(2), select.uint64(3), milliseconds(select.int64(4)),
                   select.uint64(5), milliseconds(select.int64(6)), milliseconds(select.int64(7)),
                   Bytes{select.uint64(8)}, Bytes{select.uint64(9)},
                   std::chrono::sys_seconds(std::chrono::seconds(select.int64(1)))});
  }
}

}  // namespace atlas
