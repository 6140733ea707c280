#include "controller/rpc/agent_clients.h"

#include <algorithm>

#include "atlas/v1/agent.grpc.pb.h"
#include "common/percent.h"
#include "proto/client.h"
#include "proto/convert.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;
using Async = v1::Agent::Stub::async_interface;

constexpr milliseconds kQuick = 5s;
constexpr milliseconds kEvict = 10min;  ///< half a million files, on a disk that discards as it deletes

}  // namespace

std::int64_t age_of(WallTime asked) {
  const auto age = std::chrono::system_clock::now() - asked;
  return std::max<std::int64_t>(0, std::chrono::floor<milliseconds>(age).count());
}

struct AgentClients::Peer {
  std::string name;
  std::unique_ptr<v1::Agent::Stub> stub;
};

AgentClients::AgentClients(const Authenticator& auth) : auth_(auth) {}
AgentClients::~AgentClients() = default;

std::shared_ptr<AgentClients::Peer> AgentClients::peer(const std::string& address) {
  const std::lock_guard lock(mutex_);
  auto& found = peers_[address];
  if (!found)
    found = std::make_shared<Peer>(Peer{"the cache agent at " + address, v1::Agent::NewStub(make_channel(address))});
  return found;
}

void AgentClients::warm(const std::string& address, WarmOrder order, std::function<void(WarmProgress)> progress,
                        std::function<void(Status)> done) {
  v1::WarmRequest request;
  *request.mutable_dataset() = to_wire(order.dataset);
  *request.mutable_as() = to_wire(order.as);
  *request.mutable_payer() = to_wire(order.payer);
  request.set_cache_limit(order.cache_limit.count);
  request.set_revalidate(order.revalidate);
  request.set_verify(order.verify);
  request.set_policy(encode(order.policy));
  request.set_age(age_of(order.asked));
  request.set_settled_only(order.settled_only);
  request.set_keep(order.keep);
  request.set_account(order.account);
  *request.mutable_io_limit() = to_wire(order.io_limit);
  for (const auto& node : order.divided) *request.add_divided() = to_wire(node);
  for (const auto& pattern : order.only.patterns) request.mutable_only()->add_patterns(pattern);
  for (const auto& file : order.only.files) request.mutable_only()->add_files(file);
  if (order.only.metadata_only) request.mutable_only()->set_metadata_only(true);
  const auto to = peer(address);
  stream_async<Async, v1::WarmRequest, v1::Progress>(
      auth_, to->stub->async(), &Async::Warm, "Agent.Warm", std::move(request), to->name,
      [progress = std::move(progress)](const v1::Progress& message) { progress(from_wire(message)); },
      [to, done = std::move(done)](Status status) { done(std::move(status)); });
}

void AgentClients::survey(const std::string& address, const DatasetId& dataset, const Principal& as,
                          const DatasetPolicy& policy, std::chrono::milliseconds limit,
                          std::function<void(Result<WarmProgress>)> done) {
  v1::SurveyRequest request;
  *request.mutable_dataset() = to_wire(dataset);
  *request.mutable_as() = to_wire(as);
  request.set_policy(encode(policy));
  request.set_limit(limit.count());
  const auto to = peer(address);
  const auto last = std::make_shared<WarmProgress>();
  stream_async<Async, v1::SurveyRequest, v1::Progress>(
      auth_, to->stub->async(), &Async::Survey, "Agent.Survey", std::move(request), to->name,
      [last](const v1::Progress& message) { *last = from_wire(message); },
      [to, last, done = std::move(done)](const Status& status) {
        done(status ? Result<WarmProgress>(*last) : fail(status.error()));
      });
}

void AgentClients::cancel_warm(const std::string& address, const DatasetId& dataset, const Principal& as) {
  v1::CancelWarmRequest request;
  *request.mutable_dataset() = to_wire(dataset);
  *request.mutable_as() = to_wire(as);
  const auto to = peer(address);
  // Nobody waits for the answer: an agent that does not hear it finishes a warm-up that nobody wanted, no more.
  call_async<Async, v1::CancelWarmRequest, v1::CancelWarmReply>(auth_, to->stub->async(), &Async::CancelWarm,
                                                                "Agent.CancelWarm", std::move(request), kQuick,
                                                                to->name, [to](const Result<v1::CancelWarmReply>&) {});
}

