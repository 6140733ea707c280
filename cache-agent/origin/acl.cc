#include "cache-agent/origin/acl.h"

#include <cstdint>
#include <optional>

namespace atlas::agent {
namespace {

/// Reads the XDR form of an NFSv4 ACL: a count, then type, flag, mask and who of each entry, 4-byte aligned.
class Xdr {
 public:
  explicit Xdr(std::string_view bytes) : bytes_(bytes) {}
  std::optional<std::uint32_t> number() {
    if (bytes_.size() < 4) return std::nullopt;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8U | static_cast<unsigned char>(bytes_[i]);
    bytes_.remove_prefix(4);
    return value;
  }
  std::optional<std::string_view> text() {
    const auto size = number();
    if (!size || *size > bytes_.size()) return std::nullopt;
    const auto value = bytes_.substr(0, *size);
    const std::size_t padded = (std::size_t{*size} + 3) / 4 * 4;
    bytes_.remove_prefix(padded < bytes_.size() ? padded : bytes_.size());
    return value;
  }

 private:
  std::string_view bytes_;
};

bool says_no_more_than_a_mode(std::string_view acl) {
  Xdr in(acl);
  const auto count = in.number();
  if (!count) return false;
  for (std::uint32_t i = 0; i < *count; ++i) {
    if (!in.number() || !in.number() || !in.number()) return false;
    const auto who = in.text();
    if (!who || (*who != "OWNER@" && *who != "GROUP@" && *who != "EVERYONE@")) return false;
  }
  return true;
}

}  // namespace

bool needs_value(std::string_view name) {
  return name == "system.nfs4_acl" || name == "system.richacl";
}

XattrClass classify_xattr(std::string_view name, std::string_view value) {
  if (name.starts_with("user.") || name == "system.posix_acl_access" || name == "system.posix_acl_default")
    return XattrClass::keep;
  if (name == "system.nfs4_acl")
    return says_no_more_than_a_mode(value) ? XattrClass::skip : XattrClass::unrepresentable;
  if (name == "system.richacl") return XattrClass::unrepresentable;
  return XattrClass::skip;
}

}  // namespace atlas::agent
