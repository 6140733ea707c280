#include "controller/rpc/dataset_settings.h"

#include <algorithm>

#include "common/patterns.h"
#include "common/percent.h"
#include "controller/rpc/queries.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

/// Who owns the root is seen at once; the rest of the walk does not matter.
constexpr std::chrono::milliseconds kLook = 500ms;

using WithOwner = std::function<void(Result<std::uint32_t>)>;

/// Whose the dataset's root is, as this person sees it at the origin now. What an operator may not see there is known
/// from the replicas.
void find_owner(const ControllerParts& parts, const Person& person, const DatasetId& dataset, const WithOwner& done) {
  const auto newest = parts.registry.newest(dataset);
  if (person.is_operator && newest && newest->owner) return done(*newest->owner);
  const AgentInfo* agent = nullptr;
  for (const auto& [node, info] : parts.registry.agents())
    if (info.connected && agent == nullptr) agent = &info;
  if (agent == nullptr)
    return done(
        fail(Code::unavailable, "no node's cache agent is connected: nobody can be asked whose the dataset is"));
  // With the settings as they are: the node takes over what it is told.
  parts.agents.survey(agent->address, dataset, {person.caller.uid, person.caller.gid, {}},
                      parts.datasets.policy_of(dataset), kLook,
                      [&strand = parts.strand, done](const Result<WarmProgress>& seen) {
                        strand.post([done, seen] {
                          if (!seen) return done(fail(seen.error()));
                          if (!seen->generation.owner)
                            return done(fail(Code::unavailable, "its origin did not say in time whose the dataset is"));
                          done(*seen->generation.owner);
                        });
                      });
}

/// Goes on if the person is an operator or owns the root.
void owner_or_operator(const ControllerParts& parts, const Person& person, const DatasetId& dataset,
                       const std::string& what, const WithOwner& done) {
  find_owner(parts, person, dataset, [parts, person, dataset, what, done](const Result<std::uint32_t>& owner) {
    if (owner && *owner == person.caller.uid) parts.registry.note_reader(dataset, person.caller.uid);
    if (owner && (person.is_operator || *owner == person.caller.uid)) return done(owner);
    if (!owner && owner.error().code != Code::permission_denied) return done(owner);
    done(fail(Code::permission_denied, what + " is for the owner of " + parts.datasets.path_of(dataset) +
                                           " at its origin, and for operators (site.operators)"));
  });
}

bool empty(const v1::DatasetSettings& s) {
  return !s.has_revalidate() && s.exclude().empty() && !s.clear_exclude() && !s.has_cache() && !s.has_tier() &&
         !s.has_ttl() && !s.has_replicas();
}

Status apply(const v1::DatasetSettings& in, const Config& config, DatasetPolicy& policy) {
  if (in.has_revalidate()) ATLAS_TRY(parse_revalidate_option(in.revalidate(), policy));
  if (in.clear_exclude()) policy.exclude.clear();
  if (!in.exclude().empty()) policy.exclude.assign(in.exclude().begin(), in.exclude().end());
  for (const auto& pattern : policy.exclude) ATLAS_TRY(check_pattern(pattern));
  if (in.has_cache()) policy.cache = Bytes{in.cache()};
  if (in.has_tier()) {
    const auto& tiers = config.tiers;
    if (!in.tier().empty() &&
        std::none_of(tiers.begin(), tiers.end(), [&](const auto& tier) { return tier.name == in.tier(); }))
      return fail(Code::not_found, "--tier: no [[tier]] is named '" + printable(in.tier()) + "' in atlas.toml");
    policy.tier = in.tier();
  }
  if (in.has_ttl()) {
    if (in.ttl() < 0) return fail(Code::invalid_argument, "--ttl: a time is needed, e.g. 7d");
    policy.ttl = milliseconds(in.ttl());
  }
  if (in.has_replicas()) policy.replicas = in.replicas();
  ATLAS_ASSIGN(const auto same, decode_policy(encode(policy)));  // as the nodes will read it
  return same == policy ? Status{} : Status(fail(Code::internal, "settings that cannot be written down"));
}

Status settle(const ControllerParts& parts, const Person& person, const DatasetId& dataset,
              const v1::DatasetSettings& change) {
  const auto known = parts.datasets.settings().find(dataset);
  DatasetSettings settings = known == parts.datasets.settings().end() ? DatasetSettings{} : known->second;
  ATLAS_TRY(apply(change, parts.config, settings.policy));
  settings.uid = person.caller.uid;
  settings.gid = person.caller.gid;
  settings.set_by = person.name;
  ATLAS_TRY(parts.datasets.settle(dataset, settings));
  parts.log.info("settings of " + parts.datasets.label_of(dataset) + " by " + person.name + ": " +
                 encode(settings.policy));
  return {};
}

