#include "cache-agent/view/fuse/attributes.h"

namespace atlas::view {
namespace {

mode_t type_bits(agent::EntryType type) {
  using agent::EntryType;
  switch (type) {
    case EntryType::directory:
      return S_IFDIR;
    case EntryType::symlink:
      return S_IFLNK;
    case EntryType::fifo:
      return S_IFIFO;
    case EntryType::socket:
      return S_IFSOCK;
    case EntryType::char_device:
      return S_IFCHR;
    case EntryType::block_device:
      return S_IFBLK;
    case EntryType::file:
      break;
  }
  return S_IFREG;
}

timespec time_of(std::int64_t nanoseconds) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::int64_t rest = ((nanoseconds % kSecond) + kSecond) % kSecond;
  return {(nanoseconds - rest) / kSecond, rest};
}

}  // namespace

Attributes::Attributes(const agent::Manifest& manifest) : manifest_(manifest) {
  for (agent::FileIndex i = 0; i < manifest.size(); ++i)
    if (const auto leader = manifest.at(i).leader; leader != i) ++names_.try_emplace(leader, 1).first->second;
}

struct stat Attributes::of(agent::FileIndex index) const {
  const auto entry = manifest_.at(index);
  const auto& a = entry.attributes;
  struct stat st {};
  st.st_ino = entry.leader + 1ULL;
  st.st_mode = type_bits(a.type) | a.mode;
  st.st_nlink = 1;  // of a directory: "not known", as on btrfs
  if (const auto it = names_.find(entry.leader); it != names_.end()) st.st_nlink = it->second;
  st.st_uid = a.uid;
  st.st_gid = a.gid;
  st.st_rdev = a.rdev;
  st.st_size = static_cast<off_t>(entry.is(agent::EntryType::directory) ? 4096 : a.size);
  st.st_blksize = 1 << 20;
  st.st_blocks = (st.st_size + 511) / 512;
  st.st_mtim = st.st_atim = time_of(a.mtime);
  st.st_ctim = time_of(a.ctime);
  return st;
}

}  // namespace atlas::view