void AgentClients::plan(const std::string& address, PlanOrder order,
                        std::function<void(Result<std::vector<ReplicaInfo>>)> done) {
  v1::PlanRequest request;
  *request.mutable_job() = to_wire(order.job);
  *request.mutable_as() = to_wire(order.as);
  for (const auto& item : order.datasets) {
    auto* planned = request.add_datasets();
    *planned->mutable_dataset() = to_wire(item.dataset);
    if (!item.generation.empty()) planned->set_generation(item.generation.bytes());
    planned->set_policy(encode(item.policy));
    planned->set_age(age_of(item.asked));
    planned->set_read_write(item.read_write);
  }
  request.set_on_change(to_wire(order.on_change));
  request.set_reason(printable(order.reason));
  request.set_account(order.account);
  *request.mutable_io_limit() = to_wire(order.io_limit);
  for (const auto& node : order.divided) *request.add_divided() = to_wire(node);
  request.set_waited(order.waited.count());
  request.set_cache_limit(order.cache_limit.count);
  const auto to = peer(address);
  call_async<Async, v1::PlanRequest, v1::PlanReply>(auth_, to->stub->async(), &Async::Plan, "Agent.Plan",
                                                    std::move(request), kQuick, to->name,
                                                    [to, done = std::move(done)](const Result<v1::PlanReply>& reply) {
                                                      if (!reply) return done(fail(reply.error()));
                                                      std::vector<ReplicaInfo> replicas;
                                                      for (const auto& replica : reply->replicas())
                                                        replicas.push_back(from_wire(replica));
                                                      done(std::move(replicas));
                                                    });
}

void AgentClients::release(const std::string& address, const JobKey& job,
                           std::function<void(Result<ReleaseOutcome>)> done) {
  v1::ReleaseRequest request;
  *request.mutable_job() = to_wire(job);
  const auto to = peer(address);
  call_async<Async, v1::ReleaseRequest, v1::ReleaseReply>(
      auth_, to->stub->async(), &Async::Release, "Agent.Release", std::move(request), kQuick, to->name,
      [to, done = std::move(done)](const Result<v1::ReleaseReply>& reply) {
        if (!reply) return done(fail(reply.error()));
        ReleaseOutcome outcome{reply->known(),
                               {},
                               milliseconds(reply->throttled()),
                               Bytes{reply->throttled_bytes()},
                               Bytes{reply->bypass_bytes()}};
        for (const auto& dataset : reply->datasets())
          outcome.datasets.push_back(
              {from_wire(dataset.dataset()), from_wire(dataset.attached()), Bytes{dataset.resident_bytes()},
               Bytes{dataset.origin_bytes()}, dataset.reason(),
               dataset.has_hit_bytes() ? std::optional(Bytes{dataset.hit_bytes()}) : std::nullopt,
               Bytes{dataset.peer_bytes()}});
        done(std::move(outcome));
      });
}

void AgentClients::evict(const std::string& address, const DatasetId& dataset, const GenerationId& generation,
                         std::function<void(Result<EvictOutcome>)> done) {
  v1::EvictRequest request;
  *request.mutable_dataset() = to_wire(dataset);
  if (!generation.empty()) request.set_generation(generation.bytes());
  const auto to = peer(address);
  call_async<Async, v1::EvictRequest, v1::EvictReply>(
      auth_, to->stub->async(), &Async::Evict, "Agent.Evict", std::move(request), kEvict, to->name,
      [to, done = std::move(done)](const Result<v1::EvictReply>& reply) {
        if (!reply) return done(fail(reply.error()));
        done(EvictOutcome{Bytes{reply->bytes()}, reply->replicas(), {reply->kept().begin(), reply->kept().end()}});
      });
}

void AgentClients::pin(const std::string& address, const DatasetId& dataset, bool pinned,
                       std::function<void(Result<std::uint32_t>)> done) {
  v1::PinRequest request;
  *request.mutable_dataset() = to_wire(dataset);
  request.set_pinned(pinned);
  const auto to = peer(address);
  call_async<Async, v1::PinRequest, v1::PinReply>(auth_, to->stub->async(), &Async::Pin, "Agent.Pin",
                                                  std::move(request), kQuick, to->name,
                                                  [to, done = std::move(done)](const Result<v1::PinReply>& reply) {
                                                    if (!reply) return done(fail(reply.error()));
                                                    done(reply->replicas());
                                                  });
}

}  // namespace atlas
