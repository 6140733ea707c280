#include "controller/slurm/records.h"

#include <algorithm>
#include <cerrno>

#include "common/request.h"
#include "controller/slurm/job_lists.h"

namespace atlas::slurm {
namespace {

std::string text(const char* s) {
  return s == nullptr ? std::string() : std::string(s);
}

/// Slurm writes "not set" as 0, NO_VAL or INFINITE.
std::uint32_t number(std::uint32_t value) {
  return value == NO_VAL || value == INFINITE ? 0 : value;
}

WallSeconds time_of(time_t value) {
  return WallSeconds(std::chrono::seconds(value));
}

JobState state_of(std::uint32_t state) {
  // A job that is requeued while its epilog still runs is PENDING | COMPLETING.
  if ((state & (JOB_COMPLETING | JOB_STAGE_OUT)) != 0) return JobState::completing;
  switch (state & JOB_STATE_BASE) {
    case JOB_PENDING:
      return JobState::pending;
    case JOB_RUNNING:
      return (state & JOB_CONFIGURING) != 0 ? JobState::configuring : JobState::running;
    case JOB_SUSPENDED:
      return JobState::suspended;
    default:
      return JobState::ended;
  }
}

std::string outcome_of(std::uint32_t state) {
  switch (state & JOB_STATE_BASE) {
    case JOB_COMPLETE:
      return "COMPLETED";
    case JOB_CANCELLED:
      return "CANCELLED";
    case JOB_FAILED:
      return "FAILED";
    case JOB_TIMEOUT:
      return "TIMEOUT";
    case JOB_NODE_FAIL:
      return "NODE_FAIL";
    case JOB_PREEMPTED:
      return "PREEMPTED";
    case JOB_BOOT_FAIL:
      return "BOOT_FAIL";
    case JOB_DEADLINE:
      return "DEADLINE";
    case JOB_OOM:
      return "OUT_OF_MEMORY";
    default:
      return "";
  }
}

bool is_unavailable(int err) {
  constexpr int kSocketErrors = 5000;  // SLURM_PROTOCOL_SOCKET_...: names differ between releases, the range does not
  const bool transport = (err >= SLURM_COMMUNICATIONS_CONNECTION_ERROR && err <= SLURM_COMMUNICATIONS_SHUTDOWN_ERROR) ||
                         (err >= SLURMCTLD_COMMUNICATIONS_CONNECTION_ERROR && err < SLURM_NO_CHANGE_IN_DATA) ||
                         (err >= kSocketErrors && err < kSocketErrors + 100);
  return transport || err == ESLURM_IN_STANDBY_MODE || err == ESLURM_IN_STANDBY_USE_BACKUP || err == ECONNREFUSED ||
         err == ECONNRESET || err == ETIMEDOUT || err == EHOSTUNREACH || err == ENETUNREACH || err == EPIPE ||
         err == EINTR || err == EAGAIN || err == EINPROGRESS;
}

Code code_of(int err) {
  if (is_unavailable(err)) return Code::unavailable;
  switch (err) {
    case ESLURM_INVALID_JOB_ID:
      return Code::not_found;
    // What slurmctld says when a pending job was expected: it runs, has ended, or is between the two.
    case ESLURM_JOB_NOT_PENDING:
    case ESLURM_JOB_NOT_PENDING_NOR_RUNNING:
    case ESLURM_JOB_STARTED:
    case ESLURM_JOB_FINISHED:
    case ESLURM_ALREADY_DONE:
    case ESLURM_TRANSITION_STATE_NO_UPDATE:
    case ESLURM_DISABLED:
      return Code::failed_precondition;
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 11, 0)  // job records have their database index at once since then
    case ESLURM_JOB_SETTING_DB_INX:  // between two states of its accounting record: try again in a second
      return Code::aborted;
#endif
    case ESLURM_ACCESS_DENIED:
    case ESLURM_USER_ID_MISSING:
      return Code::permission_denied;
    case SLURM_PROTOCOL_AUTHENTICATION_ERROR:
      return Code::unauthenticated;
    case ESLURM_INVALID_NODE_NAME:
    case ESLURM_REQUESTED_NODES_NOT_IN_PARTITION:
    case ESLURM_REQUESTED_NODE_CONFIG_UNAVAILABLE:
      return Code::invalid_argument;
    default:
      return Code::unknown;
  }
}

}  // namespace

