#pragma once
#include <sys/types.h>

#include <string>
#include <string_view>

#include "common/result.h"

namespace atlas {

/// Who made a credential, vouched for by munged.
struct Caller {
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
};

/// munge: credentials that say which user made them, valid once and for a few minutes. Thread-safe; each call blocks
/// ~0.1 ms on munged's socket.
class Munge {
 public:
  /// `socket` empty = munge's default.
  explicit Munge(std::string socket) : socket_(std::move(socket)) {}

  /// A credential of the calling process's user around `payload` (ASCII text). unavailable when munged does not answer.
  [[nodiscard]] Result<std::string> encode(std::string_view payload) const;

  struct Decoded {
    Caller caller;
    std::string payload;
  };
  /// unauthenticated for whatever is not fresh, whole and first seen: munge fills in uid and payload even for a
  /// replayed credential, so only its plain success counts.
  [[nodiscard]] Result<Decoded> decode(std::string_view credential) const;

 private:
  std::string socket_;
};

}  // namespace atlas
