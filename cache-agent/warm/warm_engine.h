#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <tuple>
#include <vector>

#include "cache-agent/fetch/executor.h"
#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/origin/origin.h"
#include "cache-agent/store/store.h"
#include "cache-agent/warm/cache_space.h"
#include "cache-agent/warm/shares.h"
#include "cache-agent/warm/user_turns.h"
#include "common/dataset_policy.h"
#include "common/identity.h"
#include "common/patterns.h"
#include "common/result.h"
#include "common/units.h"

namespace atlas::agent {

/// A part of a dataset; nothing said = all of it.
struct Selection {
  std::vector<std::string> patterns;  ///< files that match one, or lie below a directory that does
  std::set<std::string> files;        ///< paths below the root
  bool metadata_only = false;         ///< names and attributes, no data
  [[nodiscard]] bool all() const { return patterns.empty() && files.empty() && !metadata_only; }
  auto operator<=>(const Selection&) const = default;
};

/// When a job asked for a dataset, and what will do.
struct Asked {
  SteadyTime when{};  ///< a walk that began before may miss the user's own changes
  bool keep = false;  ///< an older version that is complete is good enough
};

/// A job that runs on several nodes: what does not fit one of them they divide.
struct Division {
  JobKey job;
  std::vector<NodeAddress> nodes;  ///< this one too; fewer than two = nothing is divided
  Bytes cache_limit;               ///< bytes it may fill on each, all datasets together; 0 = as needed
};

/// A warm-up as it is asked for.
struct WarmRequest {
  DatasetId dataset;
  Principal as;
  JobKey payer;
  Bytes cache_limit;        ///< bytes the payer may fill here, all datasets together; 0 = as needed
  bool revalidate = false;  ///< walk even if a recent walk vouches for the generation
  Asked asked{};
  bool settled_only = false;  ///< leave out what changed within WarmOptions::settle, if an older generation is here
  Selection only{};
  std::string account{};               ///< of the payer's job
  std::vector<NodeAddress> divided{};  ///< the payer's nodes, as in Division: of what does not fit, this one's share
};

struct WarmOptions {
  std::string node;
  std::chrono::milliseconds revalidate{60'000};  ///< how long a walk vouches for what it saw
  /// Of a tree whose walk takes longer, or is under way for longer, a walk vouches for jobs that were submitted after
  /// it began, too.
  std::chrono::milliseconds brief_walk{2'000};
  std::chrono::milliseconds settle{0};                        ///< what changed more recently may go on changing
  std::map<std::string, std::vector<std::string>> exclude{};  ///< patterns by origin
  std::chrono::milliseconds tick{400};                        ///< between progress messages
  std::chrono::milliseconds access_limit{2'000};              ///< the most a check of the root may take
  bool divide = true;                                         ///< what does not fit, with the job's other nodes
  unsigned runners = 64;                                      ///< warm-ups under way; further ones wait their turn
  unsigned runners_each = 8;                                  ///< of one user
  unsigned window = 96;  ///< fetches asked for ahead, so that the origin's pool never runs dry
};

class WarmUp;
class Chosen;

/// Makes complete replicas: walks the origin, asks the fetcher for all that is missing, seals. A scheduler, not a
/// copier. One walk per dataset and principal, one fill per generation: whoever comes later joins, and pays for what he
/// wants sooner than the first one may read it. Thread-safe.
class WarmEngine {
 public:
  using OnProgress = std::function<void(const WarmProgress&)>;  ///< any thread; must not block
  using OnDone = std::function<void(Result<WarmProgress>)>;     ///< once; the last state, or why it failed

  /// What it is given outlives it.
  WarmEngine(const std::vector<Origin*>& origins, Store& store, Fetcher& fetcher, const Clock& clock,
             WarmOptions options);
  /// Stops what is under way and waits for it.
  ~WarmEngine();
  /// From now on what is brought here is within its payer's quota; out_of_range when that does not suffice. `space`
  /// outlives the engine. Once, before use.
  void stay_within(SpaceSource& space) { space_ = &space; }
  WarmEngine(const WarmEngine&) = delete;
  WarmEngine& operator=(const WarmEngine&) = delete;

  /// Starts or joins a warm-up; never blocks. Errors: not_found, permission_denied, invalid_argument about the
  /// dataset's root; resource_exhausted when it does not fit; unavailable, data_loss and others of origin or tier;
  /// cancelled.
  void warm(WarmRequest request, OnProgress progress, OnDone done);
  /// Compares all that is here of the dataset with its checksums, then warms it as warm() does, so that what differed
  /// comes again. Every call does it anew. Errors as for warm(); never blocks.
  void verify(WarmRequest request, OnProgress progress, OnDone done);
  /// The newest settings of a dataset, as the controller has told them; kept over a restart. Blocks when they are news.
  void learn(const DatasetId& dataset, const DatasetPolicy& policy);
  [[nodiscard]] DatasetPolicy policy_of(const DatasetId& dataset) const;
  /// Whose walk a principal may rely on, because the dataset is shared with one of his groups; nothing if it is not.
  [[nodiscard]] std::optional<Principal> granted_by(const DatasetId& dataset, const Principal& as) const;

  struct Seen {
    GenerationId generation;
    std::shared_ptr<const Manifest> manifest;  ///< null when it is not in memory
    WallTime walked{};                         ///< when the walk ended; nothing said = in an earlier run
  };
  /// What the dataset is for a job of this principal: what a walk of his own has shown that still vouches (the
  /// dataset's settings, WarmOptions, `asked`), one under way shows, or one that begins now and goes on when `deadline`
  /// has passed. deadline_exceeded when the walk takes longer; other errors as for warm(). Blocks.
  [[nodiscard]] Result<Seen> observe(const DatasetId& dataset, const Principal& as, SteadyTime deadline,
                                     const Asked& asked = {});
  /// A replica for a job to read before it is complete, of what a walk by this principal shows: of a recent one or one
  /// under way, else of one that begins now and goes on when `deadline` has passed. Of the data at most `most` is kept
  /// (0 = as much as there is room for). deadline_exceeded when the walk takes longer; failed_precondition when the
  /// principal may not be shown it; resource_exhausted when next to nothing could be kept; otherwise as for warm().
  /// Blocks.
  [[nodiscard]] Result<std::shared_ptr<Replica>> open_partial(const DatasetId& dataset, const Principal& as, Bytes most,
                                                              SteadyTime deadline, const Asked& asked = {},
                                                              const std::string& account = "",
                                                              const Division& division = {});
  /// This node's share of what a replica is part of, for a job that reads it; nullptr when the job divides nothing, or
  /// all of it may be kept here. See Shares::of(). Blocks when the manifest is not in memory.
  [[nodiscard]] std::shared_ptr<const Share> share_of(const Division& division, const Principal& as,
                                                      const Replica& replica);
  /// What other nodes ask for is brought by these.
  [[nodiscard]] Shares& shares() { return shares_; }
  /// Why less, or nothing, of a dataset was brought here for a user than he wanted, if his quota was the reason; "" =
  /// it was not.
  [[nodiscard]] std::string why_not_more(const DatasetId& dataset, std::uint32_t uid) const;
  /// True if one was running for this dataset and principal.
  bool cancel(const DatasetId& dataset, const Principal& as);
  /// Walks without copying for `limit` at most; then the answer is what was seen so far, and its generation has no id.
  /// Blocks.
  [[nodiscard]] Result<WarmProgress> survey(const DatasetId& dataset, const Principal& as,
                                            std::chrono::milliseconds limit);
  [[nodiscard]] unsigned warming() const;
  /// Is all of this generation being brought, or a warm-up of the dataset on its way to know its generation? Never
  /// blocks.
  [[nodiscard]] bool expects(const DatasetId& dataset, const GenerationId& generation) const;
  /// The payer's job is over: what it filled is forgotten.
  void forget_job(std::uint32_t job_id);

 private:
  friend class WarmUp;
  struct Vouch {
    GenerationId generation;
    SteadyTime began, ended;
    WallTime wall;
    std::shared_ptr<const Manifest> manifest;
    TimerHandle expiry;  ///< a manifest of a million files is not kept for longer than it vouches
  };
  using Walker = std::pair<DatasetId, std::string>;  ///< who walked what
  using WalkResult = Result<std::shared_ptr<const Manifest>>;
  /// A walk under way, and those who wait for it. Guarded by mutex_, but for what says otherwise itself.
  struct Walk {
    std::stop_source stop;
    SteadyTime began{};
    WallTime ended{};
    std::atomic<std::uint64_t> seen{0};  ///< entries
    unsigned waiting = 0;
    std::optional<WalkResult> result;
  };

  [[nodiscard]] Result<std::uint64_t> compare(const WarmRequest& request, const OnProgress& progress);
  void admit(const WarmRequest& request, const OnProgress& progress, const OnDone& done);
  void tick(const std::weak_ptr<WarmUp>& up);
  void run(const std::shared_ptr<WarmUp>& up);
  void finish(const std::shared_ptr<WarmUp>& up, const Status& status);
  /// One attempt; false = it follows another warm-up and will be run again when that one ends.
  [[nodiscard]] Result<bool> attempt(const std::shared_ptr<WarmUp>& up, bool fresh_walk);
  [[nodiscard]] Result<bool> already_complete(WarmUp& up);
  [[nodiscard]] Result<bool> granted(WarmUp& up, const Principal& owner);
  [[nodiscard]] Result<Seen> walk(WarmUp& up, bool fresh);
  [[nodiscard]] std::shared_ptr<Walk> join_walk(const Walker& walker, const Principal& as);
  void lead(const Walker& walker, const Principal& as, const std::shared_ptr<Walk>& walk);
  [[nodiscard]] bool await(std::unique_lock<std::mutex>& lock, const Walk& walk, const std::stop_token& stop,
                           SteadyTime deadline);
  [[nodiscard]] bool vouches(const Walker& walker, const Vouch& vouch, const Asked& asked) const;
  [[nodiscard]] bool takes_long(const Walker& walker, const Vouch& vouch) const;
  [[nodiscard]] std::optional<Vouch> known(const Walker& walker, const Asked& asked) const;
  [[nodiscard]] std::optional<GenerationId> kept(const Walker& walker, const Asked& asked) const;
  [[nodiscard]] DatasetPolicy policy_in_lock(const DatasetId& dataset) const;
  [[nodiscard]] Patterns excluded(const DatasetId& dataset) const;
  /// `most`: nothing = all of it, or an error.
  [[nodiscard]] Result<std::shared_ptr<Replica>> open_replica(const DatasetId& dataset,
                                                              const std::shared_ptr<const Manifest>& manifest,
                                                              std::optional<Bytes> most, const Payer& payer,
                                                              std::chrono::milliseconds patience);
  [[nodiscard]] Result<std::shared_ptr<Replica>> open_some(const DatasetId& dataset, const Principal& as,
                                                           const std::shared_ptr<const Manifest>& manifest, Bytes most,
                                                           const std::string& account, const Division& division);
  [[nodiscard]] static Bytes wanted_by(const Share* share, const Manifest& manifest,
                                       const std::shared_ptr<Replica>& here);
  [[nodiscard]] Status ask_for_space(SpaceQuestion question, const ManifestSummary& summary, Bytes lent,
                                     std::optional<Bytes>& most);
  /// `beside`: another warm-up fills the same replica, will seal it and has taken the room; this one wants a part of
  /// it.
  [[nodiscard]] Status fill(WarmUp& up, const Seen& seen, bool beside);
  [[nodiscard]] Status fill_share(WarmUp& up, const Seen& seen, const Chosen& chosen, const Error& why_not_all);
  [[nodiscard]] std::shared_ptr<const Share> divide(const Division& division, const Principal& as,
                                                    const DatasetId& dataset, const Manifest& manifest);
  [[nodiscard]] Bytes limit_of(const DatasetId& dataset, Bytes cache_limit) const;
  /// `share`: only what belongs to it; null = all.
  [[nodiscard]] Status fetch_all(WarmUp& up, const std::shared_ptr<Replica>& replica, const Manifest& manifest,
                                 const Chosen& chosen, const Share* share, std::map<FileIndex, FileMeta>& metas);
  [[nodiscard]] Status settle(const DatasetId& dataset, std::shared_ptr<Replica> replica, const Status& status);
  [[nodiscard]] Status check_limit(const WarmUp& up, const ManifestSummary& summary);
  [[nodiscard]] std::int64_t unsettled_since(const WarmRequest& request, const GenerationId& generation) const;
  void trim(const Replica& newest);
  [[nodiscard]] std::string absolute(const DatasetId& dataset) const;
  void forget_old_walks();
  void remember(const Walker& walker, const std::shared_ptr<const Manifest>& manifest, SteadyTime began);

  std::map<std::string, Origin*> origins_;
  Store& store_;
  Fetcher& fetcher_;
  const Clock& clock_;
  SpaceSource* space_ = nullptr;
  const WarmOptions options_;
  Shares shares_;

  mutable std::mutex mutex_;  ///< guards what follows; taken before a WarmUp's own
  std::condition_variable idle_;
  std::condition_variable_any changed_;  ///< a walk has ended, a replica is open
  std::map<Walker, std::shared_ptr<Walk>> walks_;
  std::set<std::pair<DatasetId, GenerationId>> opening_;
  bool stopping_ = false;
  unsigned active_ = 0;  ///< warm-ups that have not told their listeners the end
  /// Dataset, who, --cache, what of it, divided among whom.
  using Running = std::tuple<DatasetId, std::string, std::uint64_t, Selection, std::vector<NodeAddress>>;
  [[nodiscard]] static Running key_of_request(const WarmRequest& request);
  std::map<Running, std::shared_ptr<WarmUp>> running_;
  std::map<std::pair<DatasetId, GenerationId>, std::shared_ptr<WarmUp>> filling_;
  std::map<Walker, Vouch> vouches_;
  std::map<DatasetId, DatasetPolicy> policies_;
  std::map<std::uint32_t, std::map<DatasetId, std::uint64_t>> filled_;  ///< bytes by job
  std::map<std::pair<DatasetId, std::uint32_t>, std::string> refused_;  ///< by their quotas, last: to whom, why

  ThreadExecutor walkers_;  ///< each holds a thread while it walks, and longer when the origin hangs
  UserTurns turns_;         ///< on runners_; outlives them
  ThreadExecutor runners_;  ///< each warm-up holds a thread while it waits for a walk, a limit, fetches or seals
  ThreadExecutor front_;    ///< what must not wait behind them: joining, quick answers, ticks
};

}  // namespace atlas::agent
