#include "controller/rpc/explain.h"

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "common/hostlist.h"
#include "common/percent.h"
#include "controller/rpc/queries.h"
#include "proto/convert.h"

namespace atlas {
namespace {

constexpr std::chrono::milliseconds kWalk{10'000}, kLatest{12'000};
constexpr std::size_t kMostWalks = 4;

/// Nodes of which the same can be said are one row; in the order in which the first of each came.
void add_candidates(const Decision& decision, v1::ExplainReply& out) {
  const auto said = [](const CandidateNode& c) {
    return std::tuple(!c.chosen, c.resident, c.total, c.free_now, c.note, c.start, c.stall);
  };
  std::map<decltype(said(decision.candidates[0])), std::pair<std::size_t, std::vector<std::string>>> rows;
  std::vector<const CandidateNode*> first;
  for (const auto& candidate : decision.candidates) {
    const auto [at, fresh] = rows.try_emplace(said(candidate), first.size(), std::vector<std::string>());
    if (fresh) first.push_back(&candidate);
    at->second.second.push_back(candidate.node);
  }
  for (const auto* candidate : first) {
    auto names = rows.at(said(*candidate)).second;
    sort_hosts(names);
    auto* row = out.add_candidates();
    row->set_nodes(compress_hostlist(names));
    row->set_resident_bytes(candidate->resident.count);
    row->set_total_bytes(candidate->total.count);
    row->set_free_now(candidate->free_now);
    row->set_note(printable(candidate->note));
    row->set_chosen(candidate->chosen);
    if (candidate->start) row->set_start(candidate->start->count());
    if (candidate->stall) row->set_stall(candidate->stall->count());
  }
}

Result<v1::ExplainReply> answer(const ControllerParts& parts, const Staging::Question& question) {
  ATLAS_ASSIGN(const auto decision, parts.staging.explain(question));
  v1::ExplainReply out;
  add_candidates(decision, out);
  for (const auto& what : decision.alternatives) *out.add_alternatives() = to_wire(plan_row(what));
  out.set_decision(what_would_be_done(decision, question.request.warm));
  out.set_reason(printable(decision.reason));
  return out;
}

/// Nothing is said of what others have cached to who has not read it himself. What he has just walked he may read.
Status may_ask(const ControllerParts& parts, const Person& person, const Request& request,
               const std::map<DatasetId, Bytes>* walked) {
  for (const auto& name : request.datasets) {
    ATLAS_ASSIGN(const auto dataset, parts.datasets.resolve(name));
    if (!parts.registry.newest(dataset) || may_see(parts, person, dataset)) continue;
    if (walked != nullptr && walked->contains(dataset)) continue;
    return fail(Code::permission_denied,
                "nothing is shown of " + printable(name) +
                    " before a first job or warm-up of yours has read it (atlasctl dataset warm): others cached it, "
                    "and whether you may know of it is the origin's to say");
  }
  return {};
}

Result<Staging::Question> question_of(const ControllerParts& parts, const Person& person,
                                      const v1::ExplainRequest& request) {
  Staging::Question question;
  ATLAS_ASSIGN(question.request, decode_request(request.request()));
  ATLAS_TRY(may_ask(parts, person, question.request, nullptr));
  question.nodes = std::max<std::uint32_t>(1, request.nodes());
  question.partition = request.partition();
  question.node_list = request.node_list();
  question.exclude = request.exclude();
  question.payer = {person.caller.uid, person.caller.gid, ""};
  return question;
}

/// Datasets that are walked for one answer.
struct Walks {
  Person person;
  Staging::Question question;
  std::size_t open = 0;
  std::vector<v1::Estimate> seen;
  Status failed;
  bool answered = false;
};

void walked(Walks& walks, const DatasetId& dataset, const Result<WarmProgress>& seen) {
  if (!seen) {
    // An answer without it says less; who may not read it, or has mistyped it, is to know.
    const auto code = seen.error().code;
    if (code == Code::permission_denied || code == Code::not_found) walks.failed = fail(seen.error());
    return;
  }
  v1::Estimate estimate;
  *estimate.mutable_dataset() = to_wire(dataset);
  estimate.set_complete(!seen->generation.id.empty());
  const auto bytes = estimate.complete() ? seen->generation.bytes : std::max(seen->bytes_total, seen->bytes_done);
  estimate.set_bytes(bytes.count);
  estimate.set_files(estimate.complete() ? seen->generation.files : std::max(seen->files_total, seen->files_done));
  walks.question.estimates[dataset] = bytes;
  walks.seen.push_back(std::move(estimate));
}

/// Some node in service, not the same one for everybody; "" = none.
std::string agent_for(const ControllerParts& parts, std::uint32_t uid) {
  std::vector<const AgentInfo*> agents;
  for (const auto& [name, info] : parts.registry.agents())
    if (info.in_service()) agents.push_back(&info);
  return agents.empty() ? "" : agents[uid % agents.size()]->address;
}

/// With what has been seen so far. Once.
void finish(const ControllerParts& parts, Walks& walks, const Respond<v1::ExplainReply>& respond) {
  if (std::exchange(walks.answered, true)) return;
  if (!walks.failed) return respond(fail(walks.failed.error()));
  // Somebody else may have brought it meanwhile.
  if (const auto allowed = may_ask(parts, walks.person, walks.question.request, &walks.question.estimates); !allowed)
    return respond(fail(allowed.error()));
  auto reply = answer(parts, walks.question);
  if (reply)
    for (auto& estimate : walks.seen) *reply->add_estimates() = std::move(estimate);
  respond(std::move(reply));
}

}  // namespace

void explain(const ControllerParts& parts, const Person& person, const v1::ExplainRequest& request,
             Respond<v1::ExplainReply> respond) {
  auto question = question_of(parts, person, request);
  if (!question) return respond(fail(question.error()));
  const auto walks = std::make_shared<Walks>();
  std::vector<DatasetId> unseen;
  for (const auto& name : question->request.datasets)
    if (const auto dataset = parts.datasets.resolve(name); dataset && !parts.registry.newest(*dataset))
      unseen.push_back(*dataset);
  walks->person = person;
  walks->question = std::move(*question);
  const auto address = agent_for(parts, person.caller.uid);
  if (address.empty() || unseen.empty()) return respond(answer(parts, walks->question));
  unseen.resize(std::min(unseen.size(), kMostWalks));
  walks->open = unseen.size();
  for (const auto& dataset : unseen)
    parts.agents.survey(address, dataset, {person.caller.uid, person.caller.gid, {}}, parts.datasets.policy_of(dataset),
                        kWalk, [parts, walks, dataset, respond](const Result<WarmProgress>& seen) {
                          parts.strand.post([parts, walks, dataset, respond, seen] {
                            walked(*walks, dataset, seen);
                            if (--walks->open == 0) finish(parts, *walks, respond);
                          });
                        });
  // A node that is busy, or whose origin hangs, keeps nobody waiting.
  parts.strand.post_after(kLatest, [parts, walks, respond] { finish(parts, *walks, respond); });
}

}  // namespace atlas
