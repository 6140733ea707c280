#pragma once
#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache-agent/fetch/executor.h"
#include "cache-agent/fetch/governor.h"
#include "cache-agent/limit/token_bucket.h"
#include "common/io_limits.h"

namespace atlas::agent {

/// Keeps a node within its shares of the cluster's limits. What may not begin yet is parked and begins on the
/// executor's thread when its payer has tokens again: no thread waits. Each payer (user, group, job) has a queue of his
/// own at each origin, so that one who waits holds up nobody else; in it what jobs wait for goes before warm-ups. Where
/// no limit applies nothing waits.
///
/// The rates come from the controller. What a payer leaves of his share others of the same origin may have at once, if
/// they have no limit of their own. A payer that it has not answered for yet gets a small part of what would be his
/// if all nodes got the same; one whose last share has run out (the controller is away) gets that. Thread-safe.
class LimitGovernor final : public Governor {
 public:
  /// After this a share is not the controller's word any more.
  static constexpr std::chrono::seconds kShareHolds{5};

  /// `timers` runs what was parked. Both outlive it, or its open().
  LimitGovernor(std::string node, const Clock& clock, Executor& timers);
  LimitGovernor(const LimitGovernor&) = delete;
  LimitGovernor& operator=(const LimitGovernor&) = delete;

  [[nodiscard]] std::optional<Grant> try_admit(const Charge& charge) override;
  [[nodiscard]] Ticket admit(const Charge& charge, std::function<void(Grant)> go) override;
  void charge(const Charge& charge) override;
  [[nodiscard]] Bytes at_a_time(const Charge& payer, Bytes least, Bytes most) override;
  [[nodiscard]] bool parks(std::uint32_t uid, std::uint32_t job_id) const override;
  void settle(const Grant& grant, Bytes moved, std::uint32_t operations) override;

  /// All limits there are, and how many nodes keep within them.
  void set_budgets(std::vector<IoBudget> budgets, std::uint32_t nodes);
  /// What the controller gives this node now. Flows that are not named keep what they have.
  void set_shares(const std::vector<IoShare>& shares);
  /// Whether the controller can be asked for a share.
  void set_connected(bool connected);
  /// What a job runs under, and its own limit (on all its nodes together).
  void set_job(std::uint32_t job_id, const std::string& account, const IoRate& cap);
  void forget_job(std::uint32_t job_id);
  /// What a user's reading for no job is charged to: warm-ups that were asked for by hand.
  void set_user(std::uint32_t uid, const std::string& account);

  /// What has been read and is wanted since the last call, to be told to the controller about once a second. A flow
  /// that is not named any more has no share any more.
  [[nodiscard]] std::vector<IoDemand> demands();
  /// Called, from any thread and under no lock, when somebody begins to wait whom the controller does not know: it is
  /// to be told soon. Once, before use.
  void on_newcomer(std::function<void()> callback) { newcomer_ = std::move(callback); }

  /// Time for which anything of a job was parked on this node, and the bytes that were.
  struct Throttled {
    std::chrono::milliseconds time{0};
    Bytes bytes;
  };
  [[nodiscard]] Throttled throttled(std::uint32_t job_id) const;
  /// Payers, jobs and receipts that are remembered: what is over or idle goes.
  [[nodiscard]] std::size_t remembered() const;

  /// The end: all that is parked begins now, and nothing is parked any more.
  void open();

 private:
  struct Parked {
    Grant grant;
    std::function<void(Grant)> go;  ///< guarded by the governor's mutex
  };
  using Queue = std::deque<std::shared_ptr<Parked>>;
  enum Class : std::size_t { foreground, warm, kClasses };
  struct Wait {
    SteadyTime since{};  ///< epoch = nobody waits
    std::chrono::duration<double> sum{0};
    void begin(SteadyTime now) {
      if (since == SteadyTime{}) since = now;
    }
    void end(SteadyTime now) {
      if (since != SteadyTime{}) sum += now - since;
      since = {};
    }
    /// What it was since the last time it was asked.
    double take(SteadyTime now) {
      if (since != SteadyTime{}) {
        sum += now - since;
        since = now;
      }
      return std::exchange(sum, {}).count();
    }
  };
  /// All shares of an origin on this node together. What their owners leave of it others may borrow.
  struct Pool {
    TokenBucket bytes, operations;
    bool lends = false;  ///< there are shares
  };
  struct Account {
    IoFlow flow;
    Pool* pool = nullptr;
    TokenBucket bytes, operations;
    std::vector<const IoBudget*> budgets;  ///< that apply
    IoRate cap = kUnlimited;
    IoRate share;
    SteadyTime share_until{};
    SteadyTime rate_until = SteadyTime::max();  ///< then another rate applies
    bool may_borrow = false;                    ///< nothing but the origin's and the node's limits is its own
    std::array<Queue, kClasses> queues;
    std::size_t in_flight = 0;        ///< grants that are not settled
    SteadyTime began{}, last_used{};  ///< of this activity (max = it has ended); of anything
    std::array<Wait, kClasses> wait;
    SteadyTime waits_since{};  ///< of either class
    // Since the last report, which was at `counted`.
    std::array<IoRate, kClasses> used{}, backlog{};
    SteadyTime counted{};
    std::array<IoRate, kClasses> wanted{};  ///< smoothed: up at once, down slowly
    IoRate rate{};                          ///< of use, in the last report
    bool asked = false;                     ///< the controller has been told of it

