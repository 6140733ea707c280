#include "cache-agent/store/sharing.h"

#include <sys/stat.h>

#include <filesystem>
#include <map>
#include <string>

#include "cache-agent/store/replica_state.h"

namespace atlas::agent {
namespace {

/// Walks two trees of one dataset side by side: by name, from the root down.
class Matcher {
 public:
  Matcher(const Replica& lender, const Manifest& old, const Manifest& fresh)
      : lender_(lender), old_(old), fresh_(fresh) {}

  void match(FileIndex a, FileIndex b, Lender& out) {
    const auto mine = old_.at(a), wanted = fresh_.at(b);
    if (mine.is(EntryType::directory) && wanted.is(EntryType::directory)) return match_children(mine, wanted, out);
    if (wanted.blocks == 0 || mine.attributes != wanted.attributes) return;
    const FileIndex leader = mine.leader;
    const Extent whole{leader, {}, Bytes{wanted.attributes.size}};
    if (old_.at(leader).blocks != wanted.blocks || !lender_.resident(old_, whole)) return;
    out.files.emplace_back(leader, b);
    out.bytes += wanted.attributes.size;
  }

 private:
  /// Children are sorted by name.
  void match_children(const Manifest::Entry& a, const Manifest::Entry& b, Lender& out) {
    for (FileIndex i = 0, j = 0; i < a.children && j < b.children;) {
      const auto left = old_.at(a.first_child + i), right = fresh_.at(b.first_child + j);
      if (left.name == right.name) match(a.first_child + i, b.first_child + j, out);
      i += left.name <= right.name ? 1U : 0U;
      j += right.name <= left.name ? 1U : 0U;
    }
  }

  const Replica& lender_;
  const Manifest &old_, &fresh_;
};

}  // namespace

Result<Lender> look_for_equal_files(std::shared_ptr<Replica> replica, const Manifest& manifest) {
  Lender lender;
  ATLAS_ASSIGN(const auto old, replica->manifest());
  Matcher(*replica, *old, manifest).match(0, 0, lender);
  lender.replica = std::move(replica);
  return lender;
}

Status lend(const Lender& lender, Replica& into) {
  if (lender.files.empty()) return {};
  ATLAS_ASSIGN(const auto old, lender.replica->manifest());
  ATLAS_ASSIGN(const auto fresh, into.manifest());
  const auto& from = lender.replica->internals();
  const auto& to = into.internals();
  for (const auto& [mine, wanted] : lender.files) {
    const auto entry = fresh->at(wanted);
    const Extent whole{wanted, {}, Bytes{entry.attributes.size}};
    if (into.resident(*fresh, whole)) continue;
    if (!to.tree.link_from(from.tree, *old, mine, *fresh, wanted)) continue;  // fetched, then
    BlockSums sums(entry.blocks);
    for (std::uint32_t i = 0; i < entry.blocks; ++i) sums[i] = from.blocks.sum(old->at(mine).first_block + i);
    ATLAS_TRY(into.adopt(whole, sums));
    into.internals().borrowed_bytes += to.tree.inode_of(*fresh, wanted).value_or(ReplicaTree::Inode{}).bytes;
    ++into.internals().borrowed_inodes;
  }
  lender.replica->forget_manifest();
  return {};
}

SharedInodes shared_with_others(const std::string& path) {
  struct Inode {
    std::uint64_t bytes = 0, links = 0, seen = 0;
  };
  std::map<ino_t, Inode> inodes;
  std::error_code error;
  for (auto it = std::filesystem::recursive_directory_iterator(path, error);
       !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error)) {
    struct stat st {};
    if (lstat(it->path().c_str(), &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink < 2) continue;
    auto& inode = inodes[st.st_ino];
    inode.bytes = static_cast<std::uint64_t>(st.st_blocks) * 512;
    inode.links = st.st_nlink;
    ++inode.seen;
  }
  SharedInodes shared;
  for (const auto& [number, inode] : inodes)
    if (inode.links > inode.seen) shared[number] = inode.bytes;
  return shared;
}

}  // namespace atlas::agent
