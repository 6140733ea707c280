#include "controller/rpc/actions.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "common/hostlist.h"
#include "common/percent.h"
#include "proto/convert.h"

namespace atlas {
namespace {

tl::unexpected<Error> operators_only(const std::string& what) {
  return fail(Code::permission_denied, what + " is for operators (site.operators in atlas.toml)");
}

/// The nodes of a hostlist that have an agent; all connected ones for "".
Result<std::vector<const AgentInfo*>> agents_of(const ControllerParts& parts, const std::string& hostlist) {
  ATLAS_ASSIGN(const auto names, expand_hostlist(hostlist));
  std::vector<const AgentInfo*> out;
  for (const auto& name : names) {
    const AgentInfo* agent = parts.registry.find(name);
    if (agent == nullptr)
      return fail(Code::not_found, "node '" + printable(name) + "' has no Atlas agent (atlasctl node list)");
    out.push_back(agent);
  }
  if (names.empty())
    for (const auto& [name, agent] : parts.registry.agents())
      if (agent.connected) out.push_back(&agent);
  return out;
}

/// The node that needs least: most resident bytes, then most room.
const AgentInfo* best_node(const ControllerParts& parts, const DatasetId& dataset) {
  const AgentInfo* best = nullptr;
  const auto rank = [&](const AgentInfo& agent) {
    return std::pair(parts.registry.holding(agent, dataset).resident, Registry::room_on(agent));
  };
  for (const auto& [name, agent] : parts.registry.agents())
    if (agent.in_service() && (best == nullptr || rank(agent) > rank(*best))) best = &agent;
  return best;
}

/// Collects the answers of several agents; answers when the last is in.
template <class Reply>
struct Gather {
  Reply reply;
  std::size_t open = 0;
  std::optional<Error> error;
  Respond<Reply> respond;
  void one_in() {
    if (--open > 0) return;
    if (error) return respond(fail(*error));
    respond(std::move(reply));
  }
};

}  // namespace

Result<v1::CreateDatasetReply> create_dataset(const ControllerParts& parts, const Person& who,
                                              const v1::CreateDatasetRequest& request) {
  ATLAS_ASSIGN(const DatasetId dataset,
               parts.datasets.create(request.name(), request.path(), who.name, who.is_operator));
  v1::CreateDatasetReply reply;
  ATLAS_ASSIGN(*reply.mutable_dataset(), describe_dataset(parts, dataset));
  return reply;
}

Result<v1::DeleteDatasetReply> delete_dataset(const ControllerParts& parts, const Person& who,
                                              const v1::DeleteDatasetRequest& request) {
  ATLAS_TRY(parts.datasets.remove(request.name(), who.name, who.is_operator));
  return v1::DeleteDatasetReply();
}

void warm_dataset(const ControllerParts& parts, const Person& who, const v1::WarmDatasetRequest& request,
                  std::shared_ptr<ServerStream<v1::Progress>> stream) {
  const auto dataset = parts.datasets.resolve(request.dataset());
  if (!dataset) return stream->finish(fail(dataset.error()));
  std::vector<const AgentInfo*> nodes;
  if (request.nodes().empty()) {
    if (const AgentInfo* best = best_node(parts, *dataset)) nodes.push_back(best);
  } else {
    auto chosen = agents_of(parts, request.nodes());
    if (!chosen) return stream->finish(fail(chosen.error()));
    nodes = std::move(*chosen);
  }
  for (const AgentInfo* agent : nodes)
    if (!agent->in_service())
      return stream->finish(fail(Code::unavailable, "node " + agent->node + " is not in service (atlasctl node list)"));
  if (nodes.empty()) return stream->finish(fail(Code::unavailable, "no node's agent is connected (atlasctl doctor)"));

  struct State {
    std::size_t open;
    Status first_error;
  };
  const auto state = std::make_shared<State>(State{nodes.size(), {}});
  const WarmOrder order{*dataset, Principal{who.caller.uid, who.caller.gid, {}}, JobKey{}, Bytes{0}, true};
  for (const AgentInfo* agent : nodes) {
    WarmUps::Waiter waiter;
    waiter.progress = [stream](const WarmProgress& progress) { stream->write(to_wire(progress)); };
    waiter.done = [stream, state, parts, dataset = *dataset, node = agent->node,
                   uid = who.caller.uid](const Result<Generation>& result) {
      if (result) {
        parts.registry.note_reader(dataset, uid);
      } else if (state->first_error) {
        state->first_error = fail(result.error().in("node " + node));
      }
      if (--state->open == 0) stream->finish(state->first_error);
    };
    static_cast<void>(parts.staging.warmups().want(agent->node, order, std::move(waiter)));
  }
}

Result<v1::DrainNodeReply> drain_nodes(const ControllerParts& parts, const Person& who,
                                       const v1::DrainNodeRequest& request) {
  if (!who.is_operator) return operators_only("draining a node");
  if (request.nodes().empty()) return fail(Code::invalid_argument, "which nodes? give a hostlist");
  ATLAS_ASSIGN(const auto agents, agents_of(parts, request.nodes()));
  for (const AgentInfo* agent : agents) ATLAS_TRY(parts.registry.set_drained(agent->node, !request.resume(), who.name));
  v1::DrainNodeReply reply;
  reply.set_nodes(static_cast<std::uint32_t>(agents.size()));
  return reply;
}

void pin_dataset(const ControllerParts& parts, const Person& who, const v1::PinDatasetRequest& request,
                 Respond<v1::PinDatasetReply> respond) {
  if (!who.is_operator) return respond(operators_only("pinning a dataset"));
  const auto dataset = parts.datasets.resolve(request.dataset());
  if (!dataset) return respond(fail(dataset.error()));
  if (auto ok = parts.datasets.set_pinned(*dataset, !request.unpin(), who.name); !ok) return respond(fail(ok.error()));
  auto gather = std::make_shared<Gather<v1::PinDatasetReply>>();
  gather->respond = std::move(respond);
  gather->open = 1;
  for (const auto& [name, agent] : parts.registry.agents()) {
    if (!agent.connected) continue;  // told when it comes back
    ++gather->open;
    parts.agents.pin(agent.address, *dataset, !request.unpin(),
                     [gather, &strand = parts.strand, node = name](Result<std::uint32_t> replicas) {
                       strand.post([gather, node, replicas = std::move(replicas)] {
                         if (replicas) gather->reply.set_replicas(gather->reply.replicas() + *replicas);
                         if (!replicas && !gather->error) gather->error = replicas.error().in("node " + node);
                         gather->one_in();
                       });
                     });
  }
  gather->one_in();
}

void evict_dataset(const ControllerParts& parts, const Person& who, const v1::EvictDatasetRequest& request,
                   Respond<v1::EvictDatasetReply> respond) {
  const auto dataset = parts.datasets.resolve(request.dataset());
  if (!dataset) return respond(fail(dataset.error()));
  if (!may_see(parts, who, *dataset))
    return respond(fail(Code::not_found, "dataset '" + printable(request.dataset()) +
                                             "' is not known here, or you have not read it yet"));
  if (!who.is_operator && parts.staging.used_by_other(*dataset, who.caller.uid))
    return respond(
        fail(Code::failed_precondition,
             "jobs of other users read this dataset now: try again when they have ended, or ask an operator"));
  if (parts.datasets.pinned(*dataset))
    return respond(fail(Code::failed_precondition, "the dataset is pinned: an operator can 'atlasctl unpin' it first"));
  auto agents = agents_of(parts, request.nodes());
  if (!agents) return respond(fail(agents.error()));
  auto gather = std::make_shared<Gather<v1::EvictDatasetReply>>();
  gather->respond = std::move(respond);
  gather->open = 1;
  for (const AgentInfo* agent : *agents) {
    if (!agent->connected) {
      gather->reply.add_kept(agent->node + ": its agent is not connected");
      continue;
    }
    ++gather->open;
    parts.agents.evict(agent->address, *dataset,
                       [gather, &strand = parts.strand, node = agent->node](Result<EvictOutcome> outcome) {
                         strand.post([gather, node, outcome = std::move(outcome)] {
                           if (outcome) {
                             gather->reply.set_bytes(gather->reply.bytes() + outcome->bytes.count);
                             gather->reply.set_replicas(gather->reply.replicas() + outcome->replicas);
                             for (const auto& reason : outcome->kept) gather->reply.add_kept(node + ": " + reason);
                           } else {
                             gather->reply.add_kept(node + ": " + outcome.error().message);
                           }
                           gather->one_in();
                         });
                       });
  }
  gather->one_in();
}

}  // namespace atlas
