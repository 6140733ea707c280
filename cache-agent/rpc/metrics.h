#pragma once
#include <string>

#include "cache-agent/rpc/node.h"

namespace atlas::agent {

/// What a node's monitoring is told, in the text of OpenMetrics. Never blocks.
[[nodiscard]] std::string metrics_of(const Node& node);

}  // namespace atlas::agent
