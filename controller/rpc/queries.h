#pragma once
#include "atlas/v1/controller.pb.h"
#include "controller/rpc/parts.h"

// Answers that change nothing, built from what the controller knows. On the strand.
namespace atlas {

[[nodiscard]] v1::JobStatus job_status(const ControllerParts& parts, const JobView& view);
[[nodiscard]] v1::Alternative to_wire(const PlanRow& row);
[[nodiscard]] Result<v1::ListJobsReply> list_jobs(const ControllerParts& parts, const Person& person,
                                                  const v1::ListJobsRequest& request);
[[nodiscard]] v1::Dataset dataset_row(const ControllerParts& parts, const Person& person, const DatasetId& dataset);
[[nodiscard]] Result<v1::ListDatasetsReply> list_datasets(const ControllerParts& parts, const Person& person,
                                                          const v1::ListDatasetsRequest& request);
[[nodiscard]] Result<v1::PlacementReply> placement(const ControllerParts& parts, const Person& person,
                                                   const v1::PlacementRequest& request);
[[nodiscard]] Result<v1::ListNodesReply> list_nodes(const ControllerParts& parts, const v1::ListNodesRequest& request);
[[nodiscard]] v1::PeersReply find_peers(const ControllerParts& parts, const v1::PeersRequest& request);
/// What would have been done with jobs that were only looked at, by Slurm account. Operators only.
[[nodiscard]] Result<v1::ObservedReply> observed(const ControllerParts& parts, const Person& person);
[[nodiscard]] v1::DoctorReply doctor(const ControllerParts& parts);
/// An agent's state in one word: up | lost | drained | unknown.
[[nodiscard]] std::string_view state_of(const AgentInfo* agent);

}  // namespace atlas
