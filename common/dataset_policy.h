#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "common/units.h"

namespace atlas {

/// How old the walk may be that says what a job is shown. standard = it began after the job was submitted, and
/// warm.revalidate ago at most (of a tree that takes long to walk the latter alone); always = it began when the job had
/// got its nodes; ttl = so long ago at most, whoever submitted what; never = what is complete is shown without one.
enum class Revalidate { standard, always, ttl, never };
[[nodiscard]] std::string_view name_of(Revalidate what);

/// Members of a group may read what the owner's own walk found, where it is complete.
struct Grant {
  std::uint32_t group = 0;
  std::uint32_t owner = 0;
  std::uint32_t owner_group = 0;  ///< the owner's primary group
  bool operator==(const Grant&) const = default;
};

/// What was settled about a dataset (atlasctl dataset set, share), as the nodes need it.
struct DatasetPolicy {
  Revalidate revalidate = Revalidate::standard;
  std::chrono::milliseconds revalidate_after{0};  ///< of Revalidate::ttl
  std::vector<std::string> exclude;               ///< patterns, besides the origin's; see common/patterns.h
  Bytes cache;                                    ///< the most a node keeps of it; 0 = no limit
  std::string tier;                               ///< where it goes if there is room; "" = anywhere
  std::chrono::milliseconds ttl{0};               ///< replicas go when they were unused for so long; 0 = never
  std::uint32_t replicas = 0;                     ///< nodes that shall hold it; 0 = those it was read on
  std::vector<Grant> grants;
  bool operator==(const DatasetPolicy&) const = default;
};

/// "r=ttl@60000,x=%2A.tmp,c=1073741824,m=ssd,t=604800000,n=2,g=1005@1001@1001"; "" when nothing was settled.
[[nodiscard]] std::string encode(const DatasetPolicy& policy);
/// Strict inverse; invalid_argument otherwise.
[[nodiscard]] Result<DatasetPolicy> decode_policy(std::string_view text);

/// --revalidate: always | never | default | ttl=DURATION.
[[nodiscard]] Status parse_revalidate_option(std::string_view text, DatasetPolicy& into);
/// The same as a text.
[[nodiscard]] std::string show_revalidate(const DatasetPolicy& policy);

}  // namespace atlas
