#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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
  bool warming = false;                             ///< a warm-up is under way there
  std::optional<std::chrono::milliseconds> left{};  ///< and will be for so long; nullopt = not known yet
};

/// From `in` on, until the next such entry, so many CPUs of a node are free.
struct FreeCpus {
  std::chrono::milliseconds in{0};
  std::uint32_t cpus = 0;
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

  // For the cost model only.
  std::vector<FreeCpus> ahead{};      ///< by time, the first at 0; empty = only what is free now is known
  std::chrono::milliseconds boot{0};  ///< of a power-saved node: until it could run anything
  std::uint32_t readers = 0;          ///< transfers to it that jobs wait for
  Bytes wanted{};                     ///< of its cache, what pending jobs are going to read
};

/// What waiting and reading cost. Rates are bytes per second, as measured lately.
struct CostModel {
  std::map<std::string, Bytes> origin_rate;  ///< what one more transfer may expect, by origin
  /// What an origin gives first to those whose turn is before the job's, and what it gives to all together. Not there =
  /// nobody is before it.
  struct Line {
    Bytes ahead, rate;
  };
  std::map<std::string, Line> origin_line{};
  Bytes peer_rate;      ///< the same from another node; 0 = nodes give each other nothing
  Bytes node_rate;      ///< what a node can take in, all its transfers together; 0 = not known
  double stall = 1;     ///< a second of stall is worth so many of waiting: it keeps a node that others could use
  double transfer = 0;  ///< a second of moving bytes that nobody waits for: it takes bandwidth that others could use
};

/// A network switch by Slurm's topology: those that nodes hang on directly have level 0.
struct Switch {
  std::uint32_t level = 0, number = 0;
  auto operator<=>(const Switch&) const = default;
};
/// By a node's place in ClusterSnapshot::nodes: the switches that it hangs on, directly and by others.
using SwitchesOfNodes = std::vector<std::vector<Switch>>;

struct ClusterSnapshot {
  std::vector<NodeView> nodes;
  std::shared_ptr<const SwitchesOfNodes> switches{};  ///< null: Slurm knows none
  std::optional<CostModel> cost{};                    ///< absent: nodes are ranked by resident bytes alone
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
  std::string partition;                     ///< for the reasons
  std::vector<std::string> partition_nodes;  ///< empty = all nodes, or:
  /// By place in ClusterSnapshot::nodes, 1 = in the partition. For who asks often: no names are compared.
  std::shared_ptr<const std::vector<char>> partition_places{};
  std::vector<std::string> required;          ///< the user's own -w
  std::vector<std::string> excluded;          ///< the user's own -x
  std::map<std::string, std::string> failed;  ///< nodes where this job's warm-up failed, and why
  std::optional<Bytes> cache;                 ///< --cache
  WarmMode warm = WarmMode::none;
  std::optional<Locality> locality;
  bool divide = true;    ///< what does not fit one node its nodes divide
  bool may_wait = true;  ///< false: past the deadline, or requeued

  // For the cost model only.
  std::optional<std::chrono::milliseconds> duration{};  ///< the time limit: nodes must stay free for so long
  std::chrono::milliseconds patience{
      0};  ///< how much later than it could the job may start for its data; while may_wait
  std::optional<std::chrono::milliseconds> slurm_start{};  ///< when Slurm expects to start it
  std::vector<std::string> slurm_nodes{};                  ///< and where
  bool explain = true;                                     ///< false: no candidates are listed
};

enum class Action {
  go,    ///< start now; `nodes` (at most -N) hold the data and are free
  wait,  ///< `nodes` hold the data and are busy: wait for them
  warm,  ///< bring the data to `nodes`
  cold,  ///< start anywhere, on the origin; `nodes` is empty
};

/// "go", "wait", "warm", "cold".
[[nodiscard]] std::string_view name_of(Action action);

struct CandidateNode {
  std::string node;
  Bytes resident, total;
  bool free_now = false;
  bool complete = false;
  bool chosen = false;
  std::string note;  ///< why not, or what speaks for it
  // By the cost model; absent = not known.
  std::optional<std::chrono::milliseconds> start{};  ///< from now until the node is free for the job
  std::optional<std::chrono::milliseconds> stall{};  ///< from then until its data is there
};

/// One of the things that could be done, as the cost model sees it.
struct Alternative {
  Action action = Action::cold;
  std::vector<std::string> nodes;
  Bytes resident, total;  ///< of the data on these nodes, each of which should hold all of it
  std::chrono::milliseconds start{0}, stall{0};
  double cost = 0;  ///< seconds, weighted: the least is chosen
};

struct Decision {
  Action action = Action::cold;
  std::vector<std::string> nodes;
  bool all_hold = false;  ///< every node the job could run on holds the data: no pin is needed
  std::string reason;     ///< one sentence, for the user
  std::vector<CandidateNode> candidates;
  bool nowhere = false;                     ///< no node can run the job at present, with or without its data
  std::vector<Alternative> alternatives{};  ///< by the cost model, what is chosen first
};

/// Without a cost model: most resident bytes first, then a free node, then most room, then the least load. A holder
/// that is busy is waited for only with --warm=wait or --locality F@TIME; when as many jobs wait for it already as it
/// can run at once and another node is free, that one is warmed instead. Never more nodes than -N; for an array, as
/// many of the free nodes as its tasks can fill, for Slurm starts them on all of these at once.
///
/// With a cost model, for a job (not an array) whose datasets' sizes are known: of all sets of N nodes the one with the
/// least expected start + stall, as the model weighs them. A node's start is when enough of its CPUs become free, and
/// never before Slurm's own estimate; its stall is what it misses at the rate to expect, less the time until the start
/// if the data is moved ahead (--warm). No set is considered that makes the job start later than it could by more than
/// its patience. A job without datasets gets the free nodes whose cache nobody waits for.
///
/// Of nodes with the same bytes, transfers and start a job of several nodes gets such as hang on one switch.
[[nodiscard]] Decision place(const ClusterSnapshot& cluster, const PlacementRequest& request);

/// Decision::all_hold alone, which takes no longer than finding one node that does not.
[[nodiscard]] bool all_hold(const ClusterSnapshot& cluster, const PlacementRequest& request);

}  // namespace atlas
