#pragma once
#include <string_view>

#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::agent {

/// Opens `path` below the directory `root` with the caller's rights: never above it, through no symlink, absolute or
/// not, nor a magic link. Paths may be longer than PATH_MAX. "" opens the root itself again. O_CLOEXEC and O_NOFOLLOW
/// are implied.
[[nodiscard]] Result<UniqueFd> open_beneath(int root, std::string_view path, int flags);

}  // namespace atlas::agent
