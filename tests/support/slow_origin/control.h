#pragma once

#include <string>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"
#include "tests/support/slow_origin/gate.h"

namespace atlas::slow_origin {

/// Listens at `path` (replacing a dead socket there); only its owner may connect.
Result<UniqueFd> listen_at(const std::string& path);

/// Answers one client of the listening socket: one line of words in, one line out ("ok", JSON, or "error: ...").
void answer_client(int listener, Gate& gate);

/// Carries out one command: stats | reset | hang [--path P] [OP...] | resume | fail PATTERN [--errno NAME] [OP...] |
/// short [--cached] PATTERN BYTES | heal | latency MS | bandwidth RATE. Returns the line to answer with.
Result<std::string> execute(const std::vector<std::string>& words, Gate& gate);

/// The client side: sends the words, returns the answer.
Result<std::string> ask(const std::string& socket, const std::vector<std::string>& words);

/// "500M" -> bytes per second; "0" and "unlimited" mean no cap.
Result<std::uint64_t> parse_rate(const std::string& text);
/// "0.5" -> 500 us.
Result<std::chrono::microseconds> parse_milliseconds(const std::string& text);

}  // namespace atlas::slow_origin
