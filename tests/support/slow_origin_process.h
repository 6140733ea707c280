#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "common/result.h"

namespace atlas {

/// atlas-slow-origin as a process of its own, in front of a directory; unmounted and ended with the object.
class SlowOrigin {
 public:
  /// Throws when it does not come up within 10 s.
  SlowOrigin(const std::string& directory, const std::string& mountpoint, const std::vector<std::string>& arguments);
  ~SlowOrigin();
  SlowOrigin(const SlowOrigin&) = delete;
  SlowOrigin& operator=(const SlowOrigin&) = delete;
  /// "fail", "hang", "resume", ...: see atlas-slow-origin ctl --help. Throws when it refuses.
  std::string tell(const std::vector<std::string>& words) const;
  /// How many operations hang right now.
  [[nodiscard]] std::uint64_t hanging() const;
  /// How many reads it answered with less than they asked for: see "short".
  [[nodiscard]] std::uint64_t shortened() const;
  /// How many it was asked for of all kinds since the last "reset".
  [[nodiscard]] std::uint64_t operations() const;
  /// How many it was asked for of a kind ("lookup", "read", ...) since the last "reset".
  [[nodiscard]] std::uint64_t operations(const std::string& kind) const;
  /// Bytes that were read of it since then.
  [[nodiscard]] std::uint64_t read_bytes() const;

 private:
  std::string mountpoint_, socket_;
  int pid_ = -1;
};

}  // namespace atlas
