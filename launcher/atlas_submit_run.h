#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/atlas_submit_plan.h"

namespace atlas {

/// Becomes sbatch: returns only when sbatch cannot be started.
[[nodiscard]] Error exec_sbatch(const SubmitPlan& plan);

/// Runs sbatch as a child; `on_line` gets each line of its standard output (without newline) as it comes. Returns the
/// exit code, 128+N when a signal ended it.
[[nodiscard]] Result<int> run_sbatch(const SubmitPlan& plan, const std::function<void(std::string_view)>& on_line);

/// The job id in a line of sbatch's ("Submitted batch job 17", with --parsable "17" or "17;cluster").
[[nodiscard]] std::optional<std::uint32_t> job_id_in(std::string_view line);

}  // namespace atlas
