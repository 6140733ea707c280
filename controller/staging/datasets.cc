#include "controller/staging/datasets.h"

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

const DatasetName* Datasets::best_name(const DatasetId& dataset) const {
  const DatasetName* best = nullptr;
  for (const auto& [text, name] : names_) {
    if (name.dataset != dataset) continue;
    if (text[0] != '~') return &name;
    if (best == nullptr) best = &name;
  }
  return best;
}

std::string Datasets::name_of(const DatasetId& dataset) const {
  const auto* name = best_name(dataset);
  return name == nullptr ? "" : name->name;
}

std::string Datasets::owner_of(const DatasetId& dataset) const {
  const auto* name = best_name(dataset);
  return name == nullptr ? "" : name->owner;
}

std::string Datasets::label_of(const DatasetId& dataset) const {
  const auto name = name_of(dataset);
  return name.empty() ? printable(path_of(dataset)) : name;
}

bool Datasets::has_site_name(const DatasetId& dataset) const {
  const auto* name = best_name(dataset);
  return name != nullptr && name->name[0] != '~';
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
