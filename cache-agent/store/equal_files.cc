#include "cache-agent/store/equal_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "cache-agent/store/replica_state.h"

namespace atlas::agent {
namespace {

constexpr std::array<std::uint64_t, 2> kMark = {0x31737965'6b6c7461ULL, 1};  // what it is, and which version of it
/// ext4 takes 65,000 names for an inode; others less than a few more.
constexpr nlink_t kMostLinks = 60'000;
/// Equal files of this size are read past the page cache's memory of them.
constexpr off_t kLarge = 64LL << 20;

std::uint64_t digest_of(const std::vector<FileKey>& keys) {
  return XXH3_64bits(keys.data(), keys.size() * sizeof(FileKey));
}

/// All of a file's extended attributes, ACLs among them; nothing when they cannot be read.
std::optional<std::set<std::pair<std::string, std::string>>> xattrs_of(int fd) {
  const auto found = read_xattrs(fd, [](std::string_view) { return true; });
  if (!found) return std::nullopt;
  return std::set(found->begin(), found->end());
}

bool same_bytes(int a, int b, off_t size) {
  std::vector<char> mine(kMiB.count), theirs(kMiB.count);
  for (off_t at = 0; at < size;) {
    const ssize_t got = pread(a, mine.data(), mine.size(), at);
    if (got <= 0 || pread(b, theirs.data(), static_cast<std::size_t>(got), at) != got ||
        std::memcmp(mine.data(), theirs.data(), static_cast<std::size_t>(got)) != 0)
      return false;
    at += got;
  }
  if (size >= kLarge)
    for (const int fd : {a, b}) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  return true;
}

/// How large the second one's inode is; nothing when it must not take the place of the first one's.
std::optional<Space> same_file(int mine, int theirs) {
  struct stat a {
  }, b{};
  if (fstat(mine, &a) != 0 || fstat(theirs, &b) != 0) return std::nullopt;
  const bool same = S_ISREG(a.st_mode) && a.st_dev == b.st_dev && a.st_ino != b.st_ino && a.st_mode == b.st_mode &&
                    a.st_uid == b.st_uid && a.st_gid == b.st_gid && a.st_size == b.st_size &&
                    a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
  // A file that has several names in its own tree keeps them: they are one file there, and seen to be.
  if (!same || a.st_nlink != 1 || b.st_nlink >= kMostLinks) return std::nullopt;
  const auto attributes = xattrs_of(mine);
  if (!attributes || attributes != xattrs_of(theirs) || !same_bytes(mine, theirs, a.st_size)) return std::nullopt;
  return Space{static_cast<std::uint64_t>(b.st_blocks) * 512, 1};
}

/// Calls `match` with each two files that have the same key.
template <class Match>
void join(const std::vector<FileKey>& mine, const std::vector<FileKey>& theirs, const Match& match) {
  for (auto a = mine.begin(), b = theirs.begin(); a != mine.end() && b != theirs.end();) {
    if (a->digest < b->digest) {
      ++a;
    } else if (b->digest < a->digest) {
      ++b;
    } else {  // of several equal ones in their tree the first will do
      match(static_cast<FileIndex>(a->file), static_cast<FileIndex>(b->file));
      ++a;
    }
  }
}

bool any_in_common(const std::vector<FileKey>& mine, const std::vector<FileKey>& theirs) {
  bool any = false;
  join(mine, theirs, [&](FileIndex, FileIndex) { any = true; });
  return any;
}

}  // namespace

std::vector<FileKey> keys_of(const Manifest& manifest, const BlockMap& blocks) {
  std::vector<FileKey> keys;
  std::vector<std::uint64_t> what;
  for (FileIndex i = 0; i < manifest.size(); ++i) {
    const auto entry = manifest.at(i);
    const auto& a = entry.attributes;
    if (entry.blocks == 0 || a.size == 0) continue;
    what = {a.size, static_cast<std::uint64_t>(a.mtime), a.mode, std::uint64_t{a.uid} << 32U | a.gid};
    for (std::uint32_t b = 0; b < entry.blocks; ++b) what.push_back(blocks.sum(entry.first_block + b));
    const auto digest = XXH3_128bits(what.data(), what.size() * sizeof what[0]);
    keys.push_back({{digest.low64, digest.high64}, i});
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

Status save_keys(const std::string& directory, const std::vector<FileKey>& keys) {
  const std::string file = directory + "/keys", fresh = file + ".new";
  const FileKey head{kMark, digest_of(keys)};
  std::ofstream out(fresh, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(&head), sizeof head);
  out.write(reinterpret_cast<const char*>(keys.data()), static_cast<std::streamsize>(keys.size() * sizeof(FileKey)));
  out.close();
  if (!out || rename(fresh.c_str(), file.c_str()) != 0) {
    const int err = errno;
    unlink(fresh.c_str());
    return fail_errno(err, "write " + file);
  }
  return {};
}

Result<std::vector<FileKey>> load_keys(const std::string& directory) {
  const std::string file = directory + "/keys";
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in) return fail(Code::not_found, "no " + file);
  const auto size = static_cast<std::uint64_t>(in.tellg());
  FileKey head;
  if (size < sizeof head || size % sizeof head != 0) return fail(Code::data_loss, file + " is damaged");
  std::vector<FileKey> keys(size / sizeof head - 1);
  in.seekg(0);
  in.read(reinterpret_cast<char*>(&head), sizeof head);
  in.read(reinterpret_cast<char*>(keys.data()), static_cast<std::streamsize>(size - sizeof head));
  if (!in || head.digest != kMark || head.file != digest_of(keys)) return fail(Code::data_loss, file + " is damaged");
  return keys;
}

Result<Space> store_once(const Replica& into, const std::vector<FileKey>& keys, const Replica& other) {
  ATLAS_ASSIGN(const auto theirs, load_keys(other.internals().path));
  Space saved;
  if (!any_in_common(keys, theirs)) return saved;
  ATLAS_ASSIGN(const auto mine, into.manifest());
  ATLAS_ASSIGN(const auto their_manifest, other.manifest());
  const auto& to = into.internals().tree;
  const auto& from = other.internals().tree;
  std::set<FileIndex> parents;
  Status status;
  join(keys, theirs, [&](FileIndex here, FileIndex there) {
    if (!status || there >= their_manifest->size() ||
        to.inode_of(*mine, here).value_or(ReplicaTree::Inode{}).links != 1)
      return;
    const auto old = to.open_file(*mine, here);
    const auto equal = from.open_file(*their_manifest, there);
    if (!old || !equal) return;
    const auto space = same_file(old->get(), equal->get());
    if (!space) return;
    status = to.replace_by_link(*mine, here, from, *their_manifest, there);
    if (!status && (status.error().sys_errno == EMLINK || status.error().sys_errno == EPERM)) {
      status = {};
      return;
    }
    if (!status) return;
    saved += *space;
    parents.insert(mine->at(here).parent);
  });
  for (const FileIndex parent : parents)
    if (mine->at(parent).is(EntryType::directory)) ATLAS_TRY(to.restore_times(*mine, parent));
  ATLAS_TRY(status);
  return saved;
}

Space take_over(const Replica& heir, const std::vector<FileKey>& keys, SharedInodes& shared) {
  Space taken;
  const auto theirs = load_keys(heir.internals().path);
  if (!theirs || !any_in_common(keys, *theirs)) return taken;
  const auto manifest = heir.manifest();
  if (!manifest) return taken;
  join(*theirs, keys, [&](FileIndex file, FileIndex) {
    if (shared.empty() || file >= (*manifest)->size()) return;
    const auto fd = heir.internals().tree.open_file(**manifest, file);
    struct stat st {};
    if (!fd || fstat(fd->get(), &st) != 0) return;
    const auto inode = shared.find(st.st_ino);
    if (inode == shared.end()) return;
    taken += {inode->second, 1};
    shared.erase(inode);
  });
  return taken;
}

}  // namespace atlas::agent
