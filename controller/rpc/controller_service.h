#pragma once
#include "atlas/v1/controller.grpc.pb.h"
#include "controller/rpc/parts.h"
#include "proto/auth.h"
#include "proto/server.h"

namespace atlas {

/// The Controller service. Handlers check who calls, post to the strand and return.
class ControllerService final : public v1::Controller::CallbackService {
 public:
  ControllerService(const Authenticator& auth, const ControllerParts& parts) : auth_(auth), parts_(parts) {}

  grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>* Report(grpc::CallbackServerContext* ctx) override;
  grpc::ServerUnaryReactor* JobPlan(grpc::CallbackServerContext* ctx, const v1::JobPlanRequest* request,
                                    v1::JobPlanReply* reply) override;
  grpc::ServerUnaryReactor* Peers(grpc::CallbackServerContext* ctx, const v1::PeersRequest* request,
                                  v1::PeersReply* reply) override;
  grpc::ServerUnaryReactor* ReserveCache(grpc::CallbackServerContext* ctx, const v1::ReserveCacheRequest* request,
                                         v1::ReserveCacheReply* reply) override;
  grpc::ServerUnaryReactor* SetLimit(grpc::CallbackServerContext* ctx, const v1::SetLimitRequest* request,
                                     v1::SetLimitReply* reply) override;
  grpc::ServerUnaryReactor* ShowLimit(grpc::CallbackServerContext* ctx, const v1::ShowLimitRequest* request,
                                      v1::ShowLimitReply* reply) override;
  grpc::ServerUnaryReactor* ListLimits(grpc::CallbackServerContext* ctx, const v1::ListLimitsRequest* request,
                                       v1::ListLimitsReply* reply) override;
  grpc::ServerUnaryReactor* DeleteLimit(grpc::CallbackServerContext* ctx, const v1::DeleteLimitRequest* request,
                                        v1::DeleteLimitReply* reply) override;
  grpc::ServerUnaryReactor* Top(grpc::CallbackServerContext* ctx, const v1::TopRequest* request,
                                v1::TopReply* reply) override;
  grpc::ServerUnaryReactor* Hook(grpc::CallbackServerContext* ctx, const v1::HookRequest* request,
                                 v1::HookReply* reply) override;
  grpc::ServerWriteReactor<v1::JobStatus>* WatchJob(grpc::CallbackServerContext* ctx,
                                                    const v1::WatchJobRequest* request) override;
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* ctx, const v1::ExplainRequest* request,
                                    v1::ExplainReply* reply) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* ctx, const v1::ListJobsRequest* request,
                                     v1::ListJobsReply* reply) override;
  grpc::ServerUnaryReactor* ListDatasets(grpc::CallbackServerContext* ctx, const v1::ListDatasetsRequest* request,
                                         v1::ListDatasetsReply* reply) override;
  grpc::ServerUnaryReactor* CreateDataset(grpc::CallbackServerContext* ctx, const v1::CreateDatasetRequest* request,
                                          v1::CreateDatasetReply* reply) override;
  grpc::ServerUnaryReactor* SetDataset(grpc::CallbackServerContext* ctx, const v1::SetDatasetRequest* request,
                                       v1::SetDatasetReply* reply) override;
  grpc::ServerUnaryReactor* ShareDataset(grpc::CallbackServerContext* ctx, const v1::ShareDatasetRequest* request,
                                         v1::ShareDatasetReply* reply) override;
  grpc::ServerUnaryReactor* DeleteDataset(grpc::CallbackServerContext* ctx, const v1::DeleteDatasetRequest* request,
                                          v1::DeleteDatasetReply* reply) override;
  grpc::ServerWriteReactor<v1::Progress>* WarmDataset(grpc::CallbackServerContext* ctx,
                                                      const v1::WarmDatasetRequest* request) override;
  grpc::ServerUnaryReactor* Placement(grpc::CallbackServerContext* ctx, const v1::PlacementRequest* request,
                                      v1::PlacementReply* reply) override;
  grpc::ServerUnaryReactor* ListNodes(grpc::CallbackServerContext* ctx, const v1::ListNodesRequest* request,
                                      v1::ListNodesReply* reply) override;
  grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* ctx, const v1::DrainNodeRequest* request,
                                      v1::DrainNodeReply* reply) override;
  grpc::ServerUnaryReactor* PinDataset(grpc::CallbackServerContext* ctx, const v1::PinDatasetRequest* request,
                                       v1::PinDatasetReply* reply) override;
  grpc::ServerUnaryReactor* EvictDataset(grpc::CallbackServerContext* ctx, const v1::EvictDatasetRequest* request,
                                         v1::EvictDatasetReply* reply) override;
  grpc::ServerUnaryReactor* Observed(grpc::CallbackServerContext* ctx, const v1::ObservedRequest* request,
                                     v1::ObservedReply* reply) override;
  grpc::ServerUnaryReactor* Doctor(grpc::CallbackServerContext* ctx, const v1::DoctorRequest* request,
                                   v1::DoctorReply* reply) override;

 private:
  [[nodiscard]] Person person(Caller caller) const {
    return {caller, parts_.users.name_of(caller.uid), parts_.users.is_operator(caller.uid),
            parts_.users.groups_of(caller.uid)};
  }
  /// A call whose answer is made on the strand from (person, request).
  template <class Request, class Reply, class Answer>
  grpc::ServerUnaryReactor* on_strand(grpc::CallbackServerContext* ctx, std::string_view name, const Request* request,
                                      Reply* reply, Answer answer);

  /// Same, of what answers later by itself.
  template <class Request, class Reply>
  grpc::ServerUnaryReactor* later(grpc::CallbackServerContext* ctx, std::string_view name, const Request* request,
                                  Reply* reply,
                                  void (*work)(const ControllerParts&, const Person&, const Request&, Respond<Reply>));

  const Authenticator& auth_;
  const ControllerParts parts_;
};

}  // namespace atlas
