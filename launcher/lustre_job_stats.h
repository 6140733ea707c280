#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

namespace atlas::ctl {

/// What the object storage servers of a Lustre have read for somebody.
struct LustreReads {
  std::uint64_t bytes = 0, requests = 0;
};

/// What `lctl get_param obdfilter.*.job_stats` prints, of any number of targets and servers: added up by Lustre's job
/// ids. An entry that is cut off or malformed is an error that names its line; what has read nothing is left out.
[[nodiscard]] Result<std::map<std::string, LustreReads>> parse_job_stats(std::string_view text);
/// The Slurm job in one of Lustre's job ids: "%j" of jobid_name with or without more behind it ("42:1000:n001"), with
/// jobid_var = SLURM_JOB_ID. None for those of programs outside of jobs ("rsync.1000").
[[nodiscard]] std::optional<std::uint32_t> slurm_job(std::string_view id);
/// Is it a cache agent's? Its readers are in no job.
[[nodiscard]] bool is_cache_agent(std::string_view id);

}  // namespace atlas::ctl
