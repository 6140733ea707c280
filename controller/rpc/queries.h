#pragma once
#include <functional>
#include <string>
#include <vector>

#include "atlas/v1/controller.pb.h"
#include "controller/staging/agent_port.h"
#include "controller/staging/datasets.h"
#include "controller/staging/registry.h"
#include "controller/staging/staging.h"
#include "controller/staging/users.h"
#include "proto/munge.h"

namespace atlas {

/// The parts of the controller that answer people. All but `users` live on the strand.
struct ControllerParts {
  Executor& strand;
  Staging& staging;
  Registry& registry;
  Datasets& datasets;
  Catalog& catalog;
  Users& users;
  AgentPort& agents;
  const Config& config;
};

/// A caller with what he may do. Made off the strand: it may ask the name service.
struct Person {
  Caller caller;
  std::string name;
  bool is_operator = false;
};
[[nodiscard]] Person person_of(Users& users, Caller caller);

// Answers of the controller, as messages. On the strand; nothing blocks. People see datasets that have a site-wide
// name, that they named, or that they have read with success (the origin let them), and their own jobs; operators see
// all.

[[nodiscard]] v1::JobStatus to_wire(const JobView& view, Users& users);
[[nodiscard]] bool may_see(const ControllerParts& parts, const Person& who, const DatasetId& dataset);

[[nodiscard]] Result<v1::ListDatasetsReply> list_datasets(const ControllerParts& parts, const Person& who,
                                                          const std::string& which);
[[nodiscard]] Result<v1::Dataset> describe_dataset(const ControllerParts& parts, const DatasetId& dataset);
[[nodiscard]] Result<v1::PlacementReply> placement(const ControllerParts& parts, const Person& who,
                                                   const v1::PlacementRequest& request);
[[nodiscard]] Result<v1::ListNodesReply> list_nodes(const ControllerParts& parts, const std::string& hostlist);
[[nodiscard]] Result<v1::ListJobsReply> list_jobs(const ControllerParts& parts, const Person& who, bool all);
[[nodiscard]] Result<v1::ExplainReply> explain(const ControllerParts& parts, const v1::ExplainRequest& request);
[[nodiscard]] v1::DoctorReply doctor(const ControllerParts& parts);

}  // namespace atlas
