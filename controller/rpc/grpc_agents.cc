#include "controller/rpc/grpc_agents.h"

#include <chrono>
#include <utility>

#include "proto/client.h"
#include "proto/convert.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;
using Async = v1::Agent::Stub::async_interface;

constexpr milliseconds kTimeout = 10s;       ///< of a call that only looks up and notes down
constexpr milliseconds kEvictTimeout = 60s;  ///< unlinking a replica of a million files takes its time

std::string peer(const std::string& address) {
  return "the agent at " + address;
}

/// `convert` of the reply, or the error.
template <class Out, class Reply, class Convert>
std::function<void(Result<Reply>)> then(std::function<void(Result<Out>)> done, Convert convert) {
  return [done = std::move(done), convert](Result<Reply> reply) {
    if (!reply) return done(fail(std::move(reply).error()));
    done(convert(*reply));
  };
}

}  // namespace

v1::Agent::Stub& GrpcAgents::stub(const std::string& address) {
  const std::lock_guard lock(mutex_);
  auto& entry = stubs_[address];
  if (!entry) entry = v1::Agent::NewStub(make_channel(address));
  return *entry;
}

void GrpcAgents::warm(const std::string& address, WarmOrder order, std::function<void(WarmProgress)> progress,
                      std::function<void(Status)> done) {
  v1::WarmRequest request;
  *request.mutable_dataset() = to_wire(order.dataset);
  *request.mutable_as() = to_wire(order.as);
  *request.mutable_payer() = to_wire(order.payer);
  request.set_cache_limit(order.cache_limit.count);
  request.set_revalidate(order.revalidate);
  static_cast<void>(stream_async<Async, v1::WarmRequest, v1::Progress>(
      auth_, stub(address).async(), &Async::Warm, "Agent.Warm", std::move(request), peer(address),
      [progress = std::move(progress)](const v1::Progress& message) { progress(from_wire(message)); },
      std::move(done)));
}

void GrpcAgents::cancel_warm(const std::string& address, const DatasetId& dataset, const Principal& as) {
  v1::CancelWarmRequest request;
  *request.mutable_dataset() = to_wire(dataset);
  *request.mutable_as() = to_wire(as);
  call_async<Async, v1::CancelWarmRequest, v1::CancelWarmReply>(
      auth_, stub(address).async(), &Async::CancelWarm, "Agent.CancelWarm", std::move(request), kTimeout, peer(address),
      [](const Result<v1::CancelWarmReply>&) {});
}

void GrpcAgents::plan(const std::string& address, PlanOrder order,
                      std::function<void(Result<std::vector<ReplicaInfo>>)> done) {
  v1::PlanRequest request;
  *request.mutable_job() = to_wire(order.job);
  *request.mutable_as() = to_wire(order.as);
  for (const auto& [dataset, generation] : order.datasets) {
    auto* item = request.add_datasets();
    *item->mutable_dataset() = to_wire(dataset);
    if (!generation.empty()) item->set_generation(generation.bytes());
  }
  request.set_reason(order.reason);
  request.set_waited(order.waited.count());
  call_async<Async, v1::PlanRequest, v1::PlanReply>(
      auth_, stub(address).async(), &Async::Plan, "Agent.Plan", std::move(request), kTimeout, peer(address),
      then<std::vector<ReplicaInfo>, v1::PlanReply>(std::move(done), [](const v1::PlanReply& reply) {
        std::vector<ReplicaInfo> out;
        for (const auto& replica : reply.replicas()) out.push_back(from_wire(replica));
        return out;
      }));
}

void GrpcAgents::release(const std::string& address, const JobKey& job,
                         std::function<void(Result<ReleaseOutcome>)> done) {
  v1::ReleaseRequest request;
  *request.mutable_job() = to_wire(job);
  call_async<Async, v1::ReleaseRequest, v1::ReleaseReply>(
      auth_, stub(address).async(), &Async::Release, "Agent.Release", std::move(request), kTimeout, peer(address),
      then<ReleaseOutcome, v1::ReleaseReply>(std::move(done), [](const v1::ReleaseReply& reply) {
        ReleaseOutcome out{reply.known(), {}};
        for (const auto& d : reply.datasets())
          out.datasets.push_back({from_wire(d.dataset()), from_wire(d.attached()), Bytes{d.resident_bytes()},
                                  Bytes{d.origin_bytes()}, d.reason()});
        return out;
      }));
}

void GrpcAgents::evict(const std::string& address, const DatasetId& dataset,
                       std::function<void(Result<EvictOutcome>)> done) {
  v1::EvictRequest request;
  *request.mutable_dataset() = to_wire(dataset);
  call_async<Async, v1::EvictRequest, v1::EvictReply>(
      auth_, stub(address).async(), &Async::Evict, "Agent.Evict", std::move(request), kEvictTimeout, peer(address),
      then<EvictOutcome, v1::EvictReply>(std::move(done), [](const v1::EvictReply& reply) {
        return EvictOutcome{Bytes{reply.bytes()}, reply.replicas(), {reply.kept().begin(), reply.kept().end()}};
      }));
}

void GrpcAgents::pin(const std::string& address, const DatasetId& dataset, bool pinned,
                     std::function<void(Result<std::uint32_t>)> done) {
  v1::PinRequest request;
  *request.mutable_dataset() = to_wire(dataset);
  request.set_pinned(pinned);
  call_async<Async, v1::PinRequest, v1::PinReply>(
      auth_, stub(address).async(), &Async::Pin, "Agent.Pin", std::move(request), kTimeout, peer(address),
      then<std::uint32_t, v1::PinReply>(std::move(done), [](const v1::PinReply& reply) { return reply.replicas(); }));
}

}  // namespace atlas
