#pragma once
#include "atlas/v1/controller.pb.h"
#include "launcher/atlas_submit_plan.h"

namespace atlas {

/// The question --explain asks for this plan.
[[nodiscard]] Result<v1::ExplainRequest> explain_request(const SubmitPlan& plan);
/// The answer for people: candidates, decision, reason.
[[nodiscard]] std::string explain_text(const v1::ExplainReply& reply, const Config& config);
/// Asks and prints; nothing is submitted. Returns the exit code.
[[nodiscard]] int explain(const Config& config, const SubmitPlan& plan, bool json);

}  // namespace atlas
