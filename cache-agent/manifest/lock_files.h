#pragma once
#include <string>
#include <vector>

#include "cache-agent/manifest/manifest.h"

namespace atlas::agent {

/// Paths of the lock files of LMDB databases: "lock.mdb" beside "data.mdb", "NAME-lock" beside "NAME". LMDB opens an
/// existing one for writing even to read, and gives up where a user may not (EACCES), though it does without on a file
/// system that is read-only as a whole. Programs, which may be called so too, are not meant: no lock file is
/// executable.
[[nodiscard]] std::vector<std::string> database_lock_files(const Manifest& manifest);

}  // namespace atlas::agent
