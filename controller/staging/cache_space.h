#pragma once
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "controller/staging/agent_port.h"
#include "controller/staging/executor.h"
#include "controller/staging/registry.h"
#include "db/catalog.h"

namespace atlas {

/// How much of the cache a user, a Unix group or a Slurm account may take, on all nodes together. A replica is charged
/// to whom it was brought for: to one user, one group (the one the job runs under) and one account. What is there
/// already is never taken away for a quota alone: only for something new of the same user, his least recently used
/// first. Lives on the strand; nothing here asks a name service.
class CacheSpace {
 public:
  CacheSpace(Executor& strand, AgentPort& agents, Registry& registry, Catalog& catalog, const Clock& clock)
      : strand_(strand), agents_(agents), registry_(registry), catalog_(catalog), clock_(clock) {}
  [[nodiscard]] Status load();

  [[nodiscard]] Status set(const LimitRow& limit);
  /// not_found when there is none.
  [[nodiscard]] Status remove(LimitKind kind, const std::string& name);
  [[nodiscard]] std::vector<LimitRow> limits() const;
  /// The same, not copied.
  [[nodiscard]] const std::map<std::pair<LimitKind, std::string>, LimitRow>& limits_by_name() const { return limits_; }
  /// One of them; null = not set.
  [[nodiscard]] const LimitRow* find(LimitKind kind, const std::string& name) const;
  /// The user's, group's and account's limits that are the payer's.
  [[nodiscard]] std::vector<const LimitRow*> covering(const Payer& payer) const;
  /// What pending jobs are going to read, soonest first: it makes way last. What is `held` on a node does not.
  void want(const std::vector<DatasetId>& soonest_first, std::set<std::pair<std::string, DatasetId>> held);
  /// Whether a user's, group's or account's limit is the payer's.
  [[nodiscard]] static bool covers(const LimitRow& limit, const Payer& payer);
  struct Use {
    LimitRow limit;
    Bytes cache_used;
  };
  /// In one pass over all replicas.
  [[nodiscard]] std::vector<Use> all() const;
  [[nodiscard]] Use use_of(const LimitRow& limit) const { return {limit, used(limit, nullptr)}; }
  /// Slurm accounts for which something of this user's is in the cache.
  [[nodiscard]] std::set<std::string> accounts_of(std::uint32_t uid) const;
  /// The smallest quota that holds for somebody; its cache is set.
  [[nodiscard]] std::optional<LimitRow> tightest(const Payer& payer) const;

  struct Question {
    std::string node;
    DatasetId dataset;
    GenerationId generation;
    Payer payer;
    Bytes have, most, least;  ///< on that node: charged for it already, wanted beyond that, not begun with less
    std::chrono::milliseconds wait{0};  ///< what makes way may take so long
  };
  struct Answer {
    Bytes granted;       ///< from least to most, or nothing
    std::string reason;  ///< why not all, one sentence
  };
  /// `done` is called once, from this call or from a later task, after question.wait at the latest.
  void reserve(const Question& question, std::function<void(const Answer&)> done);

 private:
  using Key = std::tuple<std::string, DatasetId, GenerationId>;  ///< node, what
  /// Granted, and not reported by its agent yet.
  struct Grant {
    Payer payer;
    Bytes total;
    SteadyTime until;
  };
  struct Pending {
    Question question;
    std::function<void(const Answer&)> done;
    bool answered = false;
    std::set<Key> tried;  ///< asked to make way
  };
  std::map<DatasetId, std::size_t> wanted_;  ///< by pending jobs; the higher, the sooner
  std::set<std::pair<std::string, DatasetId>> held_for_followers_;
  struct Victim {
    Key key;
    const ReplicaInfo* replica;
    std::string address;
  };
  /// What a limit's replicas take, with what is granted; without one of them.
  [[nodiscard]] Bytes used(const LimitRow& limit, const Key* without) const;
  void each_charge(const Key* without, const std::function<void(const Payer&, Bytes)>& visit) const;
  [[nodiscard]] std::vector<const LimitRow*> limits_of(const Payer& payer) const;
  /// What may be had beyond question.have: by the tightest limit.
  [[nodiscard]] Bytes room(const Question& question) const;
  [[nodiscard]] Bytes room(const Question& question, const LimitRow& limit) const;
  [[nodiscard]] std::vector<Victim> victims(const Pending& pending) const;
  [[nodiscard]] std::string why(const Question& question) const;
  void pump();
  void answer(Pending& pending, bool final);
  void evict(const std::shared_ptr<Pending>& pending, const std::vector<Victim>& victims);

  Executor& strand_;
  AgentPort& agents_;
  Registry& registry_;
  Catalog& catalog_;
  const Clock& clock_;
  void index();
  std::map<std::pair<LimitKind, std::string>, LimitRow> limits_;
  std::multimap<std::pair<LimitKind, std::uint32_t>, const LimitRow*> by_id_;  ///< users' and groups'
  std::map<Key, Grant> grants_;
  std::deque<std::shared_ptr<Pending>> queue_;  ///< in turn: what makes way for one is not counted for another
  bool evicting_ = false;
};

}  // namespace atlas
