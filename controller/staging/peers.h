#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "common/identity.h"
#include "controller/staging/registry.h"
#include "controller/staging/warmups.h"

namespace atlas {

/// Warm-ups that began no later than this after the first one of a dataset read the origin together; who comes later
/// copies what the first ones have and will have. What the first one had begun to read by then is read twice.
inline constexpr std::chrono::milliseconds kTogether{500};
/// So of a small dataset, most of which is begun at once, only those of one job read together: they begin in the same
/// moment.
inline constexpr std::chrono::milliseconds kSameMoment{20};
/// How long that is for a dataset of so many bytes and files, of which a node begins `operations` pieces at once.
[[nodiscard]] std::chrono::milliseconds together(const Generation& generation, std::uint32_t operations, Bytes chunk);

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
                                             const Registry& registry, const WarmUps& warmups,
                                             std::chrono::milliseconds together = kTogether);

}  // namespace atlas
