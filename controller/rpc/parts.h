#pragma once
#include "controller/staging/agent_port.h"
#include "controller/staging/datasets.h"
#include "controller/staging/registry.h"
#include "controller/staging/staging.h"
#include "controller/staging/users.h"
#include "proto/munge.h"

namespace atlas {

/// What the rpc edge answers from. All but users and strand belong to the strand.
struct ControllerParts {
  Executor& strand;
  Staging& staging;
  Registry& registry;
  Datasets& datasets;
  Catalog& catalog;
  Users& users;
  AgentPort& agents;
  const Clock& clock;
  const Config& config;
  const Log& log;
};

/// Who calls and what he may: root, SlurmUser and site.operators see and may everything.
struct Person {
  Caller caller;
  std::string name;
  bool is_operator = false;
  std::vector<gid_t> groups{};
};

/// Whose personal names of datasets a person is shown: his own; nullopt = everybody's.
[[nodiscard]] inline std::optional<std::string> viewer_of(const Person& person) {
  return person.is_operator ? std::nullopt : std::optional(person.name);
}

/// permission_denied unless an operator asks; `what` begins the message ("draining nodes").
[[nodiscard]] Status operators_only(const Person& person, const std::string& what);

/// A user may know of a dataset that has a site-wide name or is shared with him, and of what he has read with success:
/// first version; that an origin's path is readable for him is found out on the nodes only.
[[nodiscard]] bool may_see(const ControllerParts& parts, const Person& person, const DatasetId& dataset);

}  // namespace atlas
