#pragma once
#include <string>
#include <vector>

#include "cache-agent/view/view_source.h"

namespace atlas::view {

/// Value of ATLAS_CACHE_STATE (see common/attach_report.h) once it is known what was mounted.
[[nodiscard]] std::string cache_state(const JobViews& job, const std::vector<AttachedView>& results);
/// The line that the job's stderr begins with:
/// "atlas: /data/speech from this node (complete, 1.8G); /data/noise from the origin: not cached here; waited 12s:
/// ...".
[[nodiscard]] std::string announcement(const JobViews& job, const std::vector<AttachedView>& results);

}  // namespace atlas::view
