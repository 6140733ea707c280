#pragma once
#include <filesystem>
#include <string>

#include "common/result.h"

namespace atlas {

/// A small file of a daemon's own, for its next process. It takes the place of an earlier one at once and as a whole;
/// not synced: it is for restarts of a process, not of the machine. Blocks.
[[nodiscard]] Status write_note(const std::filesystem::path& path, const std::string& note);
/// "" when there is none.
[[nodiscard]] std::string read_note(const std::filesystem::path& path);

}  // namespace atlas