std::string reason_name(std::uint32_t reason) {
  // The names are Slurm's own (squeue -O reason); its function for them is not in every release's headers.
  switch (reason) {
    case WAIT_NO_REASON:
      return "None";
    case WAIT_PRIORITY:
      return "Priority";
    case WAIT_DEPENDENCY:
      return "Dependency";
    case WAIT_RESOURCES:
      return "Resources";
    case WAIT_PART_NODE_LIMIT:
      return "PartitionNodeLimit";
    case WAIT_PART_TIME_LIMIT:
      return "PartitionTimeLimit";
    case WAIT_PART_DOWN:
      return "PartitionDown";
    case WAIT_PART_INACTIVE:
      return "PartitionInactive";
    case WAIT_HELD:
      return "JobHeldAdmin";
    case WAIT_HELD_USER:
      return "JobHeldUser";
    case WAIT_TIME:
      return "BeginTime";
    case WAIT_LICENSES:
      return "Licenses";
    case WAIT_RESERVATION:
      return "Reservation";
    case WAIT_NODE_NOT_AVAIL:
      return "ReqNodeNotAvail";
    case WAIT_CLEANING:
      return "Cleaning";
    case WAIT_PROLOG:
      return "Prolog";
    case WAIT_ARRAY_TASK_LIMIT:
      return "JobArrayTaskLimit";
    case WAIT_BURST_BUFFER_RESOURCE:
      return "BurstBufferResources";
    case WAIT_BURST_BUFFER_STAGING:
      return "BurstBufferStageIn";
    case FAIL_BURST_BUFFER_OP:
      return "BurstBufferOperation";
    case FAIL_BAD_CONSTRAINTS:
      return "BadConstraints";
    case WAIT_DEP_INVALID:
      return "DependencyNeverSatisfied";
    case WAIT_MAX_REQUEUE:
      return "JobHoldMaxRequeue";
    default:
      return "Other";
  }
}

JobRecord to_job(const slurm_job_info_t& job) {
  JobRecord out;
  out.id = job.job_id;
  out.array_job_id = number(job.array_job_id);
  if (out.array_job_id != 0) {
    if (job.array_task_id != NO_VAL && job.array_task_id != INFINITE) out.array_task_id = job.array_task_id;
    out.array_waiting = !out.array_task_id.has_value();
    if (out.array_waiting) out.array_tasks = count_array_tasks(text(job.array_task_str), number(job.array_max_tasks));
  }
  out.het_job_id = number(job.het_job_id);
  out.restarts = job.restart_cnt;
  out.uid = job.user_id;
  out.gid = job.group_id;
  out.name = text(job.name);
  out.partition = text(job.partition);
  out.account = text(job.account);
  out.reservation = text(job.resv_name);
  out.state = state_of(job.job_state);
  out.outcome = outcome_of(job.job_state);
  out.state_reason = reason_name(job.state_reason);
  out.held = out.state == JobState::pending && job.priority == 0;
  out.dependent = out.state == JobState::pending && !text(job.dependency).empty();
  if (out.dependent) out.follows = followed_jobs(text(job.dependency));
  out.staging_in = out.state == JobState::pending && text(job.burst_buffer_state) == "staging-in";
  out.exclusive = job.shared == JOB_SHARED_NONE;
  out.nodes_wanted = std::max(1U, number(job.num_nodes));
  out.nodes_most = number(job.max_nodes);
  out.cpus_wanted = std::max(1U, number(job.num_cpus));
  out.submitted = time_of(job.submit_time);
  out.eligible = time_of(job.eligible_time);
  // Slurm packs a pending job's begin time into this field; once the job has started it says when it could have.
  out.begin = out.eligible;
  out.start = time_of(job.start_time);
  out.end = time_of(job.end_time);
  out.time_limit = std::chrono::minutes(number(job.time_limit));
  out.nodes = text(job.nodes);
  out.predicted_nodes = text(job.sched_nodes);
  out.req_nodes = text(job.req_nodes);
  out.exc_nodes = text(job.exc_nodes);
  out.features = text(job.features);
  out.burst_buffer = text(job.burst_buffer);
  out.admin_comment = text(job.admin_comment);
  out.comment = text(job.comment);
  out.own_begin = find_own_begin(out.admin_comment);
  return out;
}

