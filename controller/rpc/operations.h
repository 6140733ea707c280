#pragma once
#include "atlas/v1/controller.pb.h"
#include "controller/rpc/parts.h"
#include "proto/server.h"

// What people change. On the strand; answers that need agents come later.
namespace atlas {

[[nodiscard]] Result<v1::DeleteDatasetReply> delete_dataset(const ControllerParts& parts, const Person& person,
                                                            const v1::DeleteDatasetRequest& request);
[[nodiscard]] Result<v1::DrainNodeReply> drain_node(const ControllerParts& parts, const Person& person,
                                                    const v1::DrainNodeRequest& request);
void pin_dataset(const ControllerParts& parts, const Person& person, const v1::PinDatasetRequest& request,
                 Respond<v1::PinDatasetReply> respond);
void evict_dataset(const ControllerParts& parts, const Person& person, const v1::EvictDatasetRequest& request,
                   Respond<v1::EvictDatasetReply> respond);
/// Warms as the caller; the stream shows every node's progress and ends when all are done. A caller who goes does not
/// end the warm-up.
void warm_dataset(const ControllerParts& parts, const Person& person, const v1::WarmDatasetRequest& request,
                  const std::shared_ptr<ServerStream<v1::Progress>>& stream);
/// A pinned dataset's new replica is told so.
void pin_new_replica(const ControllerParts& parts, const AgentInfo& agent, const ReplicaInfo& replica);

}  // namespace atlas
