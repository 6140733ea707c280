#pragma once
#include "atlas/v1/controller.pb.h"
#include "controller/rpc/parts.h"
#include "proto/server.h"

namespace atlas {

/// What would be done with such a job now, and why. Changes nothing. A dataset that has never been seen is walked for
/// it as the person who asks, for ten seconds at most, on some node; the answer comes later then. On the strand.
void explain(const ControllerParts& parts, const Person& person, const v1::ExplainRequest& request,
             Respond<v1::ExplainReply> respond);

}  // namespace atlas
