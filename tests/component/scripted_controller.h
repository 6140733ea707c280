#pragma once
#include <grpcpp/grpcpp.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "atlas/v1/controller.grpc.pb.h"
#include "proto/server.h"
#include "tests/support/private_munged.h"

namespace atlas::test {

/// The far end of the wire for tests of the command lines: real gRPC and real munge, answers as a test sets them. An
/// answer that is not set is unimplemented, as from an older controller.
class ScriptedController final : public v1::Controller::CallbackService {
 public:
  explicit ScriptedController(const Authenticator& auth) : auth_(auth) {}

  template <class Request, class Reply>
  using Answer = std::function<Result<Reply>(const Request&)>;
  template <class Message>
  using Stream = std::shared_ptr<ServerStream<Message>>;

  Answer<v1::ListDatasetsRequest, v1::ListDatasetsReply> list_datasets;
  Answer<v1::CreateDatasetRequest, v1::CreateDatasetReply> create_dataset;
  Answer<v1::PlacementRequest, v1::PlacementReply> placement;
  Answer<v1::ListNodesRequest, v1::ListNodesReply> list_nodes;
  Answer<v1::DrainNodeRequest, v1::DrainNodeReply> drain_node;
  Answer<v1::ListJobsRequest, v1::ListJobsReply> list_jobs;
  Answer<v1::EvictDatasetRequest, v1::EvictDatasetReply> evict;
  Answer<v1::ExplainRequest, v1::ExplainReply> explain;
  Answer<v1::SetLimitRequest, v1::SetLimitReply> set_limit;
  Answer<v1::ListLimitsRequest, v1::ListLimitsReply> list_limits;
  Answer<v1::DeleteLimitRequest, v1::DeleteLimitReply> delete_limit;
  Answer<v1::TopRequest, v1::TopReply> top;
  Answer<v1::DoctorRequest, v1::DoctorReply> doctor;
  std::function<void(const v1::WatchJobRequest&, Stream<v1::JobStatus>)> watch_job;
  std::function<void(const v1::WarmDatasetRequest&, Stream<v1::Progress>)> warm_dataset;

#define ATLAS_SCRIPTED(Method, member)                                                                   \
  grpc::ServerUnaryReactor* Method(grpc::CallbackServerContext* ctx, const v1::Method##Request* request, \
                                   v1::Method##Reply* reply) override {                                  \
    return answer(ctx, "Controller." #Method, request, reply, member);                                   \
  }
  ATLAS_SCRIPTED(ListDatasets, list_datasets)
  ATLAS_SCRIPTED(CreateDataset, create_dataset)
  ATLAS_SCRIPTED(Placement, placement)
  ATLAS_SCRIPTED(ListNodes, list_nodes)
  ATLAS_SCRIPTED(DrainNode, drain_node)
  ATLAS_SCRIPTED(ListJobs, list_jobs)
  ATLAS_SCRIPTED(EvictDataset, evict)
  ATLAS_SCRIPTED(Explain, explain)
  ATLAS_SCRIPTED(SetLimit, set_limit)
  ATLAS_SCRIPTED(ListLimits, list_limits)
  ATLAS_SCRIPTED(DeleteLimit, delete_limit)
  ATLAS_SCRIPTED(Top, top)
  ATLAS_SCRIPTED(Doctor, doctor)
#undef ATLAS_SCRIPTED

  grpc::ServerWriteReactor<v1::JobStatus>* WatchJob(grpc::CallbackServerContext* ctx,
                                                    const v1::WatchJobRequest* request) override {
    return stream<v1::JobStatus>(ctx, "Controller.WatchJob", request, watch_job);
  }
  grpc::ServerWriteReactor<v1::Progress>* WarmDataset(grpc::CallbackServerContext* ctx,
                                                      const v1::WarmDatasetRequest* request) override {
    return stream<v1::Progress>(ctx, "Controller.WarmDataset", request, warm_dataset);
  }

 private:
  template <class Request, class Reply>
  grpc::ServerUnaryReactor* answer(grpc::CallbackServerContext* ctx, const char* name, const Request* request,
                                   Reply* reply, const Answer<Request, Reply>& how) {
    return serve_unary(auth_, ctx, name, request, reply, [&how](Caller, const Request& in, Respond<Reply> respond) {
      respond(how ? how(in) : Result<Reply>(fail(Code::unimplemented, "not known here")));
    });
  }
  template <class Message, class Request, class How>
  grpc::ServerWriteReactor<Message>* stream(grpc::CallbackServerContext* ctx, const char* name, const Request* request,
                                            const How& how) {
    return serve_stream<Message>(auth_, ctx, name, request, [&how](Caller, const Request& in, Stream<Message> out) {
      if (how) return how(in, std::move(out));
      out->finish(fail(Code::unimplemented, "not known here"));
    });
  }

  const Authenticator& auth_;
};

}  // namespace atlas::test
