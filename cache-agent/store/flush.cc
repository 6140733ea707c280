// What lies in the page cache is not on the disk. If the disk does not take it, the kernel says so once, to whoever
// asks by fsync or syncfs, and then forgets the data: reads give zeros, or what was there before.
#include <unistd.h>

#include <cerrno>

#include "cache-agent/store/store_internal.h"

namespace atlas::agent {

Status Store::flush(const std::string& name) {
  Tier* tier = tier_named(name);
  if (tier == nullptr || !tier->root) return fail(Code::unavailable, "tier " + name + " is out");
  const std::lock_guard flushing(tier->flush_mutex);
  std::vector<std::shared_ptr<Replica>> written;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, held] : replicas_)
      if (held.replica->tier() == name && held.replica->state() != ReplicaState::complete)
        written.push_back(held.replica);
  }
  std::erase_if(written, [](const auto& replica) { return !replica->internals().blocks.any_fresh(); });
  for (const auto& replica : written) {
    replica->internals().flush_wanted = false;
    replica->internals().blocks.sync_begins();
  }
  const int err = syncfs(tier->root.get()) == 0 ? 0 : errno;
  for (const auto& replica : written)
    if (err == 0 || verify(replica)) replica->internals().blocks.sync_succeeded();
  if (err == 0) return {};
  const auto failure =
      fail_errno(err, "tier " + name + " has lost what was written to it: syncfs " + tier->options.path);
  note_failure(name, failure.value());
  return failure;
}

void Store::flush_what_is_read() {
  std::set<std::string> wanted;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, held] : replicas_)
      if (held.replica->internals().flush_wanted) wanted.insert(held.replica->tier());
  }
  for (const auto& tier : wanted) static_cast<void>(flush(tier));  // what is lost has been noted, and is fetched again
}

}  // namespace atlas::agent
