#pragma once
#include <grpcpp/grpcpp.h>

#include "atlas/v1/controller.pb.h"
#include "controller/rpc/parts.h"
#include "proto/auth.h"

namespace atlas {

/// An agent's long-lived stream, from its Hello to its loss. Only root's agents are heard.
[[nodiscard]] grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>* serve_report(
    const Authenticator& auth, const ControllerParts& parts, grpc::CallbackServerContext* ctx);

}  // namespace atlas
