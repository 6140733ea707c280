#include "cache-agent/rpc/plan_client.h"

#include <algorithm>

#include "proto/client.h"
#include "proto/convert.h"

namespace atlas::agent {

Result<std::optional<JobOrder>> PlanClient::plan_of(std::uint32_t job_id, SteadyTime deadline) {
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
  if (left <= milliseconds(0)) return fail(Code::deadline_exceeded, "no time left to ask " + peer_);
  v1::JobPlanRequest request;
  request.set_job_id(job_id);
  request.set_node(node_);
  ATLAS_ASSIGN(const v1::JobPlanReply reply,
               call(auth_, *stub_, &v1::Controller::Stub::JobPlan, "Controller.JobPlan", request, left, peer_));
  if (!reply.known()) return std::optional<JobOrder>();
  JobOrder order{from_wire(reply.job()),
                 from_wire(reply.as()),
                 {},
                 reply.reason(),
                 milliseconds(reply.waited()),
                 Bytes{reply.cache_limit()},
                 from_wire(reply.on_change()),
                 reply.account(),
                 from_wire(reply.io_limit())};
  const auto now = std::chrono::steady_clock::now();
  for (int i = 0; i < reply.datasets_size(); ++i)
    order.datasets.push_back(
        {from_wire(reply.datasets(i)),
         i < reply.generations_size() ? GenerationId::of(reply.generations(i)) : GenerationId{},
         i < reply.policies_size() ? decode_policy(reply.policies(i)).value_or(DatasetPolicy{}) : DatasetPolicy{},
         i < reply.ages_size() ? now - milliseconds(std::max<std::int64_t>(0, reply.ages(i))) : now,
         i < reply.read_write_size() && reply.read_write(i)});
  for (const auto& node : reply.divided()) order.divided.push_back(from_wire(node));
  return std::optional(std::move(order));
}

}  // namespace atlas::agent
