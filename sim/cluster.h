#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <queue>
#include <set>
#include <vector>

#include "common/result.h"
#include "common/units.h"
#include "sim/cache.h"
#include "sim/flows.h"
#include "sim/workload.h"

namespace atlas::sim {

/// The simulated site. Rates are bytes per second.
struct Site {
  std::uint32_t nodes = 200;
  std::uint32_t cpus = 64;           ///< of a node
  Bytes cache{1'500'000'000'000};    ///< of a node
  Bytes origin_rate{8'000'000'000};  ///< of the origin, for all readers together
  Bytes node_rate{2'500'000'000};    ///< what a node can take in
  Bytes peer_rate{};                 ///< what a node gives to others; 0 = nodes give each other nothing
  double warm_weight = 0.1;          ///< share of a transfer that nobody waits for, beside one that a job waits for
};

struct JobResult {
  std::vector<std::uint32_t> nodes;
  Time start{}, end{};
  Time stall{};                                            ///< from its start until its last byte was there
  double hit_bytes = 0, origin_bytes = 0, peer_bytes = 0;  ///< where what it read was, resp. came from
};

struct Outcome {
  std::vector<JobResult> jobs;  ///< as in the workload
  double origin_bytes = 0;      ///< that left the origin
  double peer_bytes = 0;        ///< that one node gave another
  double shared_bytes = 0;      ///< moved once while several jobs waited for them, beyond the first job
  double warm_bytes = 0;        ///< moved while no job waited for them
  double wasted_bytes = 0;      ///< of these: evicted or left over without having been read
  Time makespan{};
};

class Cluster;

/// Who decides. It is asked whenever something has happened.
class Policy {
 public:
  virtual ~Policy() = default;
  /// Starts what can start, by Cluster::start(), and brings data ahead, by Cluster::warm().
  virtual void schedule(Cluster& cluster) = 0;
  /// What a dataset is worth to a node: the least goes first, infinity never goes. Least recently used by default.
  [[nodiscard]] virtual double worth(const Cluster& cluster, std::uint32_t node, std::uint32_t dataset,
                                     const NodeCache::Entry& entry) const;
};

/// One run: the state of a cluster, moved from event to event. A job reads its datasets first, on each of its nodes,
/// and computes when all of it is there; what its node does not hold comes from another node that does or will, where
/// nodes give each other something, otherwise from the origin. What is read is kept, others making way.
class Cluster {
 public:
  struct Running {
    std::uint32_t job;
    std::vector<std::uint32_t> nodes;
    Time limit_end{};  ///< when its time limit ends it
    Time end{};        ///< when it ends; far away while it waits for data
  };

  Cluster(const Site& site, const Workload& workload, Policy& policy);
  /// To the end of the last job. internal: a policy did what cannot be done (a node given twice, a job never started).
  [[nodiscard]] Result<Outcome> run();

  [[nodiscard]] const Site& site() const { return site_; }
  [[nodiscard]] const Workload& workload() const { return workload_; }
  [[nodiscard]] Time now() const { return now_; }
  [[nodiscard]] const std::vector<std::uint32_t>& queue() const {
    return queue_;
  }  ///< jobs that wait, first come first
  [[nodiscard]] bool started(std::uint32_t job) const { return started_[job]; }
  [[nodiscard]] const std::map<std::uint32_t, Running>& running() const { return running_; }
  [[nodiscard]] std::uint32_t cpus_free(std::uint32_t node) const { return nodes_[node].cpus_free; }
  [[nodiscard]] const NodeCache& cache(std::uint32_t node) const { return nodes_[node].cache; }
  [[nodiscard]] double size_of(std::uint32_t dataset) const;
  [[nodiscard]] double resident(std::uint32_t node, std::uint32_t dataset) const;
  [[nodiscard]] bool complete(std::uint32_t node, std::uint32_t dataset) const;
  [[nodiscard]] bool moving(std::uint32_t node, std::uint32_t dataset) const;
  /// Whether something may make way for another dataset on a node.
  [[nodiscard]] bool evictable(std::uint32_t node, std::uint32_t dataset, const NodeCache::Entry& entry) const;
  /// Transfers that read the origin at present.
  [[nodiscard]] std::uint32_t origin_readers() const;
  /// Of these, still to come.
  [[nodiscard]] double origin_left() const;
  /// Seconds until a transfer under way is through, at its present rate; infinity while it gets nothing.
  [[nodiscard]] double moving_for(std::uint32_t node, std::uint32_t dataset) const;
  /// Transfers to a node that jobs wait for.
  [[nodiscard]] std::uint32_t stalled_on(std::uint32_t node) const { return nodes_[node].awaited; }
  /// Jobs that have ended so far.
  [[nodiscard]] std::size_t ended() const { return ended_; }
  /// Transfers that are through.
  [[nodiscard]] std::size_t moved() const { return moved_; }
  /// Transfers that no job waits for.
  [[nodiscard]] std::uint32_t warming() const;

  /// Starts a pending job now.
  void start(std::uint32_t job, const std::vector<std::uint32_t>& nodes);
  /// Begins to bring a dataset to a node ahead of any job. False: it is there or on its way, or there is no room.
  bool warm(std::uint32_t node, std::uint32_t dataset);
  /// The policy is asked again then, if not before.
  void wake_at(Time when);

 private:
  struct Node {
    std::uint32_t cpus_free;
    NodeCache cache;
    std::uint32_t gives = 0;    ///< transfers that read from it
    std::uint32_t awaited = 0;  ///< transfers to it that jobs wait for
  };
  struct Transfer {
    std::uint32_t node = 0, dataset = 0;
    double left = 0;                      ///< still to be moved
    double keep_left = 0;                 ///< of it, what the node keeps
    bool whole = false;                   ///< all of it is kept: others may join it and read from it
    std::optional<std::uint32_t> from;    ///< a node; otherwise the origin
    std::optional<std::uint64_t> leader;  ///< the transfer to `from`, while that one is not complete either
    bool awaited = false;                 ///< a job waits for it
    std::vector<std::uint32_t> jobs;
    Flow flow;
  };
  struct Event {
    Time at{};
    std::uint32_t job = 0;
    bool operator>(const Event& o) const { return at != o.at ? at > o.at : job > o.job; }
  };

  void read(std::uint32_t job, std::uint32_t node, std::uint32_t dataset);
  Transfer& begin(std::uint32_t node, std::uint32_t dataset, double left, double keep, bool whole);
  void choose_source(Transfer& transfer);
  void await(Transfer& transfer, std::uint32_t job);
  void move_all(Time until);
  void move(Transfer& transfer, double bytes);
  void complete(std::uint64_t id);
  void finish_transfers();
  void computes(std::uint32_t job);
  void end(std::uint32_t job);
  [[nodiscard]] Time next_completion() const;
  [[nodiscard]] NodeCache::Worth worth_on(std::uint32_t node) const;
  void broken(const std::string& what);

  const Site& site_;
  const Workload& workload_;
  Policy& policy_;
  Time now_{};
  std::vector<Node> nodes_;
  std::vector<double> capacity_;  ///< of links: the origin, then each node's way in, then each node's way out
  std::vector<std::uint32_t> queue_;
  std::vector<bool> started_;
  std::map<std::uint32_t, Running> running_;
  std::vector<std::uint32_t> waits_for_;  ///< per job: transfers that are not complete
  std::map<std::uint64_t, Transfer> transfers_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> whole_;  ///< (dataset, node) -> its whole transfer
  std::vector<std::set<std::uint32_t>> holders_;  ///< per dataset: nodes that may hold all of it
  std::priority_queue<Event, std::vector<Event>, std::greater<>> ends_;
  std::priority_queue<Time, std::vector<Time>, std::greater<>> wakes_;
  std::uint64_t next_id_ = 1;
  std::size_t ended_ = 0, moved_ = 0;
  bool rates_stale_ = false;
  std::optional<Error> broken_;
  Outcome out_;
};

}  // namespace atlas::sim
