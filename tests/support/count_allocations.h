#pragma once
#include <cstdint>

namespace atlas {

/// How often this program has called operator new: it has its own, in count_allocations.cc.
[[nodiscard]] std::uint64_t allocations();

}  // namespace atlas
