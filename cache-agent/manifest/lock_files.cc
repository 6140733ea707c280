#include "cache-agent/manifest/lock_files.h"

namespace atlas::agent {
namespace {

constexpr std::string_view kSuffix = "-lock";

/// The database that a file of this name would be the lock of; "" = none.
std::string_view database_of(std::string_view name) {
  if (name == "lock.mdb") return "data.mdb";
  return name.ends_with(kSuffix) ? name.substr(0, name.size() - kSuffix.size()) : std::string_view();
}

}  // namespace

std::vector<std::string> database_lock_files(const Manifest& manifest) {
  std::vector<std::string> found;
  for (FileIndex i = 1; i < manifest.size(); ++i) {
    const auto entry = manifest.at(i);
    const auto database = database_of(entry.name);
    if (database.empty() || !entry.is(EntryType::file) || (entry.attributes.mode & 0111U) != 0) continue;
    const auto beside = manifest.child(entry.parent, database);
    if (beside && manifest.at(*beside).is(EntryType::file)) found.push_back(manifest.path(i));
  }
  return found;
}

}  // namespace atlas::agent
