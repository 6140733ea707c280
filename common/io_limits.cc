#include "common/io_limits.h"

#include <algorithm>
#include <array>

namespace atlas {
namespace {

constexpr std::array<std::string_view, 5> kKinds = {"user", "group", "account", "node", "origin"};

}  // namespace

std::string_view name_of(LimitKind kind) {
  return kKinds[static_cast<std::size_t>(kind)];
}

Result<LimitKind> limit_kind(std::string_view text) {
  const auto* at = std::find(kKinds.begin(), kKinds.end(), text);
  if (at == kKinds.end())
    return fail(Code::invalid_argument, "a limit is for a user, a group, an account, a node or an origin");
  return static_cast<LimitKind>(at - kKinds.begin());
}

bool applies(const IoBudget& budget, const std::string& node, const IoFlow& flow) {
  switch (budget.kind) {
    case LimitKind::user:
      return budget.id == flow.uid;
    case LimitKind::group:
      return budget.id == flow.gid;
    case LimitKind::account:
      return !flow.account.empty() && budget.name == flow.account;
    case LimitKind::node:
      return budget.name == node;
    case LimitKind::origin:
      return budget.name == flow.origin;
  }
  return false;
}

}  // namespace atlas
