#pragma once
#include <memory>
#include <string>

#include "atlas/v1/controller.grpc.pb.h"
#include "cache-agent/rpc/node.h"
#include "proto/auth.h"

namespace atlas::agent {

/// Asks the controller for a job's plan. Thread-safe; `auth` outlives it.
class PlanClient final : public PlanSource {
 public:
  PlanClient(const Authenticator& auth, std::shared_ptr<grpc::Channel> channel, std::string peer, std::string node)
      : auth_(auth),
        stub_(v1::Controller::NewStub(std::move(channel))),
        peer_(std::move(peer)),
        node_(std::move(node)) {}
  [[nodiscard]] Result<std::optional<JobOrder>> plan_of(std::uint32_t job_id, SteadyTime deadline) override;

 private:
  const Authenticator& auth_;
  const std::unique_ptr<v1::Controller::Stub> stub_;
  const std::string peer_, node_;
};

}  // namespace atlas::agent
