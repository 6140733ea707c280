#pragma once
#include "atlas/v1/types.pb.h"
#include "common/identity.h"
#include "common/io_limits.h"
#include "common/request.h"

namespace atlas {

/// The wire's types <-> the program's own, for the rpc edges. Nothing is checked but form: an unknown enum value reads
/// as the first one, a digest of the wrong length as none.
[[nodiscard]] DatasetId from_wire(const v1::DatasetId& in);
[[nodiscard]] v1::DatasetId to_wire(const DatasetId& in);
[[nodiscard]] Generation from_wire(const v1::Generation& in);
[[nodiscard]] v1::Generation to_wire(const Generation& in);
[[nodiscard]] JobKey from_wire(const v1::JobKey& in);
[[nodiscard]] v1::JobKey to_wire(const JobKey& in);
[[nodiscard]] NodeAddress from_wire(const v1::NodeAddress& in);
[[nodiscard]] v1::NodeAddress to_wire(const NodeAddress& in);
[[nodiscard]] Principal from_wire(const v1::Principal& in);
[[nodiscard]] v1::Principal to_wire(const Principal& in);
[[nodiscard]] Payer from_wire(const v1::Payer& in);
[[nodiscard]] v1::Payer to_wire(const Payer& in);
[[nodiscard]] ReplicaInfo from_wire(const v1::Replica& in);
[[nodiscard]] v1::Replica to_wire(const ReplicaInfo& in);
[[nodiscard]] WarmProgress from_wire(const v1::Progress& in);
[[nodiscard]] v1::Progress to_wire(const WarmProgress& in);
[[nodiscard]] ReplicaState from_wire(v1::ReplicaState in);
[[nodiscard]] v1::ReplicaState to_wire(ReplicaState in);
[[nodiscard]] IoRate from_wire(const v1::IoRate& in);
[[nodiscard]] v1::IoRate to_wire(const IoRate& in);
[[nodiscard]] IoFlow from_wire(const v1::IoFlow& in);
[[nodiscard]] v1::IoFlow to_wire(const IoFlow& in);
[[nodiscard]] OnChange from_wire(v1::OnChange in);
[[nodiscard]] v1::OnChange to_wire(OnChange in);

}  // namespace atlas
