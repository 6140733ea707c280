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

struct Account {
  std::string name;
  gid_t gid;
};

std::optional<Account> account_of(uid_t uid) {
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(Account{found->pw_name, found->pw_gid});
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

std::string Users::name_of(uid_t uid) {
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = names_.find(uid); at != names_.end() && at->second.until > now) return at->second.value;
  }
  const auto account = account_of(uid);
  std::string name = account ? account->name : "uid " + std::to_string(uid);
  const std::lock_guard lock(mutex_);
  names_[uid] = {name, now + kRemembered};
  return name;
}

std::vector<gid_t> Users::groups_of(uid_t uid) {
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = groups_.find(uid); at != groups_.end() && at->second.until > now) return at->second.value;
  }
  std::vector<gid_t> groups;
  if (const auto account = account_of(uid)) {
    int count = 64;
    do {
      groups.resize(static_cast<std::size_t>(count));
    } while (getgrouplist(account->name.c_str(), account->gid, groups.data(), &count) < 0 && count <= 65536);
    groups.resize(static_cast<std::size_t>(count));
  }
  const std::lock_guard lock(mutex_);
  groups_[uid] = {groups, now + kRemembered};
  return groups;
}

}  // namespace atlas
