#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/identity.h"
#include "common/read_rates.h"
#include "controller/placement/placement.h"
#include "db/catalog.h"

namespace atlas {

struct TierInfo {
  std::string name;
  Bytes quota, used;
  std::string state;                          ///< ok | crowded | suspect | out
  std::uint64_t inodes = 0, inodes_used = 0;  ///< the quota (0 = none), what of it is used
};

/// What the controller knows of one node's agent.
struct AgentInfo {
  std::string node;
  std::string address;  ///< empty: never seen since this controller started
  std::string version;
  bool connected = false;
  bool drained = false;  ///< by an operator, in Atlas
  std::uint64_t stream = 0;
  std::vector<TierInfo> tiers;
  std::uint32_t warming = 0, in_flight = 0;
  std::vector<std::string> warnings;  ///< what is configured and cannot be done there
  WallTime last_seen{};
  std::vector<DatasetReads> reads;  ///< as last reported, at `reads_at`
  SteadyTime reads_at{};
  std::map<std::pair<DatasetId, GenerationId>, ReplicaInfo> replicas;
  std::size_t leased = 0;             ///< replicas that jobs hold
  std::map<std::string, Bytes> kept;  ///< by tier: what leases and pins protect

  [[nodiscard]] bool in_service() const { return connected && !drained; }
};

/// The nodes' agents and what they hold, as they report it, written through to the catalogue. Lives on the strand.
class Registry {
 public:
  /// Catalogue errors are handed to `complain` (the daemon's log) and do not stop the registry.
  Registry(Catalog& catalog, const Clock& clock, std::function<void(const Error&)> complain);
  /// What the catalogue remembers: nodes that have not connected yet, with what they held.
  [[nodiscard]] Status load();

  struct Greeting {
    std::string node, address, version;
    std::vector<TierInfo> tiers;
    std::vector<std::string> warnings{};
  };
  /// What is new of a node for placement: service and room at any rate, and replicas.
  struct News {
    const std::string& node;
    const DatasetId* dataset = nullptr;  ///< of this one; null = of none
    bool all_replicas = false;
  };
  /// Told of each of these, one at a time; what it is given is valid during the call.
  using Observer = std::function<void(const News& news)>;
  void observe_nodes(Observer observer) { observer_ = std::move(observer); }

  /// A later stream of the same node replaces an earlier one; what the earlier one still says is ignored.
  void hello(std::uint64_t stream, const Greeting& greeting);
  void inventory(std::uint64_t stream, const std::string& node, const std::vector<ReplicaInfo>& replicas);
  void change(std::uint64_t stream, const std::string& node, const ReplicaInfo& replica);
  struct Heartbeat {
    std::vector<TierInfo> tiers;
    std::uint32_t warming = 0, in_flight = 0;
    std::vector<std::string> warnings{};
  };
  void heartbeat(std::uint64_t stream, const std::string& node, Heartbeat beat);
  void note_reads(std::uint64_t stream, const std::string& node, std::vector<DatasetReads> reads);
  /// What is read on a node now, as far as it has said so in the last seconds.
  [[nodiscard]] std::vector<DatasetReads> reads_on(const AgentInfo& agent) const;
  /// True if this stream was the node's current one: the node is lost.
  bool lost(std::uint64_t stream, const std::string& node);

  /// A walk of the origin has just found this version.
  void note_generation(const DatasetId& dataset, const Generation& generation);
  /// A warm-up has just made this replica complete; its agent's own report may come later.
  void note_complete(const std::string& node, const DatasetId& dataset, const Generation& generation);
  /// A node has just evicted this replica; its agent's own report may come later.
  void note_gone(const std::string& node, const DatasetId& dataset, const GenerationId& generation);
  [[nodiscard]] Status set_drained(const std::string& node, bool drained, const std::string& by);

  [[nodiscard]] const AgentInfo* find(const std::string& node) const;
  [[nodiscard]] const std::map<std::string, AgentInfo>& agents() const { return agents_; }
  /// The version observed last, on any node.
  [[nodiscard]] std::optional<Generation> newest(const DatasetId& dataset) const;
  [[nodiscard]] const std::map<DatasetId, Generation>& generations() const { return newest_; }
  /// Nodes that hold something of a dataset, of any version; in no order.
  [[nodiscard]] const std::vector<const AgentInfo*>& holders_of(const DatasetId& dataset) const;
  /// What the node has of the newest version.
  [[nodiscard]] Holding holding(const AgentInfo& agent, const DatasetId& dataset) const;
  [[nodiscard]] bool complete_on(const std::string& node, const DatasetId& dataset) const;
  /// The most a tier of the node could take in: what is free, and what neither lease nor pin protects.
  [[nodiscard]] static Bytes room_on(const AgentInfo& agent);

  void note_reader(const DatasetId& dataset, std::uint32_t uid);
  [[nodiscard]] bool has_read(const DatasetId& dataset, std::uint32_t uid) const;

 private:
  [[nodiscard]] AgentInfo* current(std::uint64_t stream, const std::string& node);
  void observe(const DatasetId& dataset, const Generation& generation);
  void put(AgentInfo& agent, const ReplicaInfo& replica);
  [[nodiscard]] bool drop(AgentInfo& agent, const DatasetId& dataset, const GenerationId& generation);
  void drop_all(AgentInfo& agent);
  static void protect(AgentInfo& agent, const ReplicaInfo& replica, bool more);
  void check(const Status& status);

  Catalog& catalog_;
  const Clock& clock_;
  std::function<void(const Error&)> complain_;
  std::map<std::string, AgentInfo> agents_;
  std::map<DatasetId, Generation> newest_;
  std::map<DatasetId, std::vector<const AgentInfo*>> holders_;
  Observer observer_ = [](const auto&) {};
  std::set<std::pair<DatasetId, std::uint32_t>> readers_;
};

}  // namespace atlas