    [[nodiscard]] bool waits() const { return !queues[foreground].empty() || !queues[warm].empty(); }
    [[nodiscard]] bool limited() const {
      return !budgets.empty() || !is_unlimited(cap.bytes) || !is_unlimited(cap.operations);
    }
  };
  struct KeyView {
    std::string_view origin;
    std::uint32_t uid, gid, job_id;
    bool operator==(const KeyView&) const = default;
  };
  struct Key {
    std::string origin;
    std::uint32_t uid, gid, job_id;
    operator KeyView() const { return {origin, uid, gid, job_id}; }  // NOLINT(google-explicit-constructor)
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(const KeyView& key) const {
      const std::uint64_t numbers = (std::uint64_t{key.uid} << 32U | key.job_id) * 0x9e3779b97f4a7c15ULL;
      return std::hash<std::string_view>()(key.origin) ^ numbers ^ numbers >> 29U ^ key.gid;
    }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const KeyView& a, const KeyView& b) const { return a == b; }
  };
  struct Job {
    std::string account;
    IoRate cap = kUnlimited;
  };
  using Run = std::vector<std::pair<std::function<void(Grant)>, Grant>>;

  // mutex_ is held for all of these.
  [[nodiscard]] Account& account_of(const Charge& charge);
  void match(Account& account) const;
  [[nodiscard]] IoRate equal_part(const Account& account) const;
  void set_rate(Account& account, SteadyTime now);
  void set_all_rates(SteadyTime now);
  static void touch(Account& account, SteadyTime now);
  void fill_pool(Pool& pool, SteadyTime now);
  void refresh(Account& account, SteadyTime now);
  [[nodiscard]] bool ready(Account& account, SteadyTime now);
  [[nodiscard]] static bool can_borrow(Account& account, SteadyTime now);
  enum class From { own, pool };
  [[nodiscard]] static Grant take(Account& account, Urgency urgency, Bytes bytes, std::uint32_t operations,
                                  SteadyTime now, From from = From::own);
  void start_front(Account& account, Class which, SteadyTime now, From from, Run& run);
  [[nodiscard]] static Class class_of(Urgency urgency);
  void release_ready(Account& account, SteadyTime now, Run& run);
  void release_all(SteadyTime now, Run& run);
  void arm(SteadyTime now);
  /// Lets go of the lock.
  void changed(std::unique_lock<std::mutex> lock);
  [[nodiscard]] IoDemand demand_of(Account& account, SteadyTime now);

  void serve();

  const std::string node_;
  const Clock& clock_;
  Executor& timers_;
  std::function<void()> newcomer_ = [] {};
  mutable std::mutex mutex_;  ///< guards what follows; nothing is called under it
  std::unordered_map<Key, std::unique_ptr<Account>, Hash, Equal> accounts_;
  std::map<std::string, Pool> pools_;  ///< by origin
  std::vector<Account*> waiting_;
  std::vector<IoBudget> budgets_;
  std::map<const IoBudget*, unsigned> sharers_;  ///< active accounts that a budget applies to
  std::map<std::uint32_t, Job> jobs_;
  std::map<std::uint32_t, std::string> users_;    ///< their accounts, where no job says which
  std::map<std::uint32_t, Throttled> throttled_;  ///< by job, what is over
  std::uint32_t nodes_ = 1;
  bool connected_ = false, open_ = false;
  TimerHandle timer_;
  SteadyTime timer_at_ = SteadyTime::max();
};

}  // namespace atlas::agent
