#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/identity.h"
#include "common/request.h"
#include "common/units.h"

// Which nodes a job should run on, and what to do about the data first. Pure: a snapshot and a request in, a decision
// with its reasons out; no clock, no I/O. The simulator links the same code.
namespace atlas {

/// What a node has of one dataset (its newest generation).
struct Holding {
  Bytes resident;
  bool complete = false;
  bool warming = false;  ///< a warm-up is under way there
};

struct NodeView {
  std::string name;
  bool usable = false;  ///< Slurm could start a job there, now or later
  std::string state;    ///< Slurm's word for it, for the reasons
  bool cache = false;   ///< its agent is connected and no operator has drained it
  std::uint32_t cpus = 0;
  std::uint32_t cpus_busy = 0;
  std::uint32_t cpus_promised = 0;  ///< of pending jobs that are planned to go there
  Bytes room;                       ///< what a tier could take in: free, plus what may be evicted
  std::map<DatasetId, Holding> holdings;
};

struct ClusterSnapshot {
  std::vector<NodeView> nodes;
};

struct WantedDataset {
  DatasetId id;
  std::optional<Bytes> size;  ///< of the newest generation; nullopt = never seen
};

struct PlacementRequest {
  std::vector<WantedDataset> datasets;
  std::uint32_t nodes = 1;  ///< -N
  std::uint32_t cpus = 1;   ///< of the whole job
  std::uint32_t tasks = 1;  ///< of an array, that may run at the same time; each wants `nodes` and `cpus`
  bool exclusive = false;
  std::string partition;                      ///< for the reasons
  std::vector<std::string> partition_nodes;   ///< empty = all nodes
  std::vector<std::string> required;          ///< the user's own -w
  std::vector<std::string> excluded;          ///< the user's own -x
  std::map<std::string, std::string> failed;  ///< nodes where this job's warm-up failed, and why
  std::optional<Bytes> cache;                 ///< --cache
  WarmMode warm = WarmMode::none;
  std::optional<Locality> locality;
  bool may_wait = true;  ///< false: past the deadline, or requeued
};

enum class Action {
  go,    ///< start now; `nodes` (at most -N) hold the data and are free
  wait,  ///< `nodes` hold the data and are busy: wait for them
  warm,  ///< bring the data to `nodes`
  cold,  ///< start anywhere, on the origin; `nodes` is empty
};

struct CandidateNode {
  std::string node;
  Bytes resident, total;
  bool free_now = false;
  bool complete = false;
  bool chosen = false;
  std::string note;  ///< why not, or what speaks for it
};

struct Decision {
  Action action = Action::cold;
  std::vector<std::string> nodes;
  bool all_hold = false;  ///< every node the job could run on holds the data: no pin is needed
  std::string reason;     ///< one sentence, for the user
  std::vector<CandidateNode> candidates;
  bool nowhere = false;  ///< no node can run the job at present, with or without its data
};

/// Most resident bytes first, then a free node, then most room, then the least load. A holder that is busy is waited
/// for only with --warm=wait or --locality F@TIME; when as many jobs wait for it already as it can run at once and
/// another node is free, that one is warmed instead. Never more nodes than -N; for an array, as many of the free nodes
/// as its tasks can fill, for Slurm starts them on all of these at once.
[[nodiscard]] Decision place(const ClusterSnapshot& cluster, const PlacementRequest& request);

}  // namespace atlas
