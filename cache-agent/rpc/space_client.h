#pragma once
#include <memory>
#include <string>

#include "atlas/v1/controller.grpc.pb.h"
#include "cache-agent/warm/cache_space.h"
#include "proto/auth.h"

namespace atlas::agent {

/// Asks the controller for cache space. Thread-safe; `auth` outlives it.
class SpaceClient final : public SpaceSource {
 public:
  SpaceClient(const Authenticator& auth, std::shared_ptr<grpc::Channel> channel, std::string peer, std::string node)
      : auth_(auth),
        stub_(v1::Controller::NewStub(std::move(channel))),
        peer_(std::move(peer)),
        node_(std::move(node)) {}
  [[nodiscard]] Result<SpaceAnswer> ask(const SpaceQuestion& question) override;

 private:
  const Authenticator& auth_;
  const std::unique_ptr<v1::Controller::Stub> stub_;
  const std::string peer_, node_;
};

}  // namespace atlas::agent
