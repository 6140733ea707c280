#include "cache-agent/jobs/local_node.h"

#include <algorithm>

namespace atlas::agent {

void LocalNode::warm(const WarmOrder& order, OnProgress progress, OnWarmed done) {
  warm_.learn(order.dataset, order.policy);
  if (const auto id = order.payer.job_id; id != 0) {
    forget_those_of_elsewhere();
    warmed_.begins(id);
    limits_.set_job(id, order.account, order.io_limit);
    done = [this, id, done = std::move(done)](Result<WarmProgress> result) {
      done(std::move(result));
      if (warmed_.ends(id)) limits_.forget_job(id);
    };
  } else {
    limits_.set_user(order.as.uid, order.account);
  }
  WarmRequest request{order.dataset,     order.as,         order.payer,
                      order.cache_limit, order.revalidate, {order.asked, order.keep}};
  request.settled_only = order.settled_only;
  request.account = order.account;
  request.divided = order.divided;
  request.only.patterns = order.only.patterns;
  request.only.files.insert(order.only.files.begin(), order.only.files.end());
  request.only.metadata_only = order.only.metadata_only;
  if (order.verify) return warm_.verify(std::move(request), std::move(progress), std::move(done));
  warm_.warm(std::move(request), std::move(progress), std::move(done));
}

Result<JobOutcome> LocalNode::release(const JobKey& job) {
  view::PartialViews::Counters read;
  Bytes bypassed;
  const auto row = jobs_.release(job, [&] {
    if (io_ != nullptr) bypassed = io_->bypassed(job.job_id);
    released_(job.job_id);
    read = views_.release(job.job_id);
  });
  if (!row) {
    forget(job.job_id);
    return JobOutcome{};
  }
  JobOutcome outcome{true, {}, {}, {}, bypassed};
  // What warm-ups fetched for the job is not known by dataset: the first one carries it, the receipt adds them up.
  const auto moved = fetcher_.counters_of_job(job.job_id);
  Bytes fetched{moved.bytes}, from_peers{moved.peer_bytes};
  for (const auto& [dataset, counters] : read) fetched -= std::min(fetched, counters.origin_bytes);
  for (const auto& item : row->datasets) {
    DatasetOutcome out;
    out.dataset = item.dataset;
    out.generation = item.generation;
    if (item.mounted) out.attached = item.partial ? ReplicaState::partial : ReplicaState::complete;
    out.reason = item.reason;
    if (item.mounted && item.partial && out.reason.empty()) out.reason = warm_.why_not_more(item.dataset, row->as.uid);
    out.origin_bytes = std::exchange(fetched, Bytes{});
    if (const auto counted = read.find(item.dataset); counted != read.end()) {
      out.origin_bytes += counted->second.origin_bytes;
      // What the kernel reads by itself nobody counts.
      if (counted->second.passed == 0) out.hit_bytes = counted->second.hit_bytes;
    }
    out.peer_bytes = std::exchange(from_peers, Bytes{});
    const auto replica = item.generation.empty() ? nullptr : store_.find(item.dataset, item.generation);
    if (replica) out.resident = replica->bytes_resident();
    outcome.datasets.push_back(std::move(out));
  }
  const auto throttled = limits_.throttled(job.job_id);
  outcome.throttled = throttled.time;
  outcome.throttled_bytes = throttled.bytes;
  forget(job.job_id);
  return outcome;
}

void LocalNode::forget(std::uint32_t job_id) {
  fetcher_.forget_job(job_id);
  warm_.forget_job(job_id);
  if (warmed_.is_over(job_id)) limits_.forget_job(job_id);  // else what is read for it goes on under its limits
}

void LocalNode::forget_those_of_elsewhere() {
  const auto old = warmed_.take_forgotten();
  if (old.empty()) return;
  const auto here = jobs_.jobs();
  for (const auto id : old)
    if (std::none_of(here.begin(), here.end(), [&](const JobKey& job) { return job.job_id == id; })) forget(id);
}

Result<EvictOutcome> LocalNode::evict(const DatasetId& dataset, const std::optional<GenerationId>& generation) {
  auto evicted = store_.evict(dataset, generation);
  return EvictOutcome{evicted.bytes, evicted.replicas, std::move(evicted.kept)};
}

std::vector<TierUse> LocalNode::tiers() const {
  std::vector<TierUse> out;
  for (auto& tier : store_.tiers())
    out.push_back({tier.name, tier.quota, tier.used, tier.state, tier.inodes, tier.inodes_used});
  return out;
}

std::vector<Node::Reads> LocalNode::reads() const {
  std::map<std::uint32_t, Reads> users;
  for (const auto& [uid, counters] : fetcher_.counters_by_user())
    users[uid] = {uid, Bytes{counters.bytes}, counters.operations, Bytes{counters.peer_bytes}};
  if (io_ != nullptr)
    for (const auto& [uid, bytes] : io_->bypassed_by_user()) {
      users[uid].uid = uid;
      users[uid].bypass_bytes = bytes;
    }
  std::vector<Reads> out;
  for (const auto& [uid, reads] : users) out.push_back(reads);
  return out;
}

std::vector<DatasetReads> LocalNode::take_reads() {
  std::vector<DatasetReads> out;
  auto asked = views_.take_reads();
  const auto add_asked = [](ReadRates& rates, const view::PartialView::Reads& reads) {
    rates.asked_bytes = static_cast<double>(reads.asked.count);
    rates.hit_bytes = static_cast<double>(reads.hit.count);
  };
  for (auto& read : fetcher_.take_reads()) {
    ReadRates rates;
    rates.origin_bytes = static_cast<double>(read.bytes);
    rates.origin_operations = static_cast<double>(read.operations);
    rates.throttled_bytes = static_cast<double>(read.throttled);
    rates.peer_bytes = static_cast<double>(read.peer_bytes);
    rates.waiting = read.waiting;
    if (const auto too = asked.extract({read.dataset, read.uid})) add_asked(rates, too.mapped());
    out.push_back({std::move(read.dataset), read.uid, rates});
  }
  for (const auto& [who, reads] : asked) {
    ReadRates rates;
    add_asked(rates, reads);
    out.push_back({who.first, who.second, rates});
  }
  return out;
}

}  // namespace atlas::agent
