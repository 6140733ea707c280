#pragma once
#include <functional>
#include <string>

#include "common/result.h"
#include "common/units.h"

namespace atlas {

/// Runs `work` in a child process and returns its text; deadline_exceeded when it takes longer than `limit`. For
/// looking at file systems that may hang: a process stuck in the kernel is left behind, killed, and never waited for.
/// Must be called before any thread or gRPC exists; `work` returns at most 64 KiB.
[[nodiscard]] Result<std::string> run_bounded(std::chrono::milliseconds limit,
                                              const std::function<std::string()>& work);

}  // namespace atlas
