#include "controller/rpc/top.h"

#include <map>

#include "common/percent.h"
#include "proto/convert_reads.h"

namespace atlas {

v1::TopReply top(const ControllerParts& parts, const Person& person) {
  std::map<std::string, ReadRates> nodes;
  std::map<std::uint32_t, ReadRates> users;
  std::map<DatasetId, ReadRates> datasets;
  for (const auto& [node, agent] : parts.registry.agents())
    for (const auto& of : parts.registry.reads_on(agent)) {
      if (!person.is_operator && of.uid != person.caller.uid) continue;
      nodes[node] += of.rates;
      users[of.uid] += of.rates;
      datasets[of.dataset] += of.rates;
    }
  v1::TopReply out;
  out.set_all(person.is_operator);
  for (const auto& [node, rates] : nodes) {
    auto* row = out.add_nodes();
    row->set_name(node);
    *row->mutable_rates() = to_wire(rates);
  }
  for (const auto& [uid, rates] : users) {
    auto* row = out.add_users();
    row->set_name(printable(parts.users.name_of(uid)));
    *row->mutable_rates() = to_wire(rates);
  }
  for (const auto& [dataset, rates] : datasets) {
    auto* row = out.add_datasets();
    if (person.is_operator || may_see(parts, person, dataset))
      row->set_name(parts.datasets.name_of(dataset, viewer_of(person)));
    *row->mutable_dataset() = to_wire(dataset);
    row->set_path(printable(parts.datasets.path_of(dataset)));
    *row->mutable_rates() = to_wire(rates);
  }
  return out;
}

}  // namespace atlas
