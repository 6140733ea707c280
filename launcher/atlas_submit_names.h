#pragma once
#include "common/config.h"
#include "common/request.h"

namespace atlas {

/// not_found for a dataset's name that the controller does not know: a job submitted with it would start without its
/// data. Asks only if there are names (paths are checked by the plugin). Blocks up to a second; a controller that is
/// away says nothing against a name. Starts gRPC's threads.
[[nodiscard]] Status check_names(const Config& config, const Request& request);

}  // namespace atlas
