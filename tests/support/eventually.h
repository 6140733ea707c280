#pragma once
#include <poll.h>

#include <chrono>

namespace atlas::test {

/// Waits until `condition()` holds; false when it does not within `limit`. Looks a thousand times a second.
template <class Condition>
[[nodiscard]] bool eventually(Condition&& condition, std::chrono::seconds limit = std::chrono::seconds(60)) {
  for (const auto end = std::chrono::steady_clock::now() + limit; !condition();) {
    if (std::chrono::steady_clock::now() > end) return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

}  // namespace atlas::test
