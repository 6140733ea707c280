#pragma once
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace atlas {

/// What kind of failure, numbered as gRPC's status codes so that the rpc edge translates by value.
enum class Code {
  cancelled = 1,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  already_exists = 6,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  aborted = 10,
  out_of_range = 11,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
  data_loss = 15,
  unauthenticated = 16,
};

/// A failure on its way to whoever reports it: says what, to what, and where possible the next step.
struct [[nodiscard]] Error {
  Code code = Code::unknown;
  std::string message;
  int sys_errno = 0;  ///< errno of the failed system call, 0 if none was involved

  /// The same error with "what: " in front of its message.
  [[nodiscard]] Error in(std::string_view what) const { return {code, std::string(what) + ": " + message, sys_errno}; }
};

/// What every operation that can fail returns. A discarded Result is a compile error.
template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// `return fail(Code::not_found, "...")` from a function that returns any Result<T>.
[[nodiscard]] inline tl::unexpected<Error> fail(Code code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message), 0});
}
[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

/// The Code an errno value stands for (ENOENT -> not_found, EACCES -> permission_denied, ...; else unknown).
[[nodiscard]] Code code_of_errno(int err);
/// errno translated, with "what: strerror" as message. Thread-safe. Pass errno explicitly: it may change while the
/// message is built.
[[nodiscard]] tl::unexpected<Error> fail_errno(int err, std::string_view what);
/// The errno that stands for an error at a POSIX edge (FUSE replies); sys_errno when set.
[[nodiscard]] int errno_of(const Error& error);
/// "not_found", "permission_denied", ...
[[nodiscard]] std::string_view name_of(Code code);

/// Propagates the error of a Result expression: ATLAS_TRY(walk(...)); or ATLAS_ASSIGN(auto fd, open(...));
#define ATLAS_CONCAT_(a, b) a##b
#define ATLAS_CONCAT(a, b) ATLAS_CONCAT_(a, b)
#define ATLAS_TRY(expr)                                                                             \
  do {                                                                                              \
    if (auto atlas_try_ = (expr); !atlas_try_) return ::atlas::fail(std::move(atlas_try_).error()); \
  } while (false)
#define ATLAS_ASSIGN_(tmp, lhs, expr)                     \
  auto tmp = (expr);                                      \
  if (!tmp) return ::atlas::fail(std::move(tmp).error()); \
  lhs = std::move(*tmp)
#define ATLAS_ASSIGN(lhs, expr) ATLAS_ASSIGN_(ATLAS_CONCAT(atlas_tmp_, __LINE__), lhs, expr)

}  // namespace atlas
