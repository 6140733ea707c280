#include "controller/rpc/controller_service.h"

#include <chrono>
#include <utility>

#include "controller/rpc/actions.h"
#include "proto/convert.h"
#include "proto/server.h"

namespace atlas {
namespace {

v1::JobPlanReply to_wire(const std::optional<PlanOrder>& order) {
  v1::JobPlanReply reply;
  reply.set_known(order.has_value());
  if (!order) return reply;
  *reply.mutable_job() = to_wire(order->job);
  *reply.mutable_as() = to_wire(order->as);
  for (const auto& [dataset, generation] : order->datasets) {
    *reply.add_datasets() = to_wire(dataset);
    reply.add_generations(generation.empty() ? std::string() : generation.bytes());
  }
  reply.set_reason(order->reason);
  reply.set_waited(order->waited.count());
  return reply;
}

std::optional<Staging::Hook> hook_of(v1::HookRequest::Hook hook) {
  switch (hook) {
    case v1::HookRequest::HOOK_DATA_IN:
      return Staging::Hook::data_in;
    case v1::HookRequest::HOOK_PRE_RUN:
      return Staging::Hook::pre_run;
    case v1::HookRequest::HOOK_TEARDOWN:
      return Staging::Hook::teardown;
    default:
      return std::nullopt;
  }
}

Status not_yours(std::uint32_t job) {
  return fail(Code::permission_denied, "job " + std::to_string(job) + " is another user's");
}

}  // namespace

template <class Request, class Reply, class Answer>
ControllerService::Unary* ControllerService::on_strand(Context* ctx, const char* name, const Request* request,
                                                       Reply* reply, Answer answer) {
  return serve_unary(
      auth_, ctx, name, request, reply, [this, answer](Caller caller, const Request& in, Respond<Reply> respond) {
        parts_.strand.post([who = person_of(parts_.users, caller), &in, respond, answer] { respond(answer(who, in)); });
      });
}

ControllerService::Unary* ControllerService::JobPlan(Context* ctx, const v1::JobPlanRequest* request,
                                                     v1::JobPlanReply* reply) {
  return serve_unary(auth_, ctx, "Controller.JobPlan", request, reply,
                     [this](Caller caller, const v1::JobPlanRequest& in, Respond<v1::JobPlanReply> respond) {
                       if (caller.uid != 0)
                         return respond(fail(Code::permission_denied, "only a node's agent may ask for a job's plan"));
                       parts_.strand.post([this, job = in.job_id(), node = in.node(), respond] {
                         parts_.staging.job_plan(job, node, [respond](Result<std::optional<PlanOrder>> order) {
                           if (!order) return respond(fail(std::move(order).error()));
                           respond(to_wire(*order));
                         });
                       });
                     });
}

ControllerService::Unary* ControllerService::Hook(Context* ctx, const v1::HookRequest* request, v1::HookReply* reply) {
  return serve_unary(auth_, ctx, "Controller.Hook", request, reply,
                     [this](Caller caller, const v1::HookRequest& in, Respond<v1::HookReply> respond) {
                       if (!auth_.trusts(caller.uid))
                         return respond(fail(Code::permission_denied, "hooks are SlurmUser's and root's"));
                       const auto which = hook_of(in.hook());
                       if (!which) return respond(fail(Code::unimplemented, "a hook that this version does not know"));
                       parts_.strand.post([this, which = *which, job = in.job_id(), respond] {
                         parts_.staging.hook(which, job, [respond](Result<Staging::HookAnswer> answer) {
                           if (!answer) return respond(fail(std::move(answer).error()));
                           v1::HookReply out;
                           out.set_ready(answer->ready);
                           out.set_message(answer->message);
                           respond(std::move(out));
                         });
                       });
                     });
}

ControllerService::Writer<v1::JobStatus>* ControllerService::WatchJob(Context* ctx,
                                                                      const v1::WatchJobRequest* request) {
  using Stream = std::shared_ptr<ServerStream<v1::JobStatus>>;
  return serve_stream<v1::JobStatus>(
      auth_, ctx, "Controller.WatchJob", request, [this](Caller caller, const v1::WatchJobRequest& in, Stream stream) {
        const Person who = person_of(parts_.users, caller);
        parts_.strand.post([this, who, in, stream] {
          parts_.staging.find_job(in.job_id(), [this, who, in, stream](Result<JobView> view) {
            if (!view) return stream->finish(fail(std::move(view).error()));
            if (!who.is_operator && view->row.uid != who.caller.uid) return stream->finish(not_yours(in.job_id()));
            stream->write(to_wire(*view, parts_.users));
            if (!in.follow() || view->row.phase == JobPhase::ended) return stream->finish({});
            parts_.staging.watch(
                in.job_id(), {[this, stream](const JobView& now) { return stream->write(to_wire(now, parts_.users)); },
                              [stream](const Status& result) { stream->finish(result); }});
          });
        });
      });
}

ControllerService::Unary* ControllerService::Explain(Context* ctx, const v1::ExplainRequest* request,
                                                     v1::ExplainReply* reply) {
  return on_strand(ctx, "Controller.Explain", request, reply,
                   [this](const Person&, const v1::ExplainRequest& in) { return explain(parts_, in); });
}

ControllerService::Unary* ControllerService::ListJobs(Context* ctx, const v1::ListJobsRequest* request,
                                                      v1::ListJobsReply* reply) {
  return on_strand(
      ctx, "Controller.ListJobs", request, reply,
      [this](const Person& who, const v1::ListJobsRequest& in) { return list_jobs(parts_, who, in.all()); });
}

ControllerService::Unary* ControllerService::ListDatasets(Context* ctx, const v1::ListDatasetsRequest* request,
                                                          v1::ListDatasetsReply* reply) {
  return on_strand(
      ctx, "Controller.ListDatasets", request, reply,
      [this](const Person& who, const v1::ListDatasetsRequest& in) { return list_datasets(parts_, who, in.which()); });
}

ControllerService::Unary* ControllerService::CreateDataset(Context* ctx, const v1::CreateDatasetRequest* request,
                                                           v1::CreateDatasetReply* reply) {
  return on_strand(
      ctx, "Controller.CreateDataset", request, reply,
      [this](const Person& who, const v1::CreateDatasetRequest& in) { return create_dataset(parts_, who, in); });
}

ControllerService::Unary* ControllerService::DeleteDataset(Context* ctx, const v1::DeleteDatasetRequest* request,
                                                           v1::DeleteDatasetReply* reply) {
  return on_strand(
      ctx, "Controller.DeleteDataset", request, reply,
      [this](const Person& who, const v1::DeleteDatasetRequest& in) { return delete_dataset(parts_, who, in); });
}

ControllerService::Writer<v1::Progress>* ControllerService::WarmDataset(Context* ctx,
                                                                        const v1::WarmDatasetRequest* request) {
  using Stream = std::shared_ptr<ServerStream<v1::Progress>>;
  return serve_stream<v1::Progress>(
      auth_, ctx, "Controller.WarmDataset", request,
      [this](Caller caller, const v1::WarmDatasetRequest& in, Stream stream) {
        if (caller.uid == 0)
          return stream->finish(
              fail(Code::permission_denied, "warm as the user whose data it is: root's eyes see what no job may"));
        parts_.strand.post(
            [this, who = person_of(parts_.users, caller), in, stream] { warm_dataset(parts_, who, in, stream); });
      });
}

ControllerService::Unary* ControllerService::Placement(Context* ctx, const v1::PlacementRequest* request,
                                                       v1::PlacementReply* reply) {
  return on_strand(ctx, "Controller.Placement", request, reply,
                   [this](const Person& who, const v1::PlacementRequest& in) { return placement(parts_, who, in); });
}

ControllerService::Unary* ControllerService::ListNodes(Context* ctx, const v1::ListNodesRequest* request,
                                                       v1::ListNodesReply* reply) {
  return on_strand(ctx, "Controller.ListNodes", request, reply,
                   [this](const Person&, const v1::ListNodesRequest& in) { return list_nodes(parts_, in.nodes()); });
}

ControllerService::Unary* ControllerService::DrainNode(Context* ctx, const v1::DrainNodeRequest* request,
                                                       v1::DrainNodeReply* reply) {
  return on_strand(ctx, "Controller.DrainNode", request, reply,
                   [this](const Person& who, const v1::DrainNodeRequest& in) { return drain_nodes(parts_, who, in); });
}

ControllerService::Unary* ControllerService::PinDataset(Context* ctx, const v1::PinDatasetRequest* request,
                                                        v1::PinDatasetReply* reply) {
  return serve_unary(auth_, ctx, "Controller.PinDataset", request, reply,
                     [this](Caller caller, const v1::PinDatasetRequest& in, Respond<v1::PinDatasetReply> respond) {
                       parts_.strand.post([this, who = person_of(parts_.users, caller), in, respond] {
                         pin_dataset(parts_, who, in, respond);
                       });
                     });
}

ControllerService::Unary* ControllerService::EvictDataset(Context* ctx, const v1::EvictDatasetRequest* request,
                                                          v1::EvictDatasetReply* reply) {
  return serve_unary(auth_, ctx, "Controller.EvictDataset", request, reply,
                     [this](Caller caller, const v1::EvictDatasetRequest& in, Respond<v1::EvictDatasetReply> respond) {
                       parts_.strand.post([this, who = person_of(parts_.users, caller), in, respond] {
                         evict_dataset(parts_, who, in, respond);
                       });
                     });
}

ControllerService::Unary* ControllerService::Doctor(Context* ctx, const v1::DoctorRequest* request,
                                                    v1::DoctorReply* reply) {
  return on_strand(
      ctx, "Controller.Doctor", request, reply,
      [this](const Person&, const v1::DoctorRequest&) -> Result<v1::DoctorReply> { return doctor(parts_); });
}

}  // namespace atlas
