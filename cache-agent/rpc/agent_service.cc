#include "cache-agent/rpc/agent_service.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "proto/convert.h"
#include "proto/server.h"

namespace atlas::agent {
namespace {

/// Settings that a newer controller has made are not half obeyed: what they say of grants and limits is left alone.
DatasetPolicy policy_of(const std::string& text) {
  return decode_policy(text).value_or(DatasetPolicy{});
}

SteadyTime time_of(std::int64_t age) {
  return std::chrono::steady_clock::now() - std::chrono::milliseconds(std::max<std::int64_t>(0, age));
}

WarmOrder order_of(const v1::WarmRequest& in) {
  WarmOrder order{from_wire(in.dataset()), from_wire(in.as()), from_wire(in.payer()),  Bytes{in.cache_limit()},
                  in.revalidate(),         in.verify(),        policy_of(in.policy()), time_of(in.age()),
                  in.settled_only(),       in.keep()};
  order.only.patterns.assign(in.only().patterns().begin(), in.only().patterns().end());
  order.only.files.assign(in.only().files().begin(), in.only().files().end());
  order.only.metadata_only = in.only().metadata_only();
  order.account = in.account();
  order.io_limit = from_wire(in.io_limit());
  for (const auto& node : in.divided()) order.divided.push_back(from_wire(node));
  return order;
}

JobOrder order_of(const v1::PlanRequest& in) {
  JobOrder order{from_wire(in.job()),
                 from_wire(in.as()),
                 {},
                 in.reason(),
                 std::chrono::milliseconds(in.waited()),
                 Bytes{in.cache_limit()},
                 from_wire(in.on_change()),
                 in.account(),
                 from_wire(in.io_limit())};
  for (const auto& item : in.datasets())
    order.datasets.push_back({from_wire(item.dataset()), GenerationId::of(item.generation()), policy_of(item.policy()),
                              time_of(item.age()), item.read_write()});
  for (const auto& node : in.divided()) order.divided.push_back(from_wire(node));
  return order;
}

v1::ReleaseReply to_wire(const JobOutcome& outcome) {
  v1::ReleaseReply reply;
  reply.set_known(outcome.known);
  for (const auto& item : outcome.datasets) {
    auto* out = reply.add_datasets();
    *out->mutable_dataset() = atlas::to_wire(item.dataset);
    out->set_generation(item.generation.bytes());
    out->set_attached(atlas::to_wire(item.attached));
    out->set_resident_bytes(item.resident.count);
    out->set_origin_bytes(item.origin_bytes.count);
    out->set_peer_bytes(item.peer_bytes.count);
    out->set_reason(item.reason);
    if (item.hit_bytes) out->set_hit_bytes(item.hit_bytes->count);
  }
  reply.set_throttled(outcome.throttled.count());
  reply.set_throttled_bytes(outcome.throttled_bytes.count);
  reply.set_bypass_bytes(outcome.bypass_bytes.count);
  return reply;
}

}  // namespace

Status AgentService::allow(Caller caller) const {
  if (auth_.trusts(caller.uid)) return {};
  return fail(Code::permission_denied, "only the controller may call a node's agent: ask the controller, by atlasctl");
}

grpc::ServerWriteReactor<v1::Progress>* AgentService::Warm(grpc::CallbackServerContext* ctx,
                                                           const v1::WarmRequest* request) {
  return serve_stream<v1::Progress>(
      auth_, ctx, "Agent.Warm", request,
      [this](Caller caller, const v1::WarmRequest& in, std::shared_ptr<ServerStream<v1::Progress>> stream) {
        if (auto ok = allow(caller); !ok) return stream->finish(ok);
        node_.warm(
            order_of(in), [stream](const WarmProgress& progress) { stream->write(atlas::to_wire(progress)); },
            [stream](Result<WarmProgress> last) {
              if (last) stream->write(atlas::to_wire(*last));
              stream->finish(last ? Status{} : Status(fail(std::move(last).error())));
            });
      });
}

grpc::ServerUnaryReactor* AgentService::CancelWarm(grpc::CallbackServerContext* ctx,
                                                   const v1::CancelWarmRequest* request, v1::CancelWarmReply* reply) {
  return serve_unary(auth_, ctx, "Agent.CancelWarm", request, reply,
                     [this](Caller caller, const v1::CancelWarmRequest& in, Respond<v1::CancelWarmReply> respond) {
                       if (auto ok = allow(caller); !ok) return respond(fail(ok.error()));
                       v1::CancelWarmReply out;
                       out.set_was_running(node_.cancel_warm(from_wire(in.dataset()), from_wire(in.as())));
                       respond(std::move(out));
                     });
}

grpc::ServerWriteReactor<v1::Progress>* AgentService::Survey(grpc::CallbackServerContext* ctx,
                                                             const v1::SurveyRequest* request) {
  return serve_stream<v1::Progress>(
      auth_, ctx, "Agent.Survey", request,
      [this](Caller caller, const v1::SurveyRequest& in, std::shared_ptr<ServerStream<v1::Progress>> stream) {
        if (auto ok = allow(caller); !ok) return stream->finish(ok);
        surveyors_.post([this, in, stream] {
          auto result = node_.survey(from_wire(in.dataset()), from_wire(in.as()), policy_of(in.policy()),
                                     std::chrono::milliseconds(in.limit()));
          if (!result) return stream->finish(fail(std::move(result).error()));
          stream->write(atlas::to_wire(*result));
          stream->finish({});
        });
      });
}

grpc::ServerUnaryReactor* AgentService::Plan(grpc::CallbackServerContext* ctx, const v1::PlanRequest* request,
                                             v1::PlanReply* reply) {
  return serve_unary(auth_, ctx, "Agent.Plan", request, reply,
                     [this](Caller caller, const v1::PlanRequest& in, Respond<v1::PlanReply> respond) {
                       if (auto ok = allow(caller); !ok) return respond(fail(ok.error()));
                       workers_.post([this, order = order_of(in), respond] {
                         auto replicas = node_.plan(order);
                         if (!replicas) return respond(fail(std::move(replicas).error()));
                         v1::PlanReply out;
                         for (const auto& replica : *replicas) *out.add_replicas() = atlas::to_wire(replica);
                         respond(std::move(out));
                       });
                     });
}

grpc::ServerUnaryReactor* AgentService::Release(grpc::CallbackServerContext* ctx, const v1::ReleaseRequest* request,
                                                v1::ReleaseReply* reply) {
  return serve_unary(auth_, ctx, "Agent.Release", request, reply,
                     [this](Caller caller, const v1::ReleaseRequest& in, Respond<v1::ReleaseReply> respond) {
                       if (auto ok = allow(caller); !ok) return respond(fail(ok.error()));
                       workers_.post([this, job = from_wire(in.job()), respond] {
                         auto outcome = node_.release(job);
                         if (!outcome) return respond(fail(std::move(outcome).error()));
                         respond(to_wire(*outcome));
                       });
                     });
}

grpc::ServerUnaryReactor* AgentService::Evict(grpc::CallbackServerContext* ctx, const v1::EvictRequest* request,
                                              v1::EvictReply* reply) {
  return serve_unary(auth_, ctx, "Agent.Evict", request, reply,
                     [this](Caller caller, const v1::EvictRequest& in, Respond<v1::EvictReply> respond) {
                       if (auto ok = allow(caller); !ok) return respond(fail(ok.error()));
                       std::optional<GenerationId> generation;
                       if (!in.generation().empty()) generation = GenerationId::of(in.generation());
                       workers_.post([this, dataset = from_wire(in.dataset()), generation, respond] {
                         auto outcome = node_.evict(dataset, generation);
                         if (!outcome) return respond(fail(std::move(outcome).error()));
                         v1::EvictReply out;
                         out.set_bytes(outcome->bytes.count);
                         out.set_replicas(outcome->replicas);
                         for (auto& reason : outcome->kept) out.add_kept(std::move(reason));
                         respond(std::move(out));
                       });
                     });
}

grpc::ServerUnaryReactor* AgentService::Pin(grpc::CallbackServerContext* ctx, const v1::PinRequest* request,
                                            v1::PinReply* reply) {
  return serve_unary(auth_, ctx, "Agent.Pin", request, reply,
                     [this](Caller caller, const v1::PinRequest& in, Respond<v1::PinReply> respond) {
                       if (auto ok = allow(caller); !ok) return respond(fail(ok.error()));
                       workers_.post([this, dataset = from_wire(in.dataset()), pinned = in.pinned(), respond] {
                         auto replicas = node_.pin(dataset, pinned);
                         if (!replicas) return respond(fail(std::move(replicas).error()));
                         v1::PinReply out;
                         out.set_replicas(*replicas);
                         respond(std::move(out));
                       });
                     });
}

grpc::ServerWriteReactor<v1::FetchReply>* AgentService::Fetch(grpc::CallbackServerContext* ctx,
                                                              const v1::FetchRequest* request) {
  if (peers_ != nullptr) return peers_->fetch(ctx, request);
  return v1::Agent::CallbackService::Fetch(ctx, request);  // unimplemented
}

}  // namespace atlas::agent
