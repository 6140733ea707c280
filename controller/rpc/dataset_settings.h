#pragma once
#include "atlas/v1/controller.pb.h"
#include "controller/rpc/parts.h"
#include "proto/server.h"

// What owners and operators settle about a dataset. On the strand; the answer comes when the origin was asked whose it
// is.
namespace atlas {

/// A new name, with settings if any are given.
void create_dataset(const ControllerParts& parts, const Person& person, const v1::CreateDatasetRequest& request,
                    Respond<v1::CreateDatasetReply> respond);
void set_dataset(const ControllerParts& parts, const Person& person, const v1::SetDatasetRequest& request,
                 Respond<v1::SetDatasetReply> respond);
/// Grants the owner's replicas to a group, or takes that back.
void share_dataset(const ControllerParts& parts, const Person& person, const v1::ShareDatasetRequest& request,
                   Respond<v1::ShareDatasetReply> respond);

}  // namespace atlas
