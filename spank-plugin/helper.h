#pragma once
#include <string>
#include <vector>

#include "common/attach_report.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "common/units.h"

namespace atlas::spank {

struct HelperAnswer {
  AttachReport report;
  UniqueFd ns;  ///< mount namespace of the job, when there is one
};

/// Runs `program args...` with a clean environment and takes its one packet from descriptor 3. Kills it at the
/// deadline. unavailable (cannot be started, died), deadline_exceeded. Usable in slurmstepd (spawns, does not fork).
[[nodiscard]] Result<HelperAnswer> run_helper(const std::string& program, const std::vector<std::string>& args,
                                              SteadyTime deadline);

}  // namespace atlas::spank