Status grant(const ControllerParts& parts, const Person& person, const DatasetId& dataset, const std::string& group,
             std::uint32_t owner) {
  const auto gid = group_named(group);
  if (!gid) return fail(Code::not_found, "there is no group '" + printable(group) + "' (getent group)");
  const auto owner_group = primary_group_of(owner);
  if (!owner_group)
    return fail(Code::failed_precondition, "its owner, uid " + std::to_string(owner) + ", has no account on this host");
  if (owner == 0)
    return fail(Code::invalid_argument,
                "it belongs to root at its origin, whose rights are not given away: nothing "
                "of it is closed to a user who may enter it, or chown it first");
  const auto owner_name = parts.users.name_of(owner);
  ATLAS_TRY(
      parts.datasets.share(dataset, {{*gid, owner, *owner_group}, group, owner_name, person.name, parts.clock.wall()}));
  parts.log.info("grant: " + person.name + " shared " + parts.datasets.path_of(dataset) + " of " + owner_name +
                 " with group " + group);
  return {};
}

}  // namespace

void create_dataset(const ControllerParts& parts, const Person& person, const v1::CreateDatasetRequest& request,
                    Respond<v1::CreateDatasetReply> respond) {
  const auto make = [parts, person, request, respond] {
    const auto dataset = parts.datasets.create(request.name(), request.path(), person.name, person.is_operator);
    if (!dataset) return respond(fail(dataset.error()));
    parts.log.info("dataset " + request.name() + " made by " + person.name);
    if (!empty(request.settings())) {
      if (auto done = settle(parts, person, *dataset, request.settings()); !done) {
        static_cast<void>(parts.datasets.remove(request.name(), person.name, person.is_operator));
        return respond(fail(done.error()));
      }
    }
    v1::CreateDatasetReply out;
    *out.mutable_dataset() = dataset_row(parts, person, *dataset);
    respond(std::move(out));
  };
  if (empty(request.settings()) || person.is_operator) return make();
  const auto dataset = parts.datasets.resolve(request.path());
  if (!dataset) return respond(fail(dataset.error()));
  owner_or_operator(parts, person, *dataset, "settling how a dataset is cached",
                    [make, respond](const Result<std::uint32_t>& owner) {
                      if (!owner) return respond(fail(owner.error()));
                      make();
                    });
}

void set_dataset(const ControllerParts& parts, const Person& person, const v1::SetDatasetRequest& request,
                 Respond<v1::SetDatasetReply> respond) {
  const auto dataset = parts.datasets.resolve(request.dataset());
  if (!dataset) return respond(fail(dataset.error()));
  const auto change = [parts, person, request, respond, dataset = *dataset] {
    if (auto done = settle(parts, person, dataset, request.settings()); !done) return respond(fail(done.error()));
    v1::SetDatasetReply out;
    *out.mutable_dataset() = dataset_row(parts, person, dataset);
    respond(std::move(out));
  };
  if (person.is_operator) return change();
  owner_or_operator(parts, person, *dataset, "settling how a dataset is cached",
                    [change, respond](const Result<std::uint32_t>& owner) {
                      if (!owner) return respond(fail(owner.error()));
                      change();
                    });
}

void share_dataset(const ControllerParts& parts, const Person& person, const v1::ShareDatasetRequest& request,
                   Respond<v1::ShareDatasetReply> respond) {
  const auto dataset = parts.datasets.resolve(request.dataset());
  if (!dataset) return respond(fail(dataset.error()));
  const auto change = [parts, person, request, respond, dataset = *dataset](std::uint32_t owner) {
    Status done;
    if (request.remove()) {
      done = parts.datasets.unshare(dataset, request.group(), person.name);
      if (done)
        parts.log.info("grant: " + person.name + " no longer shares " + parts.datasets.path_of(dataset) +
                       " with group " + printable(request.group()));
    } else {
      done = grant(parts, person, dataset, request.group(), owner);
    }
    if (!done) return respond(fail(done.error()));
    v1::ShareDatasetReply out;
    *out.mutable_dataset() = dataset_row(parts, person, dataset);
    respond(std::move(out));
  };
  if (request.remove()) {  // who has granted it may always take it back
    const auto shares = parts.datasets.shares_of(*dataset);
    const bool may =
        person.is_operator || std::any_of(shares.begin(), shares.end(), [&](const auto& share) {
          return share.group == request.group() && (share.by == person.name || share.grant.owner == person.caller.uid);
        });
    if (may) return change(0);
  }
  owner_or_operator(parts, person, *dataset, "sharing a dataset",
                    [change, respond](const Result<std::uint32_t>& owner) {
                      if (!owner) return respond(fail(owner.error()));
                      change(*owner);
                    });
}

}  // namespace atlas
