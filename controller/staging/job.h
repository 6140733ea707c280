#pragma once
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/request.h"
#include "controller/slurm/slurm_port.h"
#include "controller/staging/agent_port.h"
#include "controller/staging/warmups.h"
#include "db/catalog.h"

namespace atlas {

/// One attempt of a job, from the first sight of it until its receipt is written. `row` is what the catalogue keeps.
struct StagedJob {
  JobRow row;
  Request request;
  std::vector<DatasetId> datasets;    ///< parallel to request.datasets
  JobRecord record;                   ///< as Slurm last showed it
  std::chrono::milliseconds wait{0};  ///< the most it waits, from when it could have started
  bool kept = false;                  ///< it could not have started when it was last seen
  WallTime could_start{};             ///< when it could, after that
  WallTime got_nodes{};               ///< when it began to run
  bool looking = false;               ///< what its datasets are at submit is being found out
  SteadyTime looked{};                ///< when that failed last

  // What Slurm's record shall say, once decided.
  bool released = false;           ///< it need not be held back by begin_time any more
  std::optional<std::string> pin;  ///< req_nodes; "" = none; nullopt = leave alone
  std::string pin_expanded;        ///< the pin that these are the names of
  std::vector<std::string> pin_nodes;
  bool user_nodes = false;    ///< req_nodes are the user's
  bool user_begin = false;    ///< the start time is the user's
  bool was_eligible = false;  ///< released, and seen with a start time that has passed
  bool patching = false;
  SteadyTime staging_in{};   ///< since when Slurm says that its data_in hook is under way
  bool wedged = false;       ///< and will say so for ever
  SteadyTime commented{};    ///< when a line for people was written into its comment, or could have been
  WallTime patched{};        ///< when Slurm confirmed the last update
  std::string nodes_before;  ///< req_nodes before Atlas wrote there
  /// An update of req_nodes failed, or its answer was lost: they may still be what they were before it.
  std::optional<std::string> nodes_unless_written;
  bool taking_back = false;  ///< Slurm may still have the nodes that it was released to

  // The warm-up it waits for.
  struct Part {
    std::string node;
    std::size_t dataset;
    WarmUps::Ticket ticket;
    bool done;
  };
  std::vector<Part> parts;
  std::string planned_for;                    ///< where its user let it run then
  std::string plan_reason;                    ///< why these nodes
  PlanRows plan;                              ///< what was weighed
  WallTime planned_start{};                   ///< when its nodes were expected to be free for it; epoch = now
  std::uint64_t give_up = 0;                  ///< the timer that ends a brief check of data that is there
  std::map<std::string, std::string> failed;  ///< nodes where it failed, and why
  bool hopeless = false;                      ///< it would fail on every node

  // The end.
  std::set<std::string> filled;  ///< nodes where the cache fills, or has filled, while it runs
  bool ending = false;
  SteadyTime ending_since{};
  std::set<std::string> releasing;  ///< nodes whose answer the receipt waits for
  Receipt receipt;
  std::uint32_t attached = 0, read_through = 0, not_attached = 0;  ///< datasets by node, as the nodes' agents say
  bool hits_counted = true;     ///< of all that it read on its nodes: the kernel counts none of what it reads by itself
  std::uint32_t untouched = 0;  ///< of which no agent knows: no task ran there, or it was down

  [[nodiscard]] bool pending() const {
    return !ending && row.phase != JobPhase::running && row.phase != JobPhase::ended;
  }
  /// Nothing but data, nodes and a time that is near is in its way. What is decided earlier is old when it starts, and
  /// holds cache for nothing.
  [[nodiscard]] bool startable(WallTime now) const {
    constexpr std::chrono::milliseconds kSoon{10'000};
    const WallTime own = record.own_begin.value_or(WallSeconds{});
    return !record.held && !record.dependent && own <= now + std::max(wait, kSoon);
  }
  /// Where its user lets it run: partition, nodes of his own choice, nodes he does not want.
  [[nodiscard]] std::string where() const {
    return record.partition + "|" + (user_nodes ? record.req_nodes : "") + "|" + record.exc_nodes;
  }
  [[nodiscard]] Principal principal() const { return {row.uid, row.gid, {}}; }
  [[nodiscard]] Payer payer() const { return {row.uid, row.gid, record.account}; }
  /// When nothing but data and nodes was in its way, as far as is known.
  [[nodiscard]] WallTime eligible() const {
    const WallTime own = record.own_begin.value_or(WallSeconds{});
    return std::max({own, row.first_seen, could_start});
  }
  /// It waits at most so long.
  [[nodiscard]] WallTime deadline() const { return eligible() + wait; }
  /// It has waited for its data so long.
  [[nodiscard]] std::chrono::milliseconds held(WallTime now) const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
        std::max(now - eligible(), WallTime::duration::zero()));
  }
  [[nodiscard]] bool may_wait(WallTime now) const { return wait.count() > 0 && now < deadline(); }
  /// A walk that began before this may miss what its user has changed; under "always", and for a job that shall fail on
  /// a change, what anybody has.
  [[nodiscard]] WallTime asked(const DatasetPolicy& policy) const {
    // Tasks of an array are seen one after the other, long after they were submitted: one walk does for all.
    WallTime submitted = row.first_seen;
    if (row.key.restarts == 0) submitted = std::min<WallTime>(submitted, row.key.submitted + std::chrono::seconds(1));
    const WallTime eligible = std::max(submitted, could_start);
    const bool at_start = policy.revalidate == Revalidate::always || request.on_change == OnChange::fail;
    return at_start ? std::max(eligible, got_nodes) : eligible;
  }
  /// Is it on record what each dataset was at submit? For --on-change=fail.
  [[nodiscard]] bool knows_what_it_was() const {
    return row.generations.size() == datasets.size() &&
           std::none_of(row.generations.begin(), row.generations.end(), [](const auto& g) { return g.empty(); });
  }
};

/// How long a job may be held back for its data: --warm=wait and --locality F@TIME, the larger, capped by the site;
/// nothing for a requeued job.
[[nodiscard]] std::chrono::milliseconds wait_of(const Request& request, std::uint32_t restarts,
                                                std::chrono::milliseconds max_wait);

}  // namespace atlas
