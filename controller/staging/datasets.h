#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "common/identity.h"
#include "db/catalog.h"

namespace atlas {

/// Datasets' names, and what paths and names mean. Lives on the strand.
class Datasets {
 public:
  Datasets(Catalog& catalog, const Clock& clock, const std::vector<OriginConfig>& origins);
  [[nodiscard]] Status load();

  /// An absolute path below an origin, or a name. invalid_argument for what is neither, not_found for an unknown name
  /// or a path outside all origins; the message says which origins there are.
  [[nodiscard]] Result<DatasetId> resolve(std::string_view path_or_name) const;
  [[nodiscard]] std::string path_of(const DatasetId& dataset) const;
  /// The site-wide name if it has one, else one of the viewer's own, else empty. A personal name is its owner's to
  /// know; nullopt sees everybody's (operators).
  [[nodiscard]] std::string name_of(const DatasetId& dataset, const std::optional<std::string>& viewer) const;
  [[nodiscard]] std::string owner_of(const DatasetId& dataset, const std::optional<std::string>& viewer) const;
  /// For messages: the site-wide name if there is one, else the path, printable.
  [[nodiscard]] std::string label_of(const DatasetId& dataset) const;
  [[nodiscard]] bool has_site_name(const DatasetId& dataset) const;
  [[nodiscard]] const std::map<std::string, DatasetName, std::less<>>& names() const { return names_; }

  /// `by` is the caller's account. A name "~user/x" is that user's (or an operator's) to make and delete, any other an
  /// operator's.
  [[nodiscard]] Result<DatasetId> create(const std::string& name, const std::string& path, const std::string& by,
                                         bool is_operator);
  [[nodiscard]] Status remove(const std::string& name, const std::string& by, bool is_operator);

  /// What the nodes are told of it: its settings, and who shares it.
  [[nodiscard]] DatasetPolicy policy_of(const DatasetId& dataset) const;
  [[nodiscard]] const std::map<DatasetId, DatasetSettings>& settings() const { return settings_; }
  /// Replaces them.
  [[nodiscard]] Status settle(const DatasetId& dataset, const DatasetSettings& settings);
  [[nodiscard]] std::vector<DatasetShare> shares_of(const DatasetId& dataset) const;
  [[nodiscard]] Status share(const DatasetId& dataset, const DatasetShare& share);
  /// not_found when it is not shared with the group.
  [[nodiscard]] Status unshare(const DatasetId& dataset, const std::string& group, const std::string& by);

  [[nodiscard]] Status set_pinned(const DatasetId& dataset, bool pinned, const std::string& by);
  [[nodiscard]] bool pinned(const DatasetId& dataset) const { return pins_.contains(dataset); }
  [[nodiscard]] const std::set<DatasetId>& pins() const { return pins_; }

 private:
  [[nodiscard]] const DatasetName* best_name(const DatasetId& dataset, const std::optional<std::string>& viewer) const;
  [[nodiscard]] std::string origins_text() const;

  Catalog& catalog_;
  const Clock& clock_;
  std::vector<OriginConfig> origins_;
  std::map<std::string, DatasetName, std::less<>> names_;
  std::set<DatasetId> pins_;
  std::map<DatasetId, DatasetSettings> settings_;
  std::map<DatasetId, std::vector<DatasetShare>> shares_;
};

}  // namespace atlas
