#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "atlas/v1/agent.grpc.pb.h"
#include "controller/staging/agent_port.h"
#include "proto/auth.h"

namespace atlas {

/// The agents over gRPC. Thread-safe; nothing blocks. `auth` outlives every call that was made.
class GrpcAgents final : public AgentPort {
 public:
  explicit GrpcAgents(const Authenticator& auth) : auth_(auth) {}

  void warm(const std::string& address, WarmOrder order, std::function<void(WarmProgress)> progress,
            std::function<void(Status)> done) override;
  void cancel_warm(const std::string& address, const DatasetId& dataset, const Principal& as) override;
  void plan(const std::string& address, PlanOrder order,
            std::function<void(Result<std::vector<ReplicaInfo>>)> done) override;
  void release(const std::string& address, const JobKey& job,
               std::function<void(Result<ReleaseOutcome>)> done) override;
  void evict(const std::string& address, const DatasetId& dataset,
             std::function<void(Result<EvictOutcome>)> done) override;
  void pin(const std::string& address, const DatasetId& dataset, bool pinned,
           std::function<void(Result<std::uint32_t>)> done) override;

 private:
  /// The stub of an address; made once, kept (a cluster has as many as nodes).
  [[nodiscard]] v1::Agent::Stub& stub(const std::string& address);

  const Authenticator& auth_;
  std::mutex mutex_;  ///< guards stubs_
  std::map<std::string, std::unique_ptr<v1::Agent::Stub>> stubs_;
};

}  // namespace atlas
