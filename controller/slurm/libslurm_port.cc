#include "controller/slurm/libslurm_port.h"

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

#include "controller/slurm/records.h"

namespace atlas {
namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* message) const {
    Free(message);
  }
};
using JobMessage = std::unique_ptr<job_info_msg_t, Deleter<slurm_free_job_info_msg>>;
using NodeMessage = std::unique_ptr<node_info_msg_t, Deleter<slurm_free_node_info_msg>>;
using PartitionMessage = std::unique_ptr<partition_info_msg_t, Deleter<slurm_free_partition_info_msg>>;
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 11, 0)
using TopologyMessage = std::unique_ptr<topo_info_response_msg_t, Deleter<slurm_free_topo_info_msg>>;
#endif
using ConfMessage = std::unique_ptr<slurm_conf_t, Deleter<slurm_free_ctl_conf>>;

/// Runs one of libslurm's calls and says how it ended: 0, or Slurm's error number. libslurm returns the number itself
/// or -1 with it in errno, depending on call and release.
template <class Call>
int run(Call&& call) {
  errno = 0;
  const int rc = std::forward<Call>(call)();
  if (rc == SLURM_SUCCESS) return 0;
  if (errno != 0) return errno;
  return rc > 0 ? rc : SLURM_COMMUNICATIONS_RECEIVE_ERROR;
}

/// Loads a message if it changed since `kept`; leaves `kept` alone if not.
template <class Message, class Load>
Result<bool> refresh(Message& kept, const char* what, Load&& load) {
  typename Message::pointer raw = nullptr;
  const int err = run([&] { return load(kept ? kept->last_update : 0, &raw); });
  if (err == SLURM_NO_CHANGE_IN_DATA && kept) return false;
  if (err != 0) return fail(slurm::error_of(err, what));
  kept.reset(raw);
  return true;
}

char* field(const std::string& text) {
  // libslurm only packs the string; its fields are char* for historical reasons.
  return const_cast<char*>(text.c_str());
}

/// How far ahead a begin time must be for a job to be safe from starting during one update; a parked job whose second
/// update never comes (we are killed in between) starts after twice that.
constexpr std::chrono::seconds kParkingMargin{5};

Status update_job(const JobPatch& patch) {
  job_desc_msg_t update;
  slurm_init_job_desc_msg(&update);
  update.job_id = patch.job_id;
  if (patch.req_nodes) update.req_nodes = field(*patch.req_nodes);
  // 0 would mean "leave it alone".
  if (patch.begin) update.begin_time = std::max<time_t>(1, patch.begin->time_since_epoch().count());
  if (patch.comment) update.comment = field(*patch.comment);
  if (patch.admin_comment) update.admin_comment = field(*patch.admin_comment);
  const int err = run([&] { return slurm_update_job(&update); });
  if (err != 0) return fail(slurm::error_of(err, "updating job " + std::to_string(patch.job_id)));
  return {};
}

/// Slurm's switches; null where it knows none. From 23.11 on Slurm keeps them in a form of its plug-ins' own, which
/// libslurm only prints.
Result<std::shared_ptr<const std::vector<SwitchRecord>>> load_switches(const slurm_conf_t& conf) {
  std::shared_ptr<std::vector<SwitchRecord>> out;
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 11, 0)
  if (conf.topology_plugin == nullptr || std::string_view(conf.topology_plugin) != "topology/tree") return out;
  topo_info_response_msg_t* raw = nullptr;
  const int err = run([&] { return slurm_load_topo(&raw); });
  const TopologyMessage message(raw);
  if (err != 0) return fail(slurm::error_of(err, "loading Slurm's topology"));
  out = std::make_shared<std::vector<SwitchRecord>>();
  for (const auto& one : std::span(message->topo_array, message->record_count)) out->push_back(slurm::to_switch(one));
#else
  static_cast<void>(conf);
#endif
  return out;
}

}  // namespace

struct LibslurmPort::Cache {
  ConfMessage conf;
  JobMessage jobs;
  NodeMessage nodes;
  PartitionMessage partitions;
  bool nodes_stale = false;  ///< nodes or partitions were reloaded and `snapshot` does not show it yet
  bool switches_stale = true;
  QueueSnapshot snapshot;
};

std::unique_ptr<LibslurmPort> LibslurmPort::create() {
  slurm_init(nullptr);
  return std::unique_ptr<LibslurmPort>(new LibslurmPort);
}

LibslurmPort::LibslurmPort() : cache_(std::make_unique<Cache>()) {}

LibslurmPort::~LibslurmPort() {
  cache_.reset();
  slurm_fini();
}

Result<std::string> LibslurmPort::cluster_name() {
  if (!cluster_name_.empty()) return cluster_name_;
  slurm_conf_t* raw = nullptr;
  const int err = run([&] { return slurm_load_ctl_conf(0, &raw); });
  const ConfMessage conf(raw);
  if (err != 0) return fail(slurm::error_of(err, "asking slurmctld for its configuration"));
  if (conf == nullptr || conf->cluster_name == nullptr || *conf->cluster_name == '\0')
    return fail(Code::failed_precondition, "slurm.conf names no ClusterName");
  cluster_name_ = conf->cluster_name;
  return cluster_name_;
}

