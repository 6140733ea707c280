#include "controller/staging/users.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <vector>

namespace atlas {
namespace {

constexpr std::chrono::seconds kRemembered{60};

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

std::string name_in_directory(uid_t uid) {
  const auto account = account_of(uid);
  return account ? account->name : "uid " + std::to_string(uid);
}

std::vector<gid_t> groups_in_directory(uid_t uid) {
  std::vector<gid_t> groups;
  if (const auto account = account_of(uid)) {
    int count = 64;
    do {
      groups.resize(static_cast<std::size_t>(count));
    } while (getgrouplist(account->name.c_str(), account->gid, groups.data(), &count) < 0 && count <= 65536);
    groups.resize(static_cast<std::size_t>(count));
  }
  return groups;
}

}  // namespace

std::optional<gid_t> primary_group_of(uid_t uid) {
  const auto account = account_of(uid);
  return account ? std::optional(account->gid) : std::nullopt;
}

std::optional<uid_t> user_named(const std::string& name) {
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(found->pw_uid);
}

std::optional<gid_t> group_named(const std::string& name) {
  std::vector<char> buffer(65536);
  group entry{};
  group* found = nullptr;
  getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? std::nullopt : std::optional(found->gr_gid);
}

Users::Users(const Config& config) : operators_{0, ::getuid()} {
  if (const auto uid = user_named(config.site.slurm_user)) operators_.insert(*uid);
  for (const auto& name : config.site.operators) {
    if (const auto uid = user_named(name)) {
      operators_.insert(*uid);
    } else {
      unknown_.push_back(name);
    }
  }
}

/// May ask a directory service, without the lock.
template <class Value>
Value Users::remembered(std::map<uid_t, Known<Value>>& known, uid_t uid, Value (*look_up)(uid_t)) {
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = known.find(uid); at != known.end() && at->second.until > now) return at->second.value;
  }
  Value value = look_up(uid);
  const std::lock_guard lock(mutex_);
  known[uid] = {value, now + kRemembered};
  return value;
}

std::string Users::name_of(uid_t uid) {
  return remembered(names_, uid, name_in_directory);
}

std::vector<gid_t> Users::groups_of(uid_t uid) {
  return remembered(groups_, uid, groups_in_directory);
}

}  // namespace atlas
