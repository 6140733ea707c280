#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace atlas {

/// Most names one hostlist may stand for: "n[0-999999999]" must not eat the machine.
inline constexpr std::size_t kMaxHosts = 65536;

/// "n[001-003,7],m1" -> n001 n002 n003 n7 m1, in the order written, repeats kept. Several brackets in one name
/// multiply, as in Slurm. Empty text is the empty list. Anything malformed (unbalanced or empty brackets, empty names,
/// descending ranges, bytes outside [A-Za-z0-9._-]) is invalid_argument and says which part; more than kMaxHosts is
/// out_of_range.
[[nodiscard]] Result<std::vector<std::string>> expand_hostlist(std::string_view text);

/// The names in Slurm's notation: sorted by name and number, repeats removed, ranges of one prefix in one bracket, zero
/// padding kept: "m1,n[001-003,7]". Exact inverse of expand_hostlist() up to order and repeats.
[[nodiscard]] std::string compress_hostlist(const std::vector<std::string>& names);

/// Sorts as people count: n2 before n10.
void sort_hosts(std::vector<std::string>& names);

}  // namespace atlas
