#include "common/result.h"

#include <array>
#include <cerrno>
#include <cstring>

namespace atlas {

Code code_of_errno(int err) {
  switch (err) {
    case ENOENT:
    case ENOTDIR:
    case ENODATA:
      return Code::not_found;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::permission_denied;
    case EEXIST:
      return Code::already_exists;
    case EINVAL:
    case ENAMETOOLONG:
    case EISDIR:
    case ELOOP:
      return Code::invalid_argument;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return Code::resource_exhausted;
    case ETIMEDOUT:
      return Code::deadline_exceeded;
    case ECONNREFUSED:
    case ENOTCONN:
    case ECONNRESET:
    case EPIPE:
    case EAGAIN:
    case EIO:
    case ESTALE:
      return Code::unavailable;
    case EINTR:
    case ECANCELED:
      return Code::cancelled;
    case EBUSY:
      return Code::failed_precondition;
    case ENOSYS:
    case EOPNOTSUPP:
      return Code::unimplemented;
    default:
      return Code::unknown;
  }
}

tl::unexpected<Error> fail_errno(int err, std::string_view what) {
  std::array<char, 128> buffer{};
  const char* text = strerror_r(err, buffer.data(), buffer.size());  // the GNU variant returns the text
  return tl::unexpected<Error>(Error{code_of_errno(err), std::string(what) + ": " + text, err});
}

int errno_of(const Error& error) {
  if (error.sys_errno != 0) return error.sys_errno;
  switch (error.code) {
    case Code::not_found:
      return ENOENT;
    case Code::permission_denied:
    case Code::unauthenticated:
      return EACCES;
    case Code::already_exists:
      return EEXIST;
    case Code::invalid_argument:
    case Code::out_of_range:
      return EINVAL;
    case Code::resource_exhausted:
      return ENOSPC;
    case Code::cancelled:
      return EINTR;
    case Code::failed_precondition:
      return EBUSY;
    case Code::unimplemented:
      return ENOSYS;
    default:
      return EIO;
  }
}

std::string_view name_of(Code code) {
  static constexpr std::array<std::string_view, 17> kNames = {
      "ok",        "cancelled",      "unknown",           "invalid_argument",   "deadline_exceeded",
      "not_found", "already_exists", "permission_denied", "resource_exhausted", "failed_precondition",
      "aborted",   "out_of_range",   "unimplemented",     "internal",           "unavailable",
      "data_loss", "unauthenticated"};
  const auto index = static_cast<std::size_t>(code);
  return index < kNames.size() ? kNames[index] : "unknown";
}

}  // namespace atlas
