#pragma once
#include <string_view>

namespace atlas::agent {

/// How an extended attribute is treated when a file is copied into a replica.
enum class XattrClass { keep, skip, unrepresentable };

/// user.* and POSIX ACLs are kept; security.*, trusted.* and everything else is not. An NFSv4 ACL is skipped when it
/// speaks of owner, group and everyone only (the mode says the same) and unrepresentable otherwise; `value` is looked
/// at for those names only (see needs_value()).
[[nodiscard]] XattrClass classify_xattr(std::string_view name, std::string_view value);
/// Must the value be read before classify_xattr() can judge?
[[nodiscard]] bool needs_value(std::string_view name);

}  // namespace atlas::agent
