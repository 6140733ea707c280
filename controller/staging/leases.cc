#include "controller/staging/leases.h"

#include <set>
#include <utility>

namespace atlas {

Leases::Leases(Executor& strand, AgentPort& agents, Registry& registry, Catalog& catalog,
               std::function<void(const Error&)> complain)
    : strand_(strand), agents_(agents), registry_(registry), catalog_(catalog), complain_(std::move(complain)) {}

Status Leases::load() {
  ATLAS_ASSIGN(const auto rows, catalog_.leases());
  for (const auto& row : rows) {
    auto& lease = leases_[{row.job_id, row.node}];
    lease.row = row;
    lease.job.job_id = row.job_id;
  }
  return {};
}

void Leases::check(const Status& status) {
  if (!status) complain_(status.error());
}

void Leases::plan(const std::string& node, const PlanOrder& order, bool hard,
                  std::function<void(const Result<std::vector<ReplicaInfo>>&)> done) {
  const Key key{order.job.job_id, node};
  auto& lease = leases_[key];
  const bool same = lease.row.acked && !lease.row.releasing && lease.row.hard == hard && lease.job == order.job;
  lease.job = order.job;
  lease.order = order;
  if (same) {
    if (done) done(lease.answer);
    return;
  }
  lease.row = {order.job.job_id, node, hard, false, false};
  check(catalog_.put_lease(lease.row));
  if (done) lease.planned.push_back(std::move(done));
  send(key);
}

void Leases::release(const std::string& node, const JobKey& job, std::function<void(const ReleaseOutcome&)> done) {
  const Key key{job.job_id, node};
  auto& lease = leases_[key];
  lease.job = job;
  lease.row = {job.job_id, node, lease.row.hard, false, true};
  check(catalog_.put_lease(lease.row));
  if (done) lease.released.push_back(std::move(done));
  send(key);
}

void Leases::reconcile() {
  std::vector<Key> open;
  for (const auto& [key, lease] : leases_)
    if (!lease.row.acked && !lease.in_flight) open.push_back(key);
  for (const auto& key : open) send(key);
}

void Leases::send(const Key& key) {
  const auto at = leases_.find(key);
  if (at == leases_.end() || at->second.in_flight) return;
  const auto* agent = registry_.find(key.second);
  if (agent == nullptr || !agent->connected) {
    auto planned = std::exchange(at->second.planned, {});
    for (const auto& done : planned)
      done(fail(Code::unavailable, "the cache agent of " + key.second + " is not connected"));
    return;
  }
  if (at->second.row.releasing) {
    send_release(key, agent->address);
  } else if (at->second.order.job.job_id != 0) {  // else staging will say what it wants: it re-plans what runs
    send_plan(key, agent->address);
  }
}

void Leases::send_plan(const Key& key, const std::string& address) {
  auto& lease = leases_.at(key);
  lease.in_flight = true;
  const bool hard = lease.row.hard;
  agents_.plan(address, lease.order, [this, key, hard](const Result<std::vector<ReplicaInfo>>& answer) {
    strand_.post([this, key, hard, answer] {
      const auto at = leases_.find(key);
      if (at == leases_.end()) return;
      at->second.in_flight = false;
      if (at->second.row.releasing) return send(key);
      if (answer && at->second.row.hard == hard) {
        at->second.answer = *answer;
        at->second.row.acked = true;
        check(catalog_.put_lease(at->second.row));
      }
      const auto planned = std::exchange(at->second.planned, {});
      for (const auto& done : planned) done(answer);
    });
  });
}

void Leases::send_release(const Key& key, const std::string& address) {
  auto& lease = leases_.at(key);
  lease.in_flight = true;
  agents_.release(address, lease.job, [this, key](const Result<ReleaseOutcome>& answer) {
    strand_.post([this, key, answer] {
      const auto at = leases_.find(key);
      if (at == leases_.end()) return;
      at->second.in_flight = false;
      if (!at->second.row.releasing) return send(key);  // planned again meanwhile
      if (!answer) return;                              // reconcile() tries again
      const auto released = std::move(at->second.released);
      leases_.erase(at);
      check(catalog_.drop_lease(key.first, key.second));
      for (const auto& done : released) done(*answer);
    });
  });
}

void Leases::note_known(const std::string& node, const PlanOrder& order) {
  auto& lease = leases_[{order.job.job_id, node}];
  if (lease.row.acked && !lease.row.releasing) return;
  lease.job = order.job;
  lease.order = order;
  lease.row = {order.job.job_id, node, true, true, false};
  check(catalog_.put_lease(lease.row));
}

std::vector<JobKey> Leases::agent_knows(const std::string& node, const std::vector<JobKey>& jobs) {
  std::set<std::uint32_t> known;
  std::vector<JobKey> strangers;
  for (const auto& job : jobs) {
    known.insert(job.job_id);
    if (!leases_.contains({job.job_id, node})) strangers.push_back(job);
  }
  std::vector<Key> again;
  for (auto& [key, lease] : leases_) {
    if (key.second != node) continue;
    if (!lease.row.releasing && !known.contains(key.first)) lease.row.acked = false;
    if (!lease.row.acked) again.push_back(key);
  }
  for (const auto& key : again) send(key);
  return strangers;
}

bool Leases::contains(const std::string& node, std::uint32_t job_id) const {
  return leases_.contains({job_id, node});
}

std::vector<std::string> Leases::nodes_of(std::uint32_t job_id) const {
  std::vector<std::string> nodes;
  for (auto at = leases_.lower_bound({job_id, ""}); at != leases_.end() && at->first.first == job_id; ++at)
    nodes.push_back(at->first.second);
  return nodes;
}

std::size_t Leases::count_on(const std::string& node) const {
  std::size_t count = 0;
  for (const auto& [key, lease] : leases_)
    if (key.second == node && !lease.row.releasing) ++count;
  return count;
}

}  // namespace atlas
