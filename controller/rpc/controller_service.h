#pragma once
#include <grpcpp/grpcpp.h>

#include "atlas/v1/controller.grpc.pb.h"
#include "controller/rpc/queries.h"
#include "controller/rpc/report_stream.h"
#include "proto/auth.h"

namespace atlas {

/// The Controller service: checks who calls, posts to the strand, translates. Handlers never block. What it is given
/// outlives the server.
class ControllerService final : public v1::Controller::CallbackService {
 public:
  ControllerService(const Authenticator& auth, ControllerParts parts, ReportSink reports)
      : auth_(auth), parts_(parts), reports_(std::move(reports)) {}

  template <class Message>
  using Writer = grpc::ServerWriteReactor<Message>;
  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>* Report(Context* ctx) override {
    return serve_reports(reports_, ctx);
  }
  Unary* JobPlan(Context* ctx, const v1::JobPlanRequest* request, v1::JobPlanReply* reply) override;
  Unary* Hook(Context* ctx, const v1::HookRequest* request, v1::HookReply* reply) override;

  Writer<v1::JobStatus>* WatchJob(Context* ctx, const v1::WatchJobRequest* request) override;
  Unary* Explain(Context* ctx, const v1::ExplainRequest* request, v1::ExplainReply* reply) override;
  Unary* ListJobs(Context* ctx, const v1::ListJobsRequest* request, v1::ListJobsReply* reply) override;
  Unary* ListDatasets(Context* ctx, const v1::ListDatasetsRequest* request, v1::ListDatasetsReply* reply) override;
  Unary* CreateDataset(Context* ctx, const v1::CreateDatasetRequest* request, v1::CreateDatasetReply* reply) override;
  Unary* DeleteDataset(Context* ctx, const v1::DeleteDatasetRequest* request, v1::DeleteDatasetReply* reply) override;
  Writer<v1::Progress>* WarmDataset(Context* ctx, const v1::WarmDatasetRequest* request) override;
  Unary* Placement(Context* ctx, const v1::PlacementRequest* request, v1::PlacementReply* reply) override;
  Unary* ListNodes(Context* ctx, const v1::ListNodesRequest* request, v1::ListNodesReply* reply) override;
  Unary* DrainNode(Context* ctx, const v1::DrainNodeRequest* request, v1::DrainNodeReply* reply) override;
  Unary* PinDataset(Context* ctx, const v1::PinDatasetRequest* request, v1::PinDatasetReply* reply) override;
  Unary* EvictDataset(Context* ctx, const v1::EvictDatasetRequest* request, v1::EvictDatasetReply* reply) override;
  Unary* Doctor(Context* ctx, const v1::DoctorRequest* request, v1::DoctorReply* reply) override;

 private:
  /// Serves a unary call whose answer is made on the strand by answer(person, request) -> Result<Reply>.
  template <class Request, class Reply, class Answer>
  Unary* on_strand(Context* ctx, const char* name, const Request* request, Reply* reply, Answer answer);

  const Authenticator& auth_;
  const ControllerParts parts_;
  const ReportSink reports_;
};

}  // namespace atlas
