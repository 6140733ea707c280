#pragma once
#include <grpcpp/grpcpp.h>

#include "atlas/v1/controller.grpc.pb.h"
#include "controller/staging/executor.h"
#include "controller/staging/registry.h"
#include "controller/staging/staging.h"
#include "proto/auth.h"

namespace atlas {

/// What report streams lead into. Registry and Staging live on the strand. All of it outlives the server.
struct ReportSink {
  const Authenticator& auth;
  Executor& strand;
  Registry& registry;
  Staging& staging;
  std::function<void(const std::string&)> log;
};

/// One agent's stream: checks that root sends it, then posts what arrives to the strand in its order. Deletes itself
/// when the stream is over.
[[nodiscard]] grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>* serve_reports(
    const ReportSink& sink, grpc::CallbackServerContext* ctx);

}  // namespace atlas
