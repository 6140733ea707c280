#pragma once
#include <memory>
#include <string>

#include "common/metrics/metrics_server.h"
#include "controller/rpc/parts.h"

namespace atlas {

/// What the cluster's monitoring is told, in the text of OpenMetrics. On the strand.
[[nodiscard]] std::string metrics_of(const ControllerParts& parts);

/// Serves it at controller.metrics; null when that is empty. What the strand does not answer within two seconds is 503.
/// The strand outlives it.
[[nodiscard]] Result<std::unique_ptr<MetricsServer>> serve_metrics(const ControllerParts& parts);

}  // namespace atlas
