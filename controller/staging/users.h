#pragma once
#include <sys/types.h>

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "common/config.h"

namespace atlas {

/// The numbers of a name on this host; none when there is no such name. May block on the name service.
[[nodiscard]] std::optional<uid_t> user_named(const std::string& name);
[[nodiscard]] std::optional<gid_t> group_named(const std::string& name);
/// The group of an account's password entry; none when there is no such account. May block on the name service.
[[nodiscard]] std::optional<gid_t> primary_group_of(uid_t uid);

/// Accounts of this host, and who is what. Thread-safe; a look-up may block on the name service and is remembered for a
/// minute.
class Users {
 public:
  /// root, site.slurm_user, the account this process runs under, and site.operators are operators.
  explicit Users(const Config& config);
  virtual ~Users() = default;

  /// The account's name; "uid 1234" when there is none.
  [[nodiscard]] std::string name_of(uid_t uid);
  /// All groups of an account; none when there is no such account.
  [[nodiscard]] std::vector<gid_t> groups_of(uid_t uid);
  [[nodiscard]] bool is_operator(uid_t uid) const { return operators_.contains(uid); }
  /// Names in site.operators that are no accounts here.
  [[nodiscard]] const std::vector<std::string>& unknown_operators() const { return unknown_; }

 private:
  std::set<uid_t> operators_;
  std::vector<std::string> unknown_;
  std::mutex mutex_;  ///< guards what follows
  template <class Value>
  struct Known {
    Value value;
    std::chrono::steady_clock::time_point until;
  };
  std::map<uid_t, Known<std::string>> names_;
  std::map<uid_t, Known<std::vector<gid_t>>> groups_;
  template <class Value>
  [[nodiscard]] Value remembered(std::map<uid_t, Known<Value>>& known, uid_t uid, Value (*look_up)(uid_t));
};

}  // namespace atlas
