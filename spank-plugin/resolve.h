#pragma once
#include <chrono>
#include <string>

#include "common/config.h"
#include "common/result.h"

namespace atlas::spank {

struct ResolvedDataset {
  std::string path;     ///< canonical: what travels with the job
  std::string warning;  ///< something the user should know although the submit goes on; "" = nothing
};

/// Checks a dataset's absolute path with the caller's own rights: it exists, is a directory or a regular file, is
/// readable, and is below an origin once its symlinks are resolved. The storage is touched in a child process that is
/// killed after submit.resolve_timeout; a silent origin gives a warning, never a refusal.
/// invalid_argument, not_found, permission_denied with a message for the user.
[[nodiscard]] Result<ResolvedDataset> resolve_dataset(const Config& config, const std::string& path);

}  // namespace atlas::spank
