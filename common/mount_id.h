#pragma once
#include <cstdint>

namespace atlas {

/// The id of this process's mount namespace, 0 where the kernel does not tell (before 6.11). A mount namespace can be
/// pinned (bind mounted) only from one with a smaller id. Ids grew with time up to 6.17; since 6.18 each CPU takes them
/// from a range of its own.
[[nodiscard]] std::uint64_t own_mount_namespace_id();

}  // namespace atlas
