#pragma once
#include <sys/types.h>

#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::agent {

/// A user namespace in which two users have each other's number and all others their own, for mounts that show what
/// belongs to one as the other's. unavailable when the kernel makes none. Blocks for a moment.
[[nodiscard]] Result<UniqueFd> swapped_users(uid_t one, uid_t other);

}  // namespace atlas::agent
