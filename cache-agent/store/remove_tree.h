#pragma once
#include <stop_token>
#include <string>

#include "common/result.h"

namespace atlas::agent {

/// Removes what is there with all it holds, however deep and long its paths are; only unlinks and renames within it,
/// never truncates, crosses no symlink. Missing is fine; what a failure leaves may be removed later. cancelled when
/// told to stop. Blocks.
[[nodiscard]] Status remove_tree(const std::string& path, const std::stop_token& stop = {});

}  // namespace atlas::agent
