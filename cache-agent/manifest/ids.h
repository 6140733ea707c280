#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/identity.h"
#include "common/result.h"

namespace atlas::agent {

/// "origin:path", printable; for logs and messages.
[[nodiscard]] std::string show(const DatasetId& dataset);
/// 32 hex digits: the dataset's directory in a tier.
[[nodiscard]] std::string hash_of(const DatasetId& dataset);
/// invalid_argument unless the path is canonical: no leading, doubled or trailing slash, no ".", ".." or NUL.
[[nodiscard]] Status check(const DatasetId& dataset);

/// 32 hex digits, a generation's directory; and back.
[[nodiscard]] std::string hex(const GenerationId& generation);
[[nodiscard]] std::optional<GenerationId> generation_from_hex(std::string_view hex);

/// Sorts the groups, adds gid, drops duplicates; so that equal rights compare equal.
[[nodiscard]] Principal normalize(Principal principal);
/// "uid 1001 (alice)", for messages.
[[nodiscard]] std::string show(const Principal& principal);
/// "uid:gid:group,group,...": one text for one set of rights, for keys and the database.
[[nodiscard]] std::string key_of(const Principal& normalized);

/// Position of an entry in its manifest; 0 is the root.
using FileIndex = std::uint32_t;

/// A piece of one regular file.
struct Extent {
  FileIndex file = 0;
  Bytes offset;
  Bytes length;
  auto operator<=>(const Extent&) const = default;
};

}  // namespace atlas::agent
