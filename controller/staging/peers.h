#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "common/identity.h"
#include "controller/staging/registry.h"
#include "controller/staging/warmups.h"

namespace atlas {

/// Warm-ups that began no later than this after the first one of a dataset read the origin together. Those of one job
/// begin in the same moment; who comes later copies what the first ones have and will have.
inline constexpr std::chrono::milliseconds kTogether{500};

enum class PeerRole { holds, fills_first, fills_later };

/// A node that has a generation, or will have it.
struct PeerInfo {
  std::string node, address;
  PeerRole role = PeerRole::fills_later;
  bool operator==(const PeerInfo&) const = default;
};

/// Nodes whose agents are connected, and of which others may copy the generation, in the order of their names. A
/// warm-up that has not listed the origin yet may turn out to be of this generation, and counts.
[[nodiscard]] std::vector<PeerInfo> peers_of(const DatasetId& dataset, const GenerationId& generation,
                                             const Registry& registry, const WarmUps& warmups);

}  // namespace atlas