Result<QueueSnapshot> LibslurmPort::load() {
  auto& cache = *cache_;
  auto& snapshot = cache.snapshot;
  const auto conf_new = refresh(cache.conf, "loading Slurm's configuration", slurm_load_ctl_conf);
  if (!conf_new) return fail(conf_new.error());
  const auto resume = cache.conf->resume_timeout;
  snapshot.boot = std::chrono::seconds(resume == static_cast<std::uint16_t>(INFINITE) ? 0 : resume);
  cache.switches_stale |= *conf_new;
  if (cache.switches_stale) {
    ATLAS_ASSIGN(snapshot.switches, load_switches(*cache.conf));
    cache.switches_stale = false;
  }
  snapshot.slurmctld_started = WallSeconds(std::chrono::seconds(cache.conf->boot_time));
  // Remembered across a call that fails half way: the next one then finds only part of it changed.
  ATLAS_ASSIGN(const bool partitions_new,
               refresh(cache.partitions, "loading Slurm's partitions", [](time_t since, partition_info_msg_t** out) {
                 return slurm_load_partitions(since, out, SHOW_ALL);
               }));
  cache.nodes_stale |= partitions_new;
  ATLAS_ASSIGN(const bool nodes_new,
               refresh(cache.nodes, "loading Slurm's nodes", [](time_t since, node_info_msg_t** out) {
                 return slurm_load_node(since, out, SHOW_ALL | SHOW_DETAIL);
               }));
  cache.nodes_stale |= nodes_new;
  if (std::exchange(cache.nodes_stale, false)) {
    snapshot.nodes.clear();
    snapshot.partitions.clear();
    for (const auto& node : std::span(cache.nodes->node_array, cache.nodes->record_count)) {
      std::uint16_t busy = 0;
      if (node.name == nullptr ||
          slurm_get_select_nodeinfo(node.select_nodeinfo, SELECT_NODEDATA_SUBCNT, NODE_STATE_ALLOCATED, &busy) != 0)
        busy = 0;
      snapshot.nodes.push_back(slurm::to_node(node, busy));
    }
    for (const auto& partition : std::span(cache.partitions->partition_array, cache.partitions->record_count)) {
      snapshot.partitions.push_back(slurm::to_partition(partition));
      slurm::add_to_nodes(partition, snapshot.nodes);
    }
    // A slot without a name is a node that was deleted; it kept its index until here.
    std::erase_if(snapshot.nodes, [](const NodeRecord& node) { return node.name.empty(); });
  }
  ATLAS_ASSIGN(const bool jobs_new,
               refresh(cache.jobs, "loading Slurm's queue", [](time_t since, job_info_msg_t** out) {
                 return slurm_load_jobs(since, out, SHOW_ALL | SHOW_DETAIL);
               }));
  if (jobs_new) {
    snapshot.jobs.clear();
    snapshot.jobs.reserve(cache.jobs->record_count);
    for (const auto& job : std::span(cache.jobs->job_array, cache.jobs->record_count))
      snapshot.jobs.push_back(slurm::to_job(job));
  }
  snapshot.taken = std::chrono::system_clock::now();
  return snapshot;
}

Result<JobRecord> LibslurmPort::load_job(std::uint32_t job_id) {
  const std::string what = "loading job " + std::to_string(job_id);
  job_info_msg_t* raw = nullptr;
  const int err = run([&] { return slurm_load_job(&raw, job_id, SHOW_ALL | SHOW_DETAIL); });
  const JobMessage message(raw);
  if (err != 0) return fail(slurm::error_of(err, what));
  // A base id brings the whole array, a leader's id the whole heterogeneous job: only the record of that very id
  // counts.
  for (const auto& job : std::span(message->job_array, message->record_count))
    if (job.job_id == job_id) return slurm::to_job(job);
  return fail(Code::not_found, what + ": no such job");
}

Status LibslurmPort::apply(const JobPatch& patch) {
  if (!patch.req_nodes || patch.req_nodes->empty()) return update_job(patch);
  // On a running job slurmctld takes req_nodes as "shrink to these nodes" and does so even when it then refuses the
  // update. So a job of several nodes gets them only while it cannot start: its begin time is ahead, or is put there
  // first, by an update that a job no longer pending refuses unharmed.
  ATLAS_ASSIGN(const JobRecord job, load_job(patch.job_id));
  if (job.state != JobState::pending)
    return fail(Code::failed_precondition, "updating job " + std::to_string(patch.job_id) + ": no longer pending");
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  const bool may_shrink = job.nodes_wanted > 1 || job.nodes_most > 1;
  if (!may_shrink || job.begin > now + kParkingMargin) return update_job(patch);
  JobPatch park;
  park.job_id = patch.job_id;
  park.begin = now + 2 * kParkingMargin;
  ATLAS_TRY(update_job(park));
  JobPatch rest = patch;
  if (!rest.begin) rest.begin = std::max(job.begin, now);
  return update_job(rest);
}

}  // namespace atlas
