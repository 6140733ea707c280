#pragma once
#include <string>
#include <string_view>

#include "common/request.h"
#include "common/result.h"

namespace atlas {

/// What atlas-attach tells the plugin that ran it; the namespace's descriptor comes along when there is one.
struct AttachReport {
  bool known = false;         ///< false: the job asked Atlas for nothing
  bool mounts = false;        ///< prepare: there is something to mount; join: the job's namespace is attached
  bool directory_ok = false;  ///< join: the working directory can be entered in the namespace, as the user
  std::string cache_state;    ///< value for ATLAS_CACHE_STATE; "" = leave it
  std::string announcement;   ///< the line for the job's stderr; "" = none
  std::string refused;        ///< its user does not want the job to start: why; "" = it starts
};

[[nodiscard]] std::string encode(const AttachReport& report);
/// invalid_argument for anything that encode() would not have made.
[[nodiscard]] Result<AttachReport> decode_attach_report(std::string_view bytes);

/// One entry of ATLAS_CACHE_STATE: "/data/speech=complete". The path (or name) is percent-encoded, so that neither ':'
/// nor '=' occurs in it; entries are joined by ':'.
[[nodiscard]] std::string cache_state_entry(std::string_view dataset, std::string_view state);
/// ATLAS_CACHE_STATE of a job that reads everything from the origin.
[[nodiscard]] std::string cache_state_of_origin(const Request& request);
/// The same text with every state turned into "origin".
[[nodiscard]] std::string cache_state_without_cache(std::string_view cache_state);

}  // namespace atlas
