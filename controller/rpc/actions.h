#pragma once
#include <memory>
#include <string>

#include "controller/rpc/queries.h"
#include "proto/server.h"

namespace atlas {

// What people have done to datasets and nodes. On the strand; the answer comes when the agents have answered.

/// Names a dataset. A site-wide name is an operator's to make, "~user/x" that user's.
[[nodiscard]] Result<v1::CreateDatasetReply> create_dataset(const ControllerParts& parts, const Person& who,
                                                            const v1::CreateDatasetRequest& request);
[[nodiscard]] Result<v1::DeleteDatasetReply> delete_dataset(const ControllerParts& parts, const Person& who,
                                                            const v1::DeleteDatasetRequest& request);
/// Warms a dataset as the caller, on the given nodes or on the best one; streams each node's progress; fails with the
/// first node's error when all have ended.
void warm_dataset(const ControllerParts& parts, const Person& who, const v1::WarmDatasetRequest& request,
                  std::shared_ptr<ServerStream<v1::Progress>> stream);
/// Operators: nothing new is cached or placed on a drained node.
[[nodiscard]] Result<v1::DrainNodeReply> drain_nodes(const ControllerParts& parts, const Person& who,
                                                     const v1::DrainNodeRequest& request);
/// Operators: a pinned dataset is never evicted.
void pin_dataset(const ControllerParts& parts, const Person& who, const v1::PinDatasetRequest& request,
                 Respond<v1::PinDatasetReply> respond);
/// Whoever may see a dataset, unless jobs of others use it; operators always. Leased and pinned replicas stay, with the
/// reason.
void evict_dataset(const ControllerParts& parts, const Person& who, const v1::EvictDatasetRequest& request,
                   Respond<v1::EvictDatasetReply> respond);

}  // namespace atlas
