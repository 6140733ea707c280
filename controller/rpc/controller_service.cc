#include "controller/rpc/controller_service.h"

#include "common/percent.h"
#include "controller/rpc/agent_clients.h"
#include "controller/rpc/dataset_settings.h"
#include "controller/rpc/explain.h"
#include "controller/rpc/limits.h"
#include "controller/rpc/operations.h"
#include "controller/rpc/queries.h"
#include "controller/rpc/report_stream.h"
#include "controller/rpc/top.h"
#include "proto/convert.h"
#include "proto/server.h"

namespace atlas {
namespace {

/// What a handler on the strand may throw (no memory, a bug) becomes the caller's error, not the daemon's end.
template <class Reply, class Work>
void guarded(const Respond<Reply>& respond, Work&& work) {
  try {
    work();
  } catch (const std::exception& error) {
    respond(fail(Code::internal, error.what()));
  }
}

}  // namespace

template <class Request, class Reply, class Answer>
grpc::ServerUnaryReactor* ControllerService::on_strand(grpc::CallbackServerContext* ctx, std::string_view name,
                                                       const Request* request, Reply* reply, Answer answer) {
  return serve_unary(auth_, ctx, name, request, reply,
                     [this, answer](Caller caller, const Request& in, Respond<Reply> respond) {
                       parts_.strand.post([answer, who = person(caller), in, respond] {
                         Result<Reply> result = fail(Code::internal, "no answer");
                         try {
                           result = answer(who, in);
                         } catch (const std::exception& error) {
                           result = fail(Code::internal, error.what());
                         }
                         respond(std::move(result));
                       });
                     });
}

template <class Request, class Reply>
grpc::ServerUnaryReactor* ControllerService::later(grpc::CallbackServerContext* ctx, std::string_view name,
                                                   const Request* request, Reply* reply,
                                                   void (*work)(const ControllerParts&, const Person&, const Request&,
                                                                Respond<Reply>)) {
  return serve_unary(auth_, ctx, name, request, reply,
                     [this, work](Caller caller, const Request& in, Respond<Reply> respond) {
                       parts_.strand.post([this, work, who = person(caller), in, respond] {
                         guarded(respond, [&] { work(parts_, who, in, respond); });
                       });
                     });
}

grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>* ControllerService::Report(
    grpc::CallbackServerContext* ctx) {
  return serve_report(auth_, parts_, ctx);
}

grpc::ServerUnaryReactor* ControllerService::JobPlan(grpc::CallbackServerContext* ctx,
                                                     const v1::JobPlanRequest* request, v1::JobPlanReply* reply) {
  return serve_unary(auth_, ctx, "Controller.JobPlan", request, reply,
                     [this](Caller caller, const v1::JobPlanRequest& in, const Respond<v1::JobPlanReply>& respond) {
                       if (!auth_.trusts(caller.uid))
                         return respond(fail(Code::permission_denied, "JobPlan is for the nodes' agents"));
                       parts_.strand.post([this, in, respond] {
                         guarded(respond, [&] {
                           parts_.staging.job_plan(
                               in.job_id(), in.node(), [respond](const Result<std::optional<PlanOrder>>& order) {
                                 if (!order) return respond(fail(order.error()));
                                 v1::JobPlanReply out;
                                 out.set_known(order->has_value());
                                 if (*order) {
                                   *out.mutable_job() = to_wire((*order)->job);
                                   *out.mutable_as() = to_wire((*order)->as);
                                   for (const auto& item : (*order)->datasets) {
                                     *out.add_datasets() = to_wire(item.dataset);
                                     out.add_generations(item.generation.empty() ? "" : item.generation.bytes());
                                     out.add_policies(encode(item.policy));
                                     out.add_ages(age_of(item.asked));
                                     out.add_read_write(item.read_write);
                                   }
                                   out.set_on_change(to_wire((*order)->on_change));
                                   out.set_account((*order)->account);
                                   *out.mutable_io_limit() = to_wire((*order)->io_limit);
                                   for (const auto& node : (*order)->divided) *out.add_divided() = to_wire(node);
                                   out.set_reason(printable((*order)->reason));
                                   out.set_waited((*order)->waited.count());
                                   out.set_cache_limit((*order)->cache_limit.count);
                                 }
                                 respond(std::move(out));
                               });
                         });
                       });
                     });
}

grpc::ServerUnaryReactor* ControllerService::Peers(grpc::CallbackServerContext* ctx, const v1::PeersRequest* request,
                                                   v1::PeersReply* reply) {
  return on_strand(ctx, "Controller.Peers", request, reply,
                   [this](const Person& person, const v1::PeersRequest& in) -> Result<v1::PeersReply> {
                     if (!auth_.trusts(person.caller.uid))
                       return fail(Code::permission_denied, "Peers is for the nodes' agents");
                     return find_peers(parts_, in);
                   });
}

grpc::ServerUnaryReactor* ControllerService::ReserveCache(grpc::CallbackServerContext* ctx,
                                                          const v1::ReserveCacheRequest* request,
                                                          v1::ReserveCacheReply* reply) {
  return serve_unary(
      auth_, ctx, "Controller.ReserveCache", request, reply,
      [this](Caller caller, const v1::ReserveCacheRequest& in, const Respond<v1::ReserveCacheReply>& respond) {
        if (!auth_.trusts(caller.uid))
          return respond(fail(Code::permission_denied, "ReserveCache is for the nodes' agents"));
        parts_.strand.post([this, in, respond] { guarded(respond, [&] { reserve_cache(parts_, in, respond); }); });
      });
}

grpc::ServerUnaryReactor* ControllerService::SetLimit(grpc::CallbackServerContext* ctx,
                                                      const v1::SetLimitRequest* request, v1::SetLimitReply* reply) {
  return serve_unary(auth_, ctx, "Controller.SetLimit", request, reply,
                     [this](Caller caller, const v1::SetLimitRequest& in, const Respond<v1::SetLimitReply>& respond) {
                       const auto who = person(caller);
                       // Not on the strand; who is refused there need not wait for it.
                       const auto subject = who.is_operator ? look_up(in.subject()) : LimitSubject{};
                       if (!subject) return respond(fail(subject.error()));
                       parts_.strand.post([this, who, in, subject = *subject, respond] {
                         guarded(respond, [&] { respond(set_limit(parts_, who, in, subject)); });
                       });
                     });
}

grpc::ServerUnaryReactor* ControllerService::ShowLimit(grpc::CallbackServerContext* ctx,
                                                       const v1::ShowLimitRequest* request, v1::ShowLimitReply* reply) {
  return on_strand(ctx, "Controller.ShowLimit", request, reply,
                   [this](const Person& who, const auto& in) { return show_limit(parts_, who, in); });
}

grpc::ServerUnaryReactor* ControllerService::ListLimits(grpc::CallbackServerContext* ctx,
                                                        const v1::ListLimitsRequest* request,
                                                        v1::ListLimitsReply* reply) {
  return on_strand(ctx, "Controller.ListLimits", request, reply,
                   [this](const Person& who, const v1::ListLimitsRequest&) -> Result<v1::ListLimitsReply> {
                     return list_limits(parts_, who);
                   });
}

grpc::ServerUnaryReactor* ControllerService::DeleteLimit(grpc::CallbackServerContext* ctx,
                                                         const v1::DeleteLimitRequest* request,
                                                         v1::DeleteLimitReply* reply) {
  return on_strand(ctx, "Controller.DeleteLimit", request, reply,
                   [this](const Person& who, const auto& in) { return delete_limit(parts_, who, in); });
}

grpc::ServerUnaryReactor* ControllerService::Hook(grpc::CallbackServerContext* ctx, const v1::HookRequest* request,
                                                  v1::HookReply* reply) {
  return serve_unary(auth_, ctx, "Controller.Hook", request, reply,
                     [this](Caller caller, const v1::HookRequest& in, const Respond<v1::HookReply>& respond) {
                       if (!auth_.trusts(caller.uid))
                         return respond(fail(Code::permission_denied, "hooks are SlurmUser's"));
                       Staging::Hook which = Staging::Hook::data_in;
                       switch (in.hook()) {
                         case v1::HookRequest::HOOK_DATA_IN:
                           break;
                         case v1::HookRequest::HOOK_PRE_RUN:
                           which = Staging::Hook::pre_run;
                           break;
                         case v1::HookRequest::HOOK_TEARDOWN:
                           which = Staging::Hook::teardown;
                           break;
                         default:
                           return respond(fail(Code::invalid_argument, "unknown hook"));
                       }
                       parts_.strand.post([this, which, id = in.job_id(), respond] {
                         guarded(respond, [&] {
                           parts_.staging.hook(which, id, [respond](const Result<Staging::HookAnswer>& answer) {
                             if (!answer) return respond(fail(answer.error()));
                             v1::HookReply out;
                             out.set_ready(answer->ready);
                             out.set_message(printable(answer->message));
                             respond(std::move(out));
                           });
                         });
                       });
                     });
}

grpc::ServerWriteReactor<v1::JobStatus>* ControllerService::WatchJob(grpc::CallbackServerContext* ctx,
                                                                     const v1::WatchJobRequest* request) {
  return serve_stream<v1::JobStatus>(
      auth_, ctx, "Controller.WatchJob", request,
      [this](Caller caller, const v1::WatchJobRequest& in, const std::shared_ptr<ServerStream<v1::JobStatus>>& stream) {
        parts_.strand.post([this, who = person(caller), in, stream] {
          parts_.staging.find_job(in.job_id(), [this, who, in, stream](const Result<JobView>& view) {
            if (!view) return stream->finish(fail(view.error()));
            if (!who.is_operator && view->row.uid != who.caller.uid)
              return stream->finish(fail(Code::permission_denied, "job " + std::to_string(in.job_id()) +
                                                                      " is another user's: operators see all jobs"));
            if (!in.follow() || view->row.phase == JobPhase::ended) {
              stream->write(job_status(parts_, *view));
              return stream->finish({});
            }
            parts_.staging.watch(in.job_id(),
                                 {[this, stream](const JobView& now) { return stream->write(job_status(parts_, now)); },
                                  [stream](const Status& status) { stream->finish(status); }});
          });
        });
      });
}

grpc::ServerUnaryReactor* ControllerService::Top(grpc::CallbackServerContext* ctx, const v1::TopRequest* request,
                                                 v1::TopReply* reply) {
  return on_strand(
      ctx, "Controller.Top", request, reply,
      [this](const Person& who, const v1::TopRequest&) -> Result<v1::TopReply> { return top(parts_, who); });
}

grpc::ServerUnaryReactor* ControllerService::Explain(grpc::CallbackServerContext* ctx,
                                                     const v1::ExplainRequest* request, v1::ExplainReply* reply) {
  return later(ctx, "Controller.Explain", request, reply, &explain);
}

grpc::ServerUnaryReactor* ControllerService::ListJobs(grpc::CallbackServerContext* ctx,
                                                      const v1::ListJobsRequest* request, v1::ListJobsReply* reply) {
  return on_strand(ctx, "Controller.ListJobs", request, reply,
                   [this](const Person& who, const v1::ListJobsRequest& in) { return list_jobs(parts_, who, in); });
}

grpc::ServerUnaryReactor* ControllerService::ListDatasets(grpc::CallbackServerContext* ctx,
                                                          const v1::ListDatasetsRequest* request,
                                                          v1::ListDatasetsReply* reply) {
  return on_strand(ctx, "Controller.ListDatasets", request, reply,
                   [this](const Person& who, const auto& in) { return list_datasets(parts_, who, in); });
}

grpc::ServerUnaryReactor* ControllerService::CreateDataset(grpc::CallbackServerContext* ctx,
                                                           const v1::CreateDatasetRequest* request,
                                                           v1::CreateDatasetReply* reply) {
  return later(ctx, "Controller.CreateDataset", request, reply, create_dataset);
}

grpc::ServerUnaryReactor* ControllerService::SetDataset(grpc::CallbackServerContext* ctx,
                                                        const v1::SetDatasetRequest* request,
                                                        v1::SetDatasetReply* reply) {
  return later(ctx, "Controller.SetDataset", request, reply, set_dataset);
}

grpc::ServerUnaryReactor* ControllerService::ShareDataset(grpc::CallbackServerContext* ctx,
                                                          const v1::ShareDatasetRequest* request,
                                                          v1::ShareDatasetReply* reply) {
  return later(ctx, "Controller.ShareDataset", request, reply, share_dataset);
}

grpc::ServerUnaryReactor* ControllerService::DeleteDataset(grpc::CallbackServerContext* ctx,
                                                           const v1::DeleteDatasetRequest* request,
                                                           v1::DeleteDatasetReply* reply) {
  return on_strand(ctx, "Controller.DeleteDataset", request, reply,
                   [this](const Person& who, const auto& in) { return delete_dataset(parts_, who, in); });
}

grpc::ServerWriteReactor<v1::Progress>* ControllerService::WarmDataset(grpc::CallbackServerContext* ctx,
                                                                       const v1::WarmDatasetRequest* request) {
  return serve_stream<v1::Progress>(
      auth_, ctx, "Controller.WarmDataset", request,
      [this](Caller caller, const v1::WarmDatasetRequest& in,
             const std::shared_ptr<ServerStream<v1::Progress>>& stream) {
        parts_.strand.post([this, who = person(caller), in, stream] { warm_dataset(parts_, who, in, stream); });
      });
}

grpc::ServerUnaryReactor* ControllerService::Placement(grpc::CallbackServerContext* ctx,
                                                       const v1::PlacementRequest* request, v1::PlacementReply* reply) {
  return on_strand(ctx, "Controller.Placement", request, reply,
                   [this](const Person& who, const v1::PlacementRequest& in) { return placement(parts_, who, in); });
}

grpc::ServerUnaryReactor* ControllerService::ListNodes(grpc::CallbackServerContext* ctx,
                                                       const v1::ListNodesRequest* request, v1::ListNodesReply* reply) {
  return on_strand(ctx, "Controller.ListNodes", request, reply,
                   [this](const Person&, const v1::ListNodesRequest& in) { return list_nodes(parts_, in); });
}

grpc::ServerUnaryReactor* ControllerService::DrainNode(grpc::CallbackServerContext* ctx,
                                                       const v1::DrainNodeRequest* request, v1::DrainNodeReply* reply) {
  return on_strand(ctx, "Controller.DrainNode", request, reply,
                   [this](const Person& who, const v1::DrainNodeRequest& in) { return drain_node(parts_, who, in); });
}

grpc::ServerUnaryReactor* ControllerService::PinDataset(grpc::CallbackServerContext* ctx,
                                                        const v1::PinDatasetRequest* request,
                                                        v1::PinDatasetReply* reply) {
  return later(ctx, "Controller.PinDataset", request, reply, pin_dataset);
}

grpc::ServerUnaryReactor* ControllerService::EvictDataset(grpc::CallbackServerContext* ctx,
                                                          const v1::EvictDatasetRequest* request,
                                                          v1::EvictDatasetReply* reply) {
  return later(ctx, "Controller.EvictDataset", request, reply, evict_dataset);
}

grpc::ServerUnaryReactor* ControllerService::Observed(grpc::CallbackServerContext* ctx,
                                                      const v1::ObservedRequest* request, v1::ObservedReply* reply) {
  return on_strand(ctx, "Controller.Observed", request, reply,
                   [this](const Person& who, const v1::ObservedRequest&) { return observed(parts_, who); });
}

grpc::ServerUnaryReactor* ControllerService::Doctor(grpc::CallbackServerContext* ctx, const v1::DoctorRequest* request,
                                                    v1::DoctorReply* reply) {
  return on_strand(
      ctx, "Controller.Doctor", request, reply,
      [this](const Person&, const v1::DoctorRequest&) -> Result<v1::DoctorReply> { return doctor(parts_); });
}

}  // namespace atlas
