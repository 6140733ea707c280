#pragma once
#include <string>
#include <string_view>

#include "common/result.h"

namespace atlas {

/// Percent-encodes every byte outside [A-Za-z0-9._/-], so that the text is safe in a Slurm field, a lua string and a
/// shell word.
[[nodiscard]] std::string percent_encode(std::string_view bytes);
/// The exact inverse; a stray or malformed %, or a byte that percent_encode() would not have left alone, is
/// invalid_argument.
[[nodiscard]] Result<std::string> percent_decode(std::string_view text);
/// A path for a terminal or a log: control bytes and invalid UTF-8 as \xNN, the rest unchanged.
[[nodiscard]] std::string printable(std::string_view bytes);

}  // namespace atlas
