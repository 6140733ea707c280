#pragma once
#include <string_view>

namespace atlas {

/// Blocks SIGTERM, SIGINT and SIGHUP for this and all later threads, and ignores SIGPIPE. First thing in a daemon's
/// main().
void block_stop_signals();
/// Waits for SIGTERM or SIGINT and returns its number; SIGHUP is waited through. Blocks; on the main thread.
int wait_for_stop_signal();
/// Tells the service manager, if there is one ($NOTIFY_SOCKET): "READY=1", "STOPPING=1", "STATUS=...". Never fails: it
/// is a courtesy.
void notify_service_manager(std::string_view state);

}  // namespace atlas
