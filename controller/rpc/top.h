#pragma once
#include "atlas/v1/controller.pb.h"
#include "controller/rpc/parts.h"

namespace atlas {

/// What is read now: by node, by user, by dataset. Operators see all of it, a user what is read for him. On the strand.
[[nodiscard]] v1::TopReply top(const ControllerParts& parts, const Person& person);

}  // namespace atlas
