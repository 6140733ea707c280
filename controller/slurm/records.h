#pragma once
// Slurm's records and error numbers in Atlas's words. Inside controller/slurm/ only: it shows slurm/slurm.h.
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/slurm_version.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "controller/slurm/slurm_port.h"

namespace atlas::slurm {

[[nodiscard]] JobRecord to_job(const slurm_job_info_t& job);
/// Without partitions, whose own records name their nodes. `cpus_busy` comes from the node's select plugin data.
[[nodiscard]] NodeRecord to_node(const node_info_t& node, std::uint32_t cpus_busy);
[[nodiscard]] PartitionRecord to_partition(const partition_info_t& partition);
/// Adds the partition's name to each of its nodes; `nodes` are in the order of slurm_load_node().
void add_to_nodes(const partition_info_t& partition, std::span<NodeRecord> nodes);

#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 11, 0)
[[nodiscard]] SwitchRecord to_switch(const topo_info_t& one);
#endif

/// Slurm's word for a pending reason, "Other" for the many limits that staging does not tell apart.
[[nodiscard]] std::string reason_name(std::uint32_t reason);
/// As sinfo shows it: "idle", "draining", "down*".
[[nodiscard]] std::string node_state_name(std::uint32_t state);
/// Powered down to save power, or waking up from that.
[[nodiscard]] bool node_asleep(std::uint32_t state);
/// Can Slurm start a job there now, as far as the node itself goes?
[[nodiscard]] bool node_usable(std::uint32_t state);

/// What libslurm left in errno, as an Error: "WHAT: Slurm's text".
[[nodiscard]] Error error_of(int slurm_errno_value, const std::string& what);

}  // namespace atlas::slurm
