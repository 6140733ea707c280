// Others fill the disk, too: how full it is, and what makes way for them.
#include "cache-agent/store/space.h"

#include <sys/statvfs.h>

#include "cache-agent/store/store_internal.h"

namespace atlas::agent {
namespace {

std::uint64_t part_of(std::uint64_t whole, double mark) {
  return static_cast<std::uint64_t>(static_cast<double>(whole) * mark);
}

}  // namespace

Space DiskUse::room(double mark) const {
  Space out = Space{part_of(usable.bytes, mark), part_of(usable.inodes, mark)}.without(used);
  if (usable.inodes == 0) out.inodes = Space::kPlenty;
  return out;
}

Space DiskUse::beyond(double mark) const {
  Space out = used.without({part_of(usable.bytes, mark), part_of(usable.inodes, mark)});
  if (usable.inodes == 0) out.inodes = 0;
  return out;
}

std::optional<DiskUse> look_at_disk(const std::string& path) {
  struct statvfs st {};
  if (statvfs(path.c_str(), &st) != 0) return std::nullopt;
  const std::uint64_t used = st.f_blocks - st.f_bfree, inodes_used = st.f_files - st.f_ffree;
  return DiskUse{{(used + st.f_bavail) * st.f_frsize, st.f_files == 0 ? 0 : inodes_used + st.f_favail},
                 {used * st.f_frsize, inodes_used}};
}

}  // namespace atlas::agent
