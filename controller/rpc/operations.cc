#include "controller/rpc/operations.h"

#include <algorithm>

#include "common/hostlist.h"
#include "common/patterns.h"
#include "common/percent.h"
#include "controller/rpc/queries.h"
#include "proto/convert.h"

namespace atlas {
namespace {

/// The agents a request speaks of: all, or those of a hostlist; an unknown name is not_found.
Result<std::vector<const AgentInfo*>> agents_of(const ControllerParts& parts, const std::string& hostlist) {
  std::vector<const AgentInfo*> out;
  if (hostlist.empty()) {
    for (const auto& [node, agent] : parts.registry.agents()) out.push_back(&agent);
    return out;
  }
  ATLAS_ASSIGN(const auto names, expand_hostlist(hostlist));
  for (const auto& name : names) {
    const auto* agent = parts.registry.find(name);
    if (agent == nullptr)
      return fail(Code::not_found, "no cache agent of a node '" + name + "' has ever connected (atlasctl node list)");
    out.push_back(agent);
  }
  return out;
}

bool holds_any(const AgentInfo& agent, const DatasetId& dataset) {
  const auto at = agent.replicas.lower_bound({dataset, GenerationId{}});
  return at != agent.replicas.end() && at->first.first == dataset;
}

}  // namespace

Result<v1::DeleteDatasetReply> delete_dataset(const ControllerParts& parts, const Person& person,
                                              const v1::DeleteDatasetRequest& request) {
  ATLAS_TRY(parts.datasets.remove(request.name(), person.name, person.is_operator));
  parts.log.info("dataset name " + printable(request.name()) + " deleted by " + person.name);
  return v1::DeleteDatasetReply();
}

Result<v1::DrainNodeReply> drain_node(const ControllerParts& parts, const Person& person,
                                      const v1::DrainNodeRequest& request) {
  ATLAS_TRY(operators_only(person, "draining nodes"));
  ATLAS_ASSIGN(const auto names, expand_hostlist(request.nodes()));
  if (names.empty()) return fail(Code::invalid_argument, "name the nodes: atlasctl node drain HOSTLIST");
  const auto* cluster = parts.staging.cluster();
  for (const auto& name : names)
    if (parts.registry.find(name) == nullptr && (cluster == nullptr || !cluster->nodes.contains(name)))
      return fail(Code::not_found, "there is no node '" + name + "' (atlasctl node list)");
  for (const auto& name : names) ATLAS_TRY(parts.registry.set_drained(name, !request.resume(), person.name));
  parts.log.info(compress_hostlist(names) + (request.resume() ? " resumed by " : " drained by ") + person.name);
  v1::DrainNodeReply out;
  out.set_nodes(static_cast<std::uint32_t>(names.size()));
  return out;
}

void pin_dataset(const ControllerParts& parts, const Person& person, const v1::PinDatasetRequest& request,
                 Respond<v1::PinDatasetReply> respond) {
  if (auto ok = operators_only(person, "pinning"); !ok) return respond(fail(ok.error()));
  const auto dataset = parts.datasets.resolve(request.dataset());
  if (!dataset) return respond(fail(dataset.error()));
  if (auto ok = parts.datasets.set_pinned(*dataset, !request.unpin(), person.name); !ok)
    return respond(fail(ok.error()));
  struct Gather {
    std::size_t open = 1;
    v1::PinDatasetReply reply;
    std::optional<Error> error;
  };
  const auto gather = std::make_shared<Gather>();
  const auto one_done = [gather, respond] {
    if (--gather->open > 0) return;
    if (gather->error) return respond(fail(*gather->error));
    respond(gather->reply);
  };
  for (const auto& [node, agent] : parts.registry.agents()) {
    if (!agent.connected || !holds_any(agent, *dataset)) continue;
    ++gather->open;
    parts.agents.pin(agent.address, *dataset, !request.unpin(),
                     [&strand = parts.strand, gather, one_done](const Result<std::uint32_t>& replicas) {
                       strand.post([gather, one_done, replicas] {
                         if (replicas) {
                           gather->reply.set_replicas(gather->reply.replicas() + *replicas);
                         } else {
                           gather->error = replicas.error();
                         }
                         one_done();
                       });
                     });
  }
  one_done();
}

void evict_dataset(const ControllerParts& parts, const Person& person, const v1::EvictDatasetRequest& request,
                   Respond<v1::EvictDatasetReply> respond) {
  const auto dataset = parts.datasets.resolve(request.dataset());
  if (!dataset) return respond(fail(dataset.error()));
  if (!may_see(parts, person, *dataset))
    return respond(fail(Code::permission_denied, "you have not used " + printable(request.dataset()) +
                                                     ": what others cached is theirs, or an operator's, to evict"));
  if (!person.is_operator && parts.staging.used_by_other(*dataset, person.caller.uid))
    return respond(fail(Code::failed_precondition, "a job of another user uses " + printable(request.dataset()) +
                                                       ": try again when it has ended, or ask an operator"));
  if (parts.datasets.pinned(*dataset))
    return respond(fail(Code::failed_precondition,
                        printable(request.dataset()) + " is pinned: an operator can unpin it (atlasctl unpin)"));
  const auto agents = agents_of(parts, request.nodes());
  if (!agents) return respond(fail(agents.error()));
  struct Gather {
    std::size_t open = 1;
    v1::EvictDatasetReply reply;
  };
  const auto gather = std::make_shared<Gather>();
  const auto one_done = [gather, respond] {
    if (--gather->open == 0) respond(gather->reply);
  };
  for (const auto* agent : *agents) {
    if (!holds_any(*agent, *dataset)) continue;
    if (!agent->connected) {
      gather->reply.add_kept(agent->node + ": its cache agent is not connected");
      continue;
    }
    ++gather->open;
    parts.agents.evict(agent->address, *dataset, {},
                       [&strand = parts.strand, node = agent->node, gather, one_done](const Result<EvictOutcome>& out) {
                         strand.post([node, gather, one_done, out] {
                           if (out) {
                             gather->reply.set_bytes(gather->reply.bytes() + out->bytes.count);
                             gather->reply.set_replicas(gather->reply.replicas() + out->replicas);
                             for (const auto& kept : out->kept) gather->reply.add_kept(node + ": " + printable(kept));
                           } else {
                             gather->reply.add_kept(node + ": " + printable(out.error().message));
                           }
                           one_done();
                         });
                       });
  }
  parts.log.info("eviction of " + parts.datasets.label_of(*dataset) + " by " + person.name);
  one_done();
}

namespace {

/// The nodes to warm: those named, else the one place() would choose for a job. To verify: else all that hold it.
Result<std::vector<std::string>> warm_targets(const ControllerParts& parts, const v1::WarmDatasetRequest& request,
                                              const DatasetId& dataset) {
  if (request.nodes().empty() && request.verify()) {
    std::vector<std::string> holders;
    for (const auto& [node, agent] : parts.registry.agents())
      if (agent.connected && holds_any(agent, dataset)) holders.push_back(node);
    if (!holders.empty()) return holders;
    return fail(Code::not_found, "no node holds " + printable(request.dataset()) + ": there is nothing to verify");
  }
  if (!request.nodes().empty()) {
    ATLAS_ASSIGN(const auto agents, agents_of(parts, request.nodes()));
    std::vector<std::string> names;
    for (const auto* agent : agents) {
      if (!agent->connected)
        return fail(Code::unavailable, "the cache agent of " + agent->node + " is not connected (atlasctl node list)");
      names.push_back(agent->node);
    }
    return names;
  }
  Staging::Question question;
  question.request.datasets = {request.dataset()};
  question.request.warm = WarmMode::wait;
  question.nodes = std::max<std::uint32_t>(1, parts.datasets.policy_of(dataset).replicas);
  ATLAS_ASSIGN(const auto decision, parts.staging.explain(question));
  if (decision.nodes.empty()) return fail(Code::resource_exhausted, decision.reason);
  return decision.nodes;
}

/// A quota that does not suffice is no mistake in the command.
Error as_told(Error error, const std::string& node) {
  if (error.code == Code::out_of_range) error.code = Code::resource_exhausted;
  return error.in(node);
}

}  // namespace

void warm_dataset(const ControllerParts& parts, const Person& person, const v1::WarmDatasetRequest& request,
                  const std::shared_ptr<ServerStream<v1::Progress>>& stream) {
  const auto dataset = parts.datasets.resolve(request.dataset());
  if (!dataset) return stream->finish(fail(dataset.error()));
  const auto nodes = warm_targets(parts, request, *dataset);
  if (!nodes) return stream->finish(fail(nodes.error()));
  struct Gather {
    std::size_t open;
    Status result;
  };
  const auto gather = std::make_shared<Gather>(Gather{nodes->size(), {}});
  for (const auto& pattern : request.patterns())
    if (auto ok = check_pattern(pattern); !ok) return stream->finish(ok);
  WarmOrder order{*dataset, {person.caller.uid, person.caller.gid, {}}, {}, {}, true, request.verify()};
  order.policy = parts.datasets.policy_of(*dataset);
  order.asked = parts.clock.wall();
  order.account = parts.staging.io_limits().account_of(person.caller.uid);
  order.only = {{request.patterns().begin(), request.patterns().end()},
                {request.files().begin(), request.files().end()},
                request.metadata_only()};
  for (const auto& node : *nodes) {
    if (request.verify() || !order.only.all()) {  // nobody else's business: neither joined nor taken up again
      parts.agents.warm(
          parts.registry.find(node)->address, order,
          [stream, node](WarmProgress progress) {
            progress.node = node;
            stream->write(to_wire(progress));
          },
          [&strand = parts.strand, stream, gather, node](const Status& status) {
            strand.post([stream, gather, node, status] {
              if (!status && gather->result) gather->result = fail(as_told(status.error(), node));
              if (--gather->open == 0) stream->finish(gather->result);
            });
          });
      continue;
    }
    static_cast<void>(
        parts.staging.warmups().want(node, order,
                                     {[stream](const WarmProgress& progress) { stream->write(to_wire(progress)); },
                                      [stream, gather, node](const Result<Generation>& generation) {
                                        if (!generation && gather->result)
                                          gather->result = fail(as_told(generation.error(), node));
                                        if (--gather->open == 0) stream->finish(gather->result);
                                      }}));
  }
}

void pin_new_replica(const ControllerParts& parts, const AgentInfo& agent, const ReplicaInfo& replica) {
  if (replica.pinned || replica.state == ReplicaState::absent || !parts.datasets.pinned(replica.dataset)) return;
  parts.agents.pin(agent.address, replica.dataset, true, [](const Result<std::uint32_t>&) {
    // Not pinned now: its next report says so, and it is tried again.
  });
}

}  // namespace atlas
