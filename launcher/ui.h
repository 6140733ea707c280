#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "common/config.h"
#include "common/identity.h"
#include "common/result.h"

namespace atlas {

/// Exit codes of every Atlas command.
inline constexpr int kExitOk = 0, kExitFailed = 1, kExitUsage = 2;
/// What a failure ends with: malformed input is the user's to mend (2), everything else failed (1).
[[nodiscard]] int exit_code_of(const Error& error);

/// Where text goes.
struct Terminal {
  bool live = false;         ///< a terminal that can be redrawn
  std::size_t columns = 80;  ///< its width
};
[[nodiscard]] Terminal terminal_of(int fd);

/// Writes all of it to standard output resp. error; a closed pipe is not an error.
void print_out(std::string_view text);
void print_err(std::string_view text);
/// "TOOL: message" on standard error; returns the exit code for it.
int report(std::string_view tool, const Error& error);

/// The path as users write it: below the origin's root when this host's config knows the origin, else "origin:path".
/// Bytes as they are, not made printable.
[[nodiscard]] std::string path_of(const Config& config, const DatasetId& dataset);

/// "2026-11-03 14:05:09" in local time; "-" for the epoch.
[[nodiscard]] std::string format_time(WallTime time);
/// "12s ago"; "-" for the epoch.
[[nodiscard]] std::string format_ago(WallTime time, WallTime now);
/// "87.5"; never rounds up to 100; "-" when there is nothing to have a share of.
[[nodiscard]] std::string format_percent(Bytes part, Bytes whole);

}  // namespace atlas
