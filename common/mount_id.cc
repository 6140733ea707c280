#include "common/mount_id.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "common/unique_fd.h"

namespace atlas {

std::uint64_t own_mount_namespace_id() {
  constexpr unsigned long kGetId = _IOR(0xb7, 0x5, std::uint64_t);  // NS_GET_MNTNS_ID, newer than Debian 12's headers
  const UniqueFd self(::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
  std::uint64_t id = 0;
  return self && ::ioctl(self.get(), kGetId, &id) == 0 ? id : 0;
}

}  // namespace atlas
