#pragma once
#include <string>

#include "atlas/v1/controller.pb.h"

namespace atlas {

/// Milliseconds of an estimate, shown as whole seconds.
[[nodiscard]] std::string plan_span(std::int64_t ms);

/// What was weighed for a job, as a table, what was chosen first and marked; "" if nothing was.
[[nodiscard]] std::string plan_table(const google::protobuf::RepeatedPtrField<v1::Alternative>& plan);

/// What was planned for a job that has ended, and what came of it, in one sentence; "" if either is not known.
[[nodiscard]] std::string plan_and_outcome(const v1::JobStatus& job);

}  // namespace atlas
