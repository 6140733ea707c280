#include "controller/staging/peers.h"

#include <algorithm>
#include <map>

namespace atlas {

std::chrono::milliseconds together(const Generation& generation, std::uint32_t operations, Bytes chunk) {
  // What is read twice shall be less than a fiftieth.
  constexpr std::uint64_t kPart = 50;
  const std::uint64_t piece =
      std::min(chunk.count, generation.bytes.count / std::max<std::uint64_t>(1, generation.files));
  return generation.bytes.count / kPart < piece * operations ? kSameMoment : kTogether;
}

std::vector<PeerInfo> peers_of(const DatasetId& dataset, const GenerationId& generation, const Registry& registry,
                               const WarmUps& warmups, std::chrono::milliseconds together) {
  std::map<std::string, PeerInfo> found;
  for (const auto& [node, agent] : registry.agents()) {
    if (!agent.connected) continue;
    const auto replica = agent.replicas.find({dataset, generation});
    if (replica != agent.replicas.end() && replica->second.state == ReplicaState::complete)
      found[node] = {node, agent.address, PeerRole::holds};
  }
  std::map<std::string, SteadyTime> began;
  for (const auto& member : warmups.filling(dataset)) {
    const auto* agent = registry.find(member.node);
    const bool other = !member.generation.empty() && member.generation != generation;
    if (agent == nullptr || !agent->connected || other || found.contains(member.node)) continue;
    const auto [at, added] = began.try_emplace(member.node, member.since);
    at->second = std::min(at->second, member.since);
  }
  SteadyTime first = SteadyTime::max();
  for (const auto& [node, since] : began) first = std::min(first, since);
  for (const auto& [node, since] : began)
    found[node] = {node, registry.find(node)->address,
                   since - first <= together ? PeerRole::fills_first : PeerRole::fills_later};
  std::vector<PeerInfo> out;
  for (auto& [node, peer] : found) out.push_back(std::move(peer));
  return out;
}

}  // namespace atlas
