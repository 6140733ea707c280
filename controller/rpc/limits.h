#pragma once
#include "atlas/v1/controller.pb.h"
#include "controller/rpc/parts.h"
#include "proto/server.h"

// Limits of users, groups, accounts, nodes and origins, and what they leave. On the strand, but for look_up().
namespace atlas {

/// The subject of a limit with its number, which a name service knows: may block.
struct LimitSubject {
  LimitKind kind = LimitKind::user;
  std::string name;
  std::uint32_t id = 0;  ///< uid or gid
};
[[nodiscard]] Result<LimitSubject> look_up(const v1::LimitSubject& subject);

[[nodiscard]] Result<v1::SetLimitReply> set_limit(const ControllerParts& parts, const Person& person,
                                                  const v1::SetLimitRequest& request, const LimitSubject& subject);
/// Operators see all limits; a user his own, and those of his groups and accounts.
[[nodiscard]] v1::ListLimitsReply list_limits(const ControllerParts& parts, const Person& person);
[[nodiscard]] Result<v1::ShowLimitReply> show_limit(const ControllerParts& parts, const Person& person,
                                                    const v1::ShowLimitRequest& request);
[[nodiscard]] Result<v1::DeleteLimitReply> delete_limit(const ControllerParts& parts, const Person& person,
                                                        const v1::DeleteLimitRequest& request);
void reserve_cache(const ControllerParts& parts, const v1::ReserveCacheRequest& request,
                   const Respond<v1::ReserveCacheReply>& respond);

}  // namespace atlas
