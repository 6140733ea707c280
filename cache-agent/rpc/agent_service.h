#pragma once
#include <grpcpp/grpcpp.h>

#include "atlas/v1/agent.grpc.pb.h"
#include "cache-agent/fetch/executor.h"
#include "cache-agent/rpc/node.h"
#include "cache-agent/rpc/peer_service.h"
#include "proto/auth.h"

namespace atlas::agent {

/// The Agent service: checks that root or SlurmUser calls, translates, and hands over to the Node. Blocking work goes
/// to `workers`; surveys, which may take minutes, to `surveyors`. What other nodes may read comes from `peers`; without
/// it they are told that this node does not serve them. What it is given outlives the server it is registered with.
class AgentService final : public v1::Agent::CallbackService {
 public:
  AgentService(const Authenticator& auth, Node& node, Executor& workers, Executor& surveyors, PeerService* peers)
      : auth_(auth), node_(node), workers_(workers), surveyors_(surveyors), peers_(peers) {}

  grpc::ServerWriteReactor<v1::Progress>* Warm(grpc::CallbackServerContext* ctx,
                                               const v1::WarmRequest* request) override;
  grpc::ServerUnaryReactor* CancelWarm(grpc::CallbackServerContext* ctx, const v1::CancelWarmRequest* request,
                                       v1::CancelWarmReply* reply) override;
  grpc::ServerWriteReactor<v1::Progress>* Survey(grpc::CallbackServerContext* ctx,
                                                 const v1::SurveyRequest* request) override;
  grpc::ServerUnaryReactor* Plan(grpc::CallbackServerContext* ctx, const v1::PlanRequest* request,
                                 v1::PlanReply* reply) override;
  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* ctx, const v1::ReleaseRequest* request,
                                    v1::ReleaseReply* reply) override;
  grpc::ServerUnaryReactor* Evict(grpc::CallbackServerContext* ctx, const v1::EvictRequest* request,
                                  v1::EvictReply* reply) override;
  grpc::ServerUnaryReactor* Pin(grpc::CallbackServerContext* ctx, const v1::PinRequest* request,
                                v1::PinReply* reply) override;
  grpc::ServerWriteReactor<v1::FetchReply>* Fetch(grpc::CallbackServerContext* ctx,
                                                  const v1::FetchRequest* request) override;

 private:
  [[nodiscard]] Status allow(Caller caller) const;

  const Authenticator& auth_;
  Node& node_;
  Executor& workers_;
  Executor& surveyors_;
  PeerService* peers_;
};

}  // namespace atlas::agent