bool node_asleep(std::uint32_t state) {
  return (state & (NODE_STATE_POWERED_DOWN | NODE_STATE_POWERING_UP)) != 0;
}

bool node_usable(std::uint32_t state) {
  constexpr std::uint32_t kOut = NODE_STATE_DRAIN | NODE_STATE_FAIL | NODE_STATE_POWERING_DOWN | NODE_STATE_POWER_DOWN |
                                 NODE_STATE_POWER_DRAIN | NODE_STATE_MAINT | NODE_STATE_REBOOT_ISSUED |
                                 NODE_STATE_INVALID_REG;
  // A node that sleeps is woken up for a job; it need not answer before.
  if ((state & NODE_STATE_NO_RESPOND) != 0 && !node_asleep(state)) return false;
  const auto base = state & NODE_STATE_BASE;
  return (state & kOut) == 0 && (base == NODE_STATE_IDLE || base == NODE_STATE_ALLOCATED || base == NODE_STATE_MIXED);
}

std::string node_state_name(std::uint32_t state) {
  const auto base = state & NODE_STATE_BASE;
  const bool busy = base == NODE_STATE_ALLOCATED || base == NODE_STATE_MIXED || (state & NODE_STATE_COMPLETING) != 0;
  std::string name;
  if (base == NODE_STATE_DOWN) {
    name = "down";
  } else if ((state & NODE_STATE_DRAIN) != 0) {
    name = busy ? "draining" : "drained";
  } else if ((state & NODE_STATE_FAIL) != 0) {
    name = busy ? "failing" : "fail";
  } else if ((state & NODE_STATE_MAINT) != 0) {
    name = "maint";
  } else if ((state & NODE_STATE_POWERED_DOWN) != 0) {
    name = "powered_down";
  } else if ((state & NODE_STATE_POWERING_DOWN) != 0) {
    name = "powering_down";
  } else if (base == NODE_STATE_IDLE && (state & NODE_STATE_COMPLETING) != 0) {
    name = "completing";
  } else if (base == NODE_STATE_ALLOCATED) {
    name = "allocated";
  } else if (base == NODE_STATE_MIXED) {
    name = "mixed";
  } else if (base == NODE_STATE_IDLE) {
    name = (state & NODE_STATE_PLANNED) != 0 ? "planned" : "idle";
  } else if (base == NODE_STATE_FUTURE) {
    name = "future";
  } else {
    name = "unknown";
  }
  if ((state & NODE_STATE_NO_RESPOND) != 0) name += '*';
  return name;
}

NodeRecord to_node(const node_info_t& node, std::uint32_t cpus_busy) {
  NodeRecord out;
  out.name = text(node.name);
  std::uint32_t state = node.node_state;
  // slurmctld knows no "mixed": its clients see it in the numbers.
  if ((state & NODE_STATE_BASE) == NODE_STATE_ALLOCATED && cpus_busy != 0 && cpus_busy < node.cpus)
    state = (state & NODE_STATE_FLAGS) | NODE_STATE_MIXED;
  out.usable = node_usable(state);
  out.state = node_state_name(state);
  out.asleep = node_asleep(state);
  out.cpus = node.cpus;
  out.cpus_busy = cpus_busy;
  return out;
}

#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 11, 0)
SwitchRecord to_switch(const topo_info_t& one) {
  return {text(one.name), one.level, text(one.nodes)};
}
#endif

PartitionRecord to_partition(const partition_info_t& partition) {
  return {text(partition.name), (partition.flags & PART_FLAG_DEFAULT) != 0, text(partition.nodes)};
}

void add_to_nodes(const partition_info_t& partition, std::span<NodeRecord> nodes) {
  // Pairs of first and last index, ended by -1.
  for (const int32_t* range = partition.node_inx; range != nullptr && *range >= 0; range += 2) {
    const auto last = std::min(static_cast<std::size_t>(range[1]) + 1, nodes.size());
    for (auto i = static_cast<std::size_t>(range[0]); i < last; ++i)
      nodes[i].partitions.push_back(text(partition.name));
  }
}

Error error_of(int err, const std::string& what) {
  std::string message = what + ": " + text(slurm_strerror(err));
  const Code code = code_of(err);
  if (code == Code::unavailable) message += " (is slurmctld running? try 'scontrol ping')";
  return {code, std::move(message), 0};
}

}  // namespace atlas::slurm
