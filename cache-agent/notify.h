#pragma once
#include <string_view>

namespace atlas::agent {

/// Tells a service manager how we are ("READY=1", "STOPPING=1"); nothing happens without $NOTIFY_SOCKET.
void notify_manager(std::string_view state);

}  // namespace atlas::agent
