#include "controller/staging/users.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <vector>

namespace atlas {
namespace {

constexpr std::chrono::seconds kRemembered{60};

std::optional<uid_t> uid_of(const std::string& name) {
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(found->pw_uid);
}

}  // namespace

Users::Users(const Config& config) : operators_{0, ::getuid()} {
  if (const auto uid = uid_of(config.site.slurm_user)) operators_.insert(*uid);
  for (const auto& name : config.site.operators) {
    if (const auto uid = uid_of(name)) {
      operators_.insert(*uid);
    } else {
      unknown_.push_back(name);
    }
  }
}

Users::Entry Users::look_up(uid_t uid) {
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = known_.find(uid); at != known_.end() && at->second.until > now) return at->second;
  }
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
  Entry fresh{"uid " + std::to_string(uid), {}, now + kRemembered};
  if (found != nullptr) {
    fresh.name = found->pw_name;
    int count = 64;
    do {
      fresh.groups.resize(static_cast<std::size_t>(count));
    } while (getgrouplist(found->pw_name, found->pw_gid, fresh.groups.data(), &count) < 0 && count <= 65536);
    fresh.groups.resize(static_cast<std::size_t>(count));
  }
  const std::lock_guard lock(mutex_);
  known_[uid] = fresh;
  return fresh;
}

std::string Users::name_of(uid_t uid) {
  return look_up(uid).name;
}

std::vector<gid_t> Users::groups_of(uid_t uid) {
  return look_up(uid).groups;
}

}  // namespace atlas
