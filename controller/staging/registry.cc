#include "controller/staging/registry.h"

#include <algorithm>

namespace atlas {
namespace {

/// Agents report every second what is read.
constexpr std::chrono::seconds kReadsHold{4};

}  // namespace

Registry::Registry(Catalog& catalog, const Clock& clock, std::function<void(const Error&)> complain)
    : catalog_(catalog), clock_(clock), complain_(std::move(complain)) {}

Status Registry::load() {
  ATLAS_ASSIGN(newest_, catalog_.newest_generations());
  ATLAS_ASSIGN(const auto replicas, catalog_.replicas());
  for (const auto& [node, replica] : replicas) {
    auto& agent = agents_[node];
    agent.node = node;
    put(agent, replica);
  }
  ATLAS_ASSIGN(const auto drained, catalog_.drained());
  for (const auto& node : drained) {
    agents_[node].node = node;
    agents_[node].drained = true;
  }
  ATLAS_ASSIGN(const auto readers, catalog_.readers());
  readers_.insert(readers.begin(), readers.end());
  return {};
}

void Registry::check(const Status& status) {
  if (!status) complain_(status.error());
}

void Registry::put(AgentInfo& agent, const ReplicaInfo& replica) {
  const auto [at, added] = agent.replicas.try_emplace({replica.dataset, replica.generation.id});
  if (!added) protect(agent, at->second, false);
  at->second = replica;
  protect(agent, replica, true);
  if (!added) return;
  auto& holders = holders_[replica.dataset];
  if (std::find(holders.begin(), holders.end(), &agent) == holders.end()) holders.push_back(&agent);
}

bool Registry::drop(AgentInfo& agent, const DatasetId& dataset, const GenerationId& generation) {
  const auto found = agent.replicas.find({dataset, generation});
  if (found == agent.replicas.end()) return false;
  protect(agent, found->second, false);
  agent.replicas.erase(found);
  const auto other = agent.replicas.lower_bound({dataset, GenerationId{}});
  if (other != agent.replicas.end() && other->first.first == dataset) return true;
  if (const auto at = holders_.find(dataset); at != holders_.end()) {
    std::erase(at->second, &agent);
    if (at->second.empty()) holders_.erase(at);
  }
  return true;
}

void Registry::drop_all(AgentInfo& agent) {
  while (!agent.replicas.empty()) {
    const auto [dataset, generation] = agent.replicas.begin()->first;
    static_cast<void>(drop(agent, dataset, generation));
  }
}

/// Counts a replica among those that leases and pins keep, or no more.
void Registry::protect(AgentInfo& agent, const ReplicaInfo& replica, bool more) {
  const std::size_t leased = replica.leases.empty() ? 0 : 1;
  const Bytes kept = replica.pinned || leased != 0 ? replica.bytes_resident : Bytes{};
  if (more) {
    agent.leased += leased;
    agent.kept[replica.tier] += kept;
  } else {
    agent.leased -= leased;
    agent.kept[replica.tier] -= kept;
  }
}

AgentInfo* Registry::current(std::uint64_t stream, const std::string& node) {
  const auto at = agents_.find(node);
  return at != agents_.end() && at->second.connected && at->second.stream == stream ? &at->second : nullptr;
}

void Registry::hello(std::uint64_t stream, const Greeting& greeting) {
  auto& agent = agents_[greeting.node];
  agent.node = greeting.node;
  agent.address = greeting.address;
  agent.version = greeting.version;
  agent.tiers = greeting.tiers;
  agent.warnings = greeting.warnings;
  agent.connected = true;
  agent.stream = stream;
  agent.last_seen = clock_.wall();
  observer_({agent.node});
}

void Registry::inventory(std::uint64_t stream, const std::string& node, const std::vector<ReplicaInfo>& replicas) {
  auto* agent = current(stream, node);
  if (agent == nullptr) return;
  agent->last_seen = clock_.wall();
  drop_all(*agent);
  for (const auto& replica : replicas) {
    if (replica.state == ReplicaState::absent) continue;
    put(*agent, replica);
    observe(replica.dataset, replica.generation);
  }
  observer_({node, nullptr, true});
  check(catalog_.replace_replicas(node, replicas));
}

void Registry::change(std::uint64_t stream, const std::string& node, const ReplicaInfo& replica) {
  auto* agent = current(stream, node);
  if (agent == nullptr) return;
  agent->last_seen = clock_.wall();
  if (replica.state == ReplicaState::absent) {
    static_cast<void>(drop(*agent, replica.dataset, replica.generation.id));
  } else {
    put(*agent, replica);
    observe(replica.dataset, replica.generation);
  }
  observer_({node, &replica.dataset});
  check(catalog_.put_replica(node, replica));
}

void Registry::heartbeat(std::uint64_t stream, const std::string& node, Heartbeat beat) {
  auto* agent = current(stream, node);
  if (agent == nullptr) return;
  agent->last_seen = clock_.wall();
  const bool other =
      !beat.tiers.empty() && !std::equal(beat.tiers.begin(), beat.tiers.end(), agent->tiers.begin(), agent->tiers.end(),
                                         [](const TierInfo& a, const TierInfo& b) {
                                           return a.name == b.name && a.quota == b.quota && a.state == b.state;
                                         });
  if (!beat.tiers.empty()) agent->tiers = std::move(beat.tiers);
  if (other) observer_({node});
  agent->warming = beat.warming;
  agent->in_flight = beat.in_flight;
  agent->warnings = std::move(beat.warnings);
}

void Registry::note_reads(std::uint64_t stream, const std::string& node, std::vector<DatasetReads> reads) {
  auto* agent = current(stream, node);
  if (agent == nullptr) return;
  agent->reads = std::move(reads);
  agent->reads_at = clock_.now();
}

std::vector<DatasetReads> Registry::reads_on(const AgentInfo& agent) const {
  return agent.connected && agent.reads_at + kReadsHold > clock_.now() ? agent.reads : std::vector<DatasetReads>{};
}

bool Registry::lost(std::uint64_t stream, const std::string& node) {
  auto* agent = current(stream, node);
  if (agent == nullptr) return false;
  agent->connected = false;
  agent->warming = agent->in_flight = 0;
  agent->reads.clear();
  observer_({node});
  return true;
}

void Registry::observe(const DatasetId& dataset, const Generation& generation) {
  if (generation.id.empty()) return;
  const auto [at, added] = newest_.try_emplace(dataset, generation);
  if (!added && at->second.observed > generation.observed) return;
  const bool other = added || at->second.id != generation.id;
  at->second = generation;
  if (other)
    for (const auto* agent : holders_of(dataset))
      observer_({agent->node, &dataset});  // what was complete is not any more
}

void Registry::note_generation(const DatasetId& dataset, const Generation& generation) {
  if (generation.id.empty()) return;
  const auto known = newest(dataset);
  observe(dataset, generation);
  if (!known || known->id != generation.id) check(catalog_.note_generation(dataset, generation));
}

void Registry::note_complete(const std::string& node, const DatasetId& dataset, const Generation& generation) {
  const auto at = agents_.find(node);
  if (at == agents_.end() || generation.id.empty()) return;
  observe(dataset, generation);
  const auto known = at->second.replicas.find({dataset, generation.id});
  ReplicaInfo replica = known == at->second.replicas.end() ? ReplicaInfo{} : known->second;
  replica.dataset = dataset;
  replica.generation = generation;
  replica.state = ReplicaState::complete;
  replica.bytes_resident = generation.bytes;
  replica.files_resident = generation.files;
  replica.last_used = clock_.wall();
  put(at->second, replica);
  observer_({node, &dataset});
  check(catalog_.put_replica(node, replica));
}

void Registry::note_gone(const std::string& node, const DatasetId& dataset, const GenerationId& generation) {
  const auto at = agents_.find(node);
  if (at == agents_.end() || !drop(at->second, dataset, generation)) return;
  observer_({node, &dataset});
  ReplicaInfo gone;
  gone.dataset = dataset;
  gone.generation.id = generation;
  check(catalog_.put_replica(node, gone));
}

Status Registry::set_drained(const std::string& node, bool drained, const std::string& by) {
  ATLAS_TRY(catalog_.set_drained(node, drained, by, clock_.wall()));
  agents_[node].node = node;
  agents_[node].drained = drained;
  observer_({node});
  return {};
}

const AgentInfo* Registry::find(const std::string& node) const {
  const auto at = agents_.find(node);
  return at == agents_.end() ? nullptr : &at->second;
}

std::optional<Generation> Registry::newest(const DatasetId& dataset) const {
  const auto at = newest_.find(dataset);
  return at == newest_.end() ? std::nullopt : std::optional(at->second);
}

const std::vector<const AgentInfo*>& Registry::holders_of(const DatasetId& dataset) const {
  static const std::vector<const AgentInfo*> kNobody;
  const auto at = holders_.find(dataset);
  return at == holders_.end() ? kNobody : at->second;
}

Holding Registry::holding(const AgentInfo& agent, const DatasetId& dataset) const {
  Holding out;
  const auto newest_at = newest_.find(dataset);
  for (auto at = agent.replicas.lower_bound({dataset, GenerationId{}});
       at != agent.replicas.end() && at->first.first == dataset; ++at) {
    // An older version's bytes still count for the choice of a node: what has not changed is taken over, not fetched.
    out.resident = std::max(out.resident, at->second.bytes_resident);
    if (newest_at != newest_.end() && at->first.second == newest_at->second.id)
      out.complete = at->second.state == ReplicaState::complete;
  }
  return out;
}

bool Registry::complete_on(const std::string& node, const DatasetId& dataset) const {
  const auto* agent = find(node);
  return agent != nullptr && holding(*agent, dataset).complete;
}

Bytes Registry::room_on(const AgentInfo& agent) {
  Bytes best;
  for (const auto& tier : agent.tiers) {
    if (tier.state != "ok") continue;
    const auto at = agent.kept.find(tier.name);
    const Bytes kept = at == agent.kept.end() ? Bytes{} : at->second;
    if (tier.quota > kept) best = std::max(best, tier.quota - kept);
  }
  return best;
}

void Registry::note_reader(const DatasetId& dataset, std::uint32_t uid) {
  if (readers_.emplace(dataset, uid).second) check(catalog_.note_reader(dataset, uid));
}

bool Registry::has_read(const DatasetId& dataset, std::uint32_t uid) const {
  return readers_.contains({dataset, uid});
}

}  // namespace atlas
