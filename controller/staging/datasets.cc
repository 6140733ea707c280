#include "controller/staging/datasets.h"

#include <algorithm>

#include "common/percent.h"
#include "common/request.h"

namespace atlas {

Datasets::Datasets(Catalog& catalog, const Clock& clock, const std::vector<OriginConfig>& origins)
    : catalog_(catalog), clock_(clock), origins_(origins) {}

Status Datasets::load() {
  ATLAS_ASSIGN(const auto names, catalog_.names());
  for (const auto& name : names) names_[name.name] = name;
  ATLAS_ASSIGN(const auto pins, catalog_.pins());
  pins_ = {pins.begin(), pins.end()};
  ATLAS_ASSIGN(settings_, catalog_.settings());
  ATLAS_ASSIGN(const auto shares, catalog_.shares());
  for (const auto& [dataset, share] : shares) shares_[dataset].push_back(share);
  return {};
}

std::string Datasets::origins_text() const {
  if (origins_.empty()) return "no [[origin]] is configured";
  std::string out = "the origins are ";
  for (std::size_t i = 0; i < origins_.size(); ++i)
    out += (i == 0 ? "" : ", ") + origins_[i].name + " (" + origins_[i].root + ")";
  return out;
}

Result<DatasetId> Datasets::resolve(std::string_view path_or_name) const {
  ATLAS_ASSIGN(const std::string text, parse_dataset_option(path_or_name));
  if (text[0] != '/') {
    const auto at = names_.find(text);
    if (at == names_.end())
      return fail(Code::not_found,
                  "there is no dataset named '" + printable(text) + "': see atlasctl dataset list, or give its path");
    return at->second.dataset;
  }
  const OriginConfig* best = nullptr;
  for (const auto& origin : origins_) {
    const bool below = text == origin.root || (text.size() > origin.root.size() && text.starts_with(origin.root) &&
                                               text[origin.root.size()] == '/');
    if (below && (best == nullptr || best->root.size() < origin.root.size())) best = &origin;
  }
  if (best == nullptr) return fail(Code::not_found, printable(text) + " lies below no origin: " + origins_text());
  return DatasetId{best->name, text == best->root ? "" : text.substr(best->root.size() + 1)};
}

std::string Datasets::path_of(const DatasetId& dataset) const {
  for (const auto& origin : origins_)
    if (origin.name == dataset.origin) return dataset.path.empty() ? origin.root : origin.root + "/" + dataset.path;
  return dataset.origin + ":" + dataset.path;  // an origin that the configuration no longer names
}

const DatasetName* Datasets::best_name(const DatasetId& dataset, const std::optional<std::string>& viewer) const {
  const DatasetName* best = nullptr;
  for (const auto& [text, name] : names_) {
    if (name.dataset != dataset) continue;
    if (text[0] != '~') return &name;
    if (best == nullptr && (!viewer || name.owner == *viewer)) best = &name;
  }
  return best;
}

std::string Datasets::name_of(const DatasetId& dataset, const std::optional<std::string>& viewer) const {
  const auto* name = best_name(dataset, viewer);
  return name == nullptr ? "" : name->name;
}

std::string Datasets::owner_of(const DatasetId& dataset, const std::optional<std::string>& viewer) const {
  const auto* name = best_name(dataset, viewer);
  return name == nullptr ? "" : name->owner;
}

std::string Datasets::label_of(const DatasetId& dataset) const {
  const auto* name = best_name(dataset, "");
  return name == nullptr ? printable(path_of(dataset)) : name->name;
}

bool Datasets::has_site_name(const DatasetId& dataset) const {
  return best_name(dataset, "") != nullptr;
}

namespace {

Status may_own(const std::string& name, const std::string& by, bool is_operator) {
  const bool personal = name[0] == '~';
  if (is_operator || (personal && name.substr(1, name.find('/') - 1) == by)) return {};
  return fail(Code::permission_denied,
              personal ? "the name '" + name + "' belongs to " + name.substr(1, name.find('/') - 1) +
                             ": yours begin with ~" + by + "/"
                       : "site-wide names are an operator's (site.operators): yours begin with ~" + by + "/");
}

}  // namespace

Result<DatasetId> Datasets::create(const std::string& name, const std::string& path, const std::string& by,
                                   bool is_operator) {
  ATLAS_ASSIGN(const auto checked, parse_dataset_option(name));
  if (checked[0] == '/')
    return fail(Code::invalid_argument, "'" + printable(name) + "' is a path, not a name: dataset create NAME PATH");
  ATLAS_TRY(may_own(checked, by, is_operator));
  if (path.empty() || path[0] != '/')
    return fail(Code::invalid_argument, "'" + printable(path) + "' is not an absolute path: dataset create NAME PATH");
  ATLAS_ASSIGN(const auto dataset, resolve(path));
  const DatasetName entry{checked, dataset, by};
  ATLAS_TRY(catalog_.create_name(entry, clock_.wall()));
  names_[checked] = entry;
  return dataset;
}

Status Datasets::remove(const std::string& name, const std::string& by, bool is_operator) {
  const auto at = names_.find(name);
  if (at == names_.end())
    return fail(Code::not_found, "there is no dataset named '" + printable(name) + "': see atlasctl dataset list");
  ATLAS_TRY(may_own(name, by, is_operator));
  ATLAS_TRY(catalog_.delete_name(name));
  names_.erase(at);
  return {};
}

DatasetPolicy Datasets::policy_of(const DatasetId& dataset) const {
  const auto settled = settings_.find(dataset);
  DatasetPolicy policy = settled == settings_.end() ? DatasetPolicy{} : settled->second.policy;
  if (const auto shares = shares_.find(dataset); shares != shares_.end())
    for (const auto& share : shares->second) policy.grants.push_back(share.grant);
  return policy;
}

Status Datasets::settle(const DatasetId& dataset, const DatasetSettings& settings) {
  ATLAS_TRY(catalog_.put_settings(dataset, settings, clock_.wall()));
  settings_[dataset] = settings;
  return {};
}

std::vector<DatasetShare> Datasets::shares_of(const DatasetId& dataset) const {
  const auto found = shares_.find(dataset);
  return found == shares_.end() ? std::vector<DatasetShare>() : found->second;
}

Status Datasets::share(const DatasetId& dataset, const DatasetShare& share) {
  ATLAS_TRY(catalog_.put_share(dataset, share));
  auto& all = shares_[dataset];
  std::erase_if(all, [&](const auto& other) { return other.grant.group == share.grant.group; });
  all.push_back(share);
  return {};
}

Status Datasets::unshare(const DatasetId& dataset, const std::string& group, const std::string& by) {
  auto& all = shares_[dataset];
  const auto found = std::find_if(all.begin(), all.end(), [&](const auto& share) { return share.group == group; });
  if (found == all.end())
    return fail(Code::not_found,
                label_of(dataset) + " is not shared with group '" + printable(group) + "': see atlasctl dataset show");
  ATLAS_TRY(catalog_.drop_share(dataset, *found, by, clock_.wall()));
  all.erase(found);
  return {};
}

Status Datasets::set_pinned(const DatasetId& dataset, bool pinned, const std::string& by) {
  ATLAS_TRY(catalog_.set_pin(dataset, pinned, by, clock_.wall()));
  if (pinned) {
    pins_.insert(dataset);
  } else {
    pins_.erase(dataset);
  }
  return {};
}

}  // namespace atlas
