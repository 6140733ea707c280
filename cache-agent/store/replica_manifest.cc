#include "cache-agent/store/replica_state.h"
#include "db/node_manifest.h"

namespace atlas::agent {
namespace {

std::string file_in(const std::string& directory) {
  return directory + "/manifest.db";
}

}  // namespace

Status save_manifest(const std::string& directory, const Manifest& manifest) {
  return ManifestFile::write(file_in(directory), manifest.size(), [&](std::uint32_t index) {
    const auto entry = manifest.at(index);
    const auto& a = entry.attributes;
    return ManifestFile::Row{entry.parent, entry.leader, entry.name, entry.target, static_cast<std::uint8_t>(a.type),
                             a.flags,      a.mode,       a.uid,      a.gid,        a.size,
                             a.rdev,       a.mtime,      a.ctime};
  });
}

Result<std::shared_ptr<const Manifest>> load_manifest(const std::string& directory, const std::string& dataset_root,
                                                      const GenerationId& expected) {
  ManifestLoader loader(dataset_root);
  ATLAS_TRY(ManifestFile::read(file_in(directory), [&](const ManifestFile::Row& r) -> Status {
    if (r.type > static_cast<std::uint8_t>(EntryType::block_device))
      return fail(Code::data_loss, "unknown type of entry");
    return loader.add(
        {r.parent,
         r.leader,
         r.name,
         r.target,
         {static_cast<EntryType>(r.type), r.flags, r.mode, r.uid, r.gid, r.size, r.mtime, r.ctime, r.rdev},
         r.size});
  }));
  ATLAS_ASSIGN(Manifest manifest, std::move(loader).finish());
  if (manifest.summary().generation != expected)
    return fail(Code::data_loss, file_in(directory) + " is damaged: it describes another generation");
  return std::make_shared<const Manifest>(std::move(manifest));
}

}  // namespace atlas::agent
