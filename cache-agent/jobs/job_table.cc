#include "cache-agent/jobs/job_table.h"

#include <algorithm>

#include "cache-agent/limit/limit_governor.h"
#include "cache-agent/manifest/lock_files.h"
#include "cache-agent/origin/reader_pool.h"
#include "common/mounts.h"
#include "common/units.h"

namespace atlas::agent {
namespace {

/// A silent origin does not take away for so long what it has shown a user.
constexpr std::chrono::hours kLately{24};

/// The directories that stay the origin's own. False, with the reason, when they are too many to be shown.
bool set_windows(const Replica& replica, view::PlannedView& out) {
  std::size_t bytes = 0;
  for (const auto& window : replica.summary().windows) bytes += window.size();
  if (replica.summary().windows.size() > kMostWindows || bytes > kMostWindowBytes) {
    out.reason = "more than " + std::to_string(kMostWindows) + " directories of it (or paths of more than " +
                 format_size(Bytes{kMostWindowBytes}) +
                 ") are excluded from the cache, which cannot be shown: exclude one above them";
    return false;
  }
  out.windows = replica.summary().windows;
  return true;
}

/// Files that programs must be able to lock. Of a large tree that was not walked just now they are not looked for: that
/// would take longer than a job may wait.
void note_lock_files(const WarmEngine::Seen& seen, const std::shared_ptr<Replica>& replica, view::PlannedView& out) {
  constexpr std::uint64_t kQuicklyRead = 200'000;
  if (seen.manifest) {
    out.lock_files = database_lock_files(*seen.manifest);
  } else if (replica && replica->summary().entries <= kQuicklyRead) {
    if (const auto manifest = replica->manifest()) out.lock_files = database_lock_files(**manifest);
    replica->forget_manifest();
  }
}

}  // namespace

JobTable::JobTable(Store& store, PlanSource* ask, std::map<std::string, OriginPlace> origins)
    : store_(store), ask_(ask), origins_(std::move(origins)) {}

Status JobTable::recover() {
  ATLAS_ASSIGN(auto rows, store_.database().jobs());
  for (auto& row : rows) {
    for (const auto& item : row.datasets)
      if (const auto replica = item.generation.empty() ? nullptr : store_.find(item.dataset, item.generation))
        store_.lease(*replica, row.job.job_id);
    if (limits_ != nullptr) limits_->set_job(row.job.job_id, row.account, row.io_limit);
    const std::lock_guard lock(mutex_);
    jobs_[row.job.job_id] = std::move(row);
  }
  return {};
}

Status JobTable::put(const NodeJobRow& row) {
  if (limits_ != nullptr) limits_->set_job(row.job.job_id, row.account, row.io_limit);
  {
    const std::lock_guard lock(mutex_);
    jobs_[row.job.job_id] = row;
  }
  return store_.database().put_job(row);
}

/// What a job shall read: the generation of its plan, else the newest complete one.
std::shared_ptr<Replica> JobTable::choose(const NodeJobDatasetRow& wanted) const {
  if (!wanted.generation.empty()) return store_.find(wanted.dataset, wanted.generation);
  return store_.newest_complete(wanted.dataset);
}

/// A lease only for a job that is still known: release() forgets the job first and drops its leases then.
void JobTable::hold(std::uint32_t job_id, const Replica& replica) {
  store_.lease(replica, job_id);
  if (!knows(job_id)) store_.unlease(job_id);
}

Result<std::vector<ReplicaInfo>> JobTable::plan(const JobOrder& order) {
  ATLAS_ASSIGN(auto here, take(order, false));
  return here ? std::move(*here) : std::vector<ReplicaInfo>();  // always there: it was not our own question
}

/// Remembers the job, then takes its leases. With `asked`, the order is the answer to our own question: nullopt when
/// the job was released meanwhile.
Result<std::optional<std::vector<ReplicaInfo>>> JobTable::take(const JobOrder& order, bool asked) {
  NodeJobRow row{order.job,         with_groups(order.as), order.reason,  order.waited,   {},           {},
                 order.cache_limit, order.on_change,       order.account, order.io_limit, order.divided};
  std::vector<std::shared_ptr<Replica>> chosen;  // held, so that none is evicted before its lease
  for (const auto& item : order.datasets) {
    if (engine_ != nullptr) engine_->learn(item.dataset, item.policy);
    row.asked.push_back(item.asked);
    NodeJobDatasetRow wanted{item.dataset, item.generation, false, "", false, item.read_write};
    chosen.push_back(choose(wanted));
    // With --on-change=fail it is what there was at submit, or nothing is known of that.
    const bool told = !item.generation.empty() || order.on_change != OnChange::fail;
    if (told && chosen.back() && chosen.back()->state() == ReplicaState::complete)
      wanted.generation = chosen.back()->generation();
    row.datasets.push_back(std::move(wanted));
  }
  {
    const std::lock_guard lock(mutex_);
    if (asked && questions_[order.job.job_id].over) return std::nullopt;
    jobs_[row.job.job_id] = row;
  }
  ATLAS_TRY(store_.database().put_job(row));
  std::vector<ReplicaInfo> here;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (chosen[i] && chosen[i]->state() == ReplicaState::complete) hold(order.job.job_id, *chosen[i]);
    here.push_back(chosen[i] ? store_.info(*chosen[i]) : ReplicaInfo{});
    here.back().dataset = order.datasets[i].dataset;
    if (!chosen[i]) here.back().generation.id = order.datasets[i].generation;
  }
  return here;
}

/// The controller's plan of a job it has not told us of. nullopt: the job asked for nothing, or it was over before the
/// answer came: a lease taken then would have nobody to drop it.
Result<std::optional<NodeJobRow>> JobTable::ask(std::uint32_t job_id, SteadyTime deadline) {
  if (ask_ == nullptr) return std::nullopt;
  {
    const std::lock_guard lock(mutex_);
    ++questions_[job_id].asking;
  }
  const auto order = ask_->plan_of(job_id, deadline);
  Result<std::optional<std::vector<ReplicaInfo>>> taken = std::nullopt;
  if (order && *order) taken = take(**order, true);
  const std::lock_guard lock(mutex_);
  const auto question = questions_.find(job_id);
  if (--question->second.asking == 0) questions_.erase(question);
  if (!order) return fail(order.error());
  if (!taken) return fail(taken.error());
  const auto it = jobs_.find(job_id);
  return !*taken || it == jobs_.end() ? std::nullopt : std::optional(it->second);
}

Asked JobTable::asked_of(const NodeJobRow& job, const NodeJobDatasetRow& wanted) {
  const auto at = static_cast<std::size_t>(&wanted - job.datasets.data());
  return {at < job.asked.size() ? job.asked[at] : SteadyTime{}, job.on_change == OnChange::keep};
}

/// Why a job with --on-change=fail may not start, if so.
std::string JobTable::refusal(const NodeJobRow& job, const NodeJobDatasetRow& wanted, const GenerationId& seen) {
  if (job.on_change != OnChange::fail || wanted.generation.empty() || wanted.generation == seen) return "";
  return "it has changed at the origin since the job was submitted, and --on-change=fail says not to start then";
}

/// Settles which generation the job reads: the one the origin shows it now. What it has been shown once it keeps. Why
/// not, if that cannot be told in time: what is here may be old then, or be closed to this user by now.
Status JobTable::observe(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline,
                         view::PlannedView& out) const {
  if (engine_ == nullptr || (wanted.mounted && !wanted.generation.empty())) return {};
  const auto now = clock_->now();
  const auto seen = engine_->observe(wanted.dataset, job.as, now + (deadline - now) * 2 / 3, asked_of(job, wanted));
  if (!seen && seen.error().code == Code::deadline_exceeded)
    return fail(Code::deadline_exceeded,
                "its origin did not list its files in time: nobody knows whether what is here is what it has now");
  if (!seen) return fail(seen.error());
  out.refused = refusal(job, wanted, seen->generation);
  if (!out.refused.empty()) return {};  // the generation of its submission stays on record
  wanted.generation = seen->generation;
  out.seen_lately = !wanted.read_write && clock_->wall() - seen->walked <= kLately;
  note_lock_files(*seen, store_.find(wanted.dataset, wanted.generation), out);
  if (const auto replica = store_.find(wanted.dataset, wanted.generation))
    return store_.vouch(*replica, job.as, seen->walked);
  return {};
}

/// A replica of which not all is here, as this job may be shown it.
Result<std::shared_ptr<Replica>> JobTable::partial(const NodeJobRow& job, const NodeJobDatasetRow& wanted,
                                                   SteadyTime deadline) const {
  if (wanted.partial && !wanted.generation.empty()) {  // another of its steps has asked before
    auto replica = store_.find(wanted.dataset, wanted.generation);
    if (replica && replica->why_not_viewable_for(job.as).empty()) return replica;
  }
  // Of several datasets each may use half of the time that is left.
  const auto now = clock_->now();
  Bytes room = job.cache_limit;
  for (const auto& other : job.datasets) {
    const auto held = other.dataset == wanted.dataset || other.generation.empty()
                          ? nullptr
                          : store_.find(other.dataset, other.generation);
    if (held && room.count != 0)
      room = Bytes{std::max<std::uint64_t>(1, room.count - std::min(room.count, held->summary().bytes))};
  }
  return engine_->open_partial(wanted.dataset, job.as, room, now + (deadline - now) / 2, asked_of(job, wanted),
                               job.account, {job.job, job.divided, job.cache_limit});
}

std::shared_ptr<const Share> JobTable::share_of(const JobKey& job, const Principal& as, const Replica& replica) const {
  Division division{job, {}, {}};
  {
    const std::lock_guard lock(mutex_);
    const auto it = jobs_.find(job.job_id);
    if (engine_ == nullptr || it == jobs_.end() || it->second.job != job) return nullptr;
    division.nodes = it->second.divided;
    division.cache_limit = it->second.cache_limit;
  }
  return engine_->share_of(division, as, replica);
}

void JobTable::show_partial(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline,
                            view::PlannedView& out) {
  auto opened = partial(job, wanted, deadline);
  if (!opened) {
    out.reason += (out.reason.empty() ? "" : ", and ") + opened.error().message;
    return;
  }
  const auto& replica = *opened;
  if (!wanted.read_write && !set_windows(*replica, out)) return;
  out.state = ReplicaState::partial;
  out.writable = wanted.read_write;
  out.size = Bytes{replica->summary().bytes};
  out.resident = replica->bytes_resident();
  out.reason.clear();
  out.note = engine_->why_not_more(wanted.dataset, job.as.uid);
  hold(job.job.job_id, *replica);
  wanted.generation = replica->generation();
  wanted.partial = true;
  out.mount = [this, replica, key = job.job, as = job.as,
               modes = view::PartialViews::Modes{origins_.at(wanted.dataset.origin).noexec,
                                                 wanted.read_write}]() -> Result<UniqueFd> {
    auto mount = views_->mount(replica, key, as, modes);
    if (knows(key.job_id)) return mount;
    static_cast<void>(views_->release(key.job_id));  // it was released meanwhile
    return fail(Code::cancelled, "the job is over");
  };
}

/// What the user's own rights show him now of a dataset that is shared with him; nothing when they do not, or not in
/// time.
std::optional<WarmEngine::Seen> JobTable::own_look(const NodeJobRow& job, const NodeJobDatasetRow& wanted,
                                                   SteadyTime deadline) const {
  const auto now = clock_->now();
  auto seen = engine_->observe(wanted.dataset, job.as, now + (deadline - now) / 3, asked_of(job, wanted));
  return seen ? std::optional(std::move(*seen)) : std::nullopt;
}

/// What is shared with one of the user's groups: what the owner's own walk shows now, if all of it is here. False: the
/// user's own rights decide.
bool JobTable::show_granted(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline,
                            view::PlannedView& out) {
  if (engine_ == nullptr) return false;
  const auto owner = engine_->granted_by(wanted.dataset, job.as);
  if (!owner) return false;
  auto replica =
      wanted.mounted && !wanted.generation.empty() ? store_.find(wanted.dataset, wanted.generation) : nullptr;
  // What was there at submit was seen with the user's own rights.
  if (!replica && job.on_change == OnChange::fail && !wanted.generation.empty()) {
    if (const auto own = own_look(job, wanted, deadline)) out.refused = refusal(job, wanted, own->generation);
    if (!out.refused.empty()) return true;
  }
  if (!replica) {
    const auto now = clock_->now();
    // What the owner has closed meanwhile nobody goes on reading by asking for an older version.
    const Asked asked{asked_of(job, wanted).when, false};
    const auto seen = engine_->observe(wanted.dataset, *owner, now + (deadline - now) / 2, asked);
    replica = seen ? store_.find(wanted.dataset, seen->generation) : nullptr;
    if (seen) note_lock_files(*seen, replica, out);
  }
  if (!replica || !replica->mountable_for(*owner)) {
    out.reason = "it is shared with you, but not all that its owner has in it now is on this node";
    return false;
  }
  // Of what the owner cannot read, as files of others in his tree, the user may be allowed more than he.
  if (!wanted.mounted && replica->summary().opaque > 0) {
    const auto own = own_look(job, wanted, deadline);
    const auto mine = own ? store_.find(wanted.dataset, own->generation) : nullptr;
    const bool known = own && (own->manifest || mine);
    if (known && (own->manifest ? own->manifest->summary() : mine->summary()).opaque < replica->summary().opaque)
      return false;
  }
  if (!set_windows(*replica, out)) return false;
  out.state = ReplicaState::complete;
  out.size = Bytes{replica->summary().bytes};
  out.granted = true;
  out.reason.clear();
  wanted.generation = replica->generation();
  wanted.partial = false;
  hold(job.job.job_id, *replica);
  MountFlags flags{origins_.at(wanted.dataset.origin).noexec};
  flags.swap = MountFlags::Swap{owner->uid, job.as.uid};
  out.mount = [replica, flags]() -> Result<UniqueFd> {
    ATLAS_ASSIGN(auto mounts, replica->mounts(1, flags));
    return std::move(mounts.front());
  };
  return true;
}

/// What the job writes to is the origin's own; the cache only spares it reads. So whatever is wrong with that, it is
/// shown the origin.
void JobTable::show_writable(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline,
                             view::PlannedView& out) {
  if (views_ == nullptr) {
    out.reason = "this node's agent shows nothing that can be written to";
    return;
  }
  if (const auto seen = observe(job, wanted, deadline, out); !seen) {
    out.reason = seen.error().message;
    return;
  }
  out.lock_files.clear();  // it locks its own
  if (out.refused.empty()) show_partial(job, wanted, deadline, out);
}

view::PlannedView JobTable::view_of(const NodeJobRow& job, NodeJobDatasetRow& wanted, SteadyTime deadline) {
  view::PlannedView out;
  out.dataset = wanted.dataset;
  const auto origin = origins_.find(wanted.dataset.origin);
  if (origin == origins_.end()) {
    out.reason = "origin '" + wanted.dataset.origin + "' is not configured on this node";
    return out;
  }
  out.origin_root = origin->second.root;
  const auto newest = store_.newest_complete(wanted.dataset);
  const auto chosen = choose(wanted);
  for (const auto& one : {chosen, newest}) {
    if (one) out.reason = store_.why_silent(*one);
    if (!out.reason.empty()) return out;
  }
  if (wanted.read_write) {
    show_writable(job, wanted, deadline, out);
    return out;
  }
  const bool here = chosen || newest;
  if (!here && views_ == nullptr) {
    out.reason = "it is not on this node";
    return out;
  }
  if (show_granted(job, wanted, deadline, out)) return out;
  const std::string not_granted = std::exchange(out.reason, "");
  if (const auto seen = observe(job, wanted, deadline, out); !seen) {
    out.reason =
        here ? seen.error().message : seen.error().in("it is not on this node, and cannot be read through it").message;
    if (!not_granted.empty()) out.reason = not_granted;
    return out;
  }
  if (!out.refused.empty()) return out;
  const auto replica = choose(wanted);
  if (replica) {
    out.state = replica->state();
    out.size = Bytes{replica->summary().bytes};
    out.reason = replica->why_not_mountable_for(job.as);
  } else {
    out.reason = here ? "it has changed, and what the origin has now is not on this node" : "it is not on this node";
  }
  if (!out.reason.empty()) {
    if (views_ != nullptr) show_partial(job, wanted, deadline, out);
    return out;
  }
  if (!set_windows(*replica, out)) return out;
  if (!wanted.mounted) wanted.partial = false;  // what a job sees never changes
  hold(job.job.job_id, *replica);
  out.mount = [replica, flags = MountFlags{origin->second.noexec}]() -> Result<UniqueFd> {
    ATLAS_ASSIGN(auto mounts, replica->mounts(1, flags));
    return std::move(mounts.front());
  };
  return out;
}

Result<view::JobViews> JobTable::views_of(std::uint32_t job_id, const Principal& as, SteadyTime deadline) {
  NodeJobRow row;
  bool known = false;
  {
    const std::lock_guard lock(mutex_);
    const auto it = jobs_.find(job_id);
    known = it != jobs_.end();
    if (known) row = it->second;
  }
  if (!known) {
    ATLAS_ASSIGN(auto asked, ask(job_id, deadline));
    if (!asked) return view::JobViews{};
    row = std::move(*asked);
  }
  if (row.as.uid != as.uid)
    return fail(Code::permission_denied,
                "job " + std::to_string(job_id) + " was planned for " + show(row.as) + ", but runs as " + show(as));
  // slurmstepd knows the groups the job really has.
  row.as = with_groups(as);
  view::JobViews out;
  out.known = true;
  out.job = row.job;
  out.as = row.as;
  out.reason = row.reason;
  out.waited = row.waited;
  bool changed = false;
  for (auto& wanted : row.datasets) {
    const auto before = std::pair(wanted.generation, wanted.partial);
    out.views.push_back(view_of(row, wanted, deadline));
    if (const auto& view = out.views.back(); !view.refused.empty() && out.refused.empty())
      out.refused = view.origin_root + (view.dataset.path.empty() ? "" : "/" + view.dataset.path) + ": " + view.refused;
    if (wanted.generation.empty() && out.views.back().mount)
      if (const auto replica = choose(wanted)) wanted.generation = replica->generation();
    changed = changed || before != std::pair(wanted.generation, wanted.partial);
  }
  if (row.on_change == OnChange::fail && out.refused.empty()) {  // it starts: its later steps find it running
    row.on_change = OnChange::refresh;
    changed = true;
  }
  if (changed && knows(job_id)) ATLAS_TRY(put(row));
  return out;
}

void JobTable::record_attach(std::uint32_t job_id, const std::vector<view::AttachedView>& results) {
  NodeJobRow row;
  {
    const std::lock_guard lock(mutex_);
    const auto it = jobs_.find(job_id);
    if (it == jobs_.end()) return;
    for (const auto& result : results)
      for (auto& item : it->second.datasets)
        if (item.dataset == result.dataset) {
          item.mounted = result.mounted;
          item.reason = result.reason;
        }
    row = it->second;
  }
  // What is lost with the record is a line of a receipt.
  static_cast<void>(store_.database().put_job(row));
}

std::optional<NodeJobRow> JobTable::release(const JobKey& job, const std::function<void()>& before) {
  NodeJobRow row;
  {
    const std::lock_guard lock(mutex_);
    if (const auto question = questions_.find(job.job_id); question != questions_.end()) question->second.over = true;
    const auto it = jobs_.find(job.job_id);
    if (it != jobs_.end() && it->second.job.restarts > job.restarts) return std::nullopt;
    if (it == jobs_.end()) {
      store_.unlease(job.job_id);  // a lease without a job is nobody's
    } else {
      row = std::move(it->second);
      jobs_.erase(it);
    }
  }
  before();
  if (row.job.job_id == 0) return std::nullopt;
  store_.unlease(job.job_id);
  // A row that stays behind is released again when the controller sees the job in our next hello.
  static_cast<void>(store_.database().drop_job(job.job_id));
  return row;
}

Result<std::shared_ptr<Replica>> JobTable::reading(const JobKey& job, const DatasetId& dataset,
                                                   const GenerationId& generation) const {
  {
    const std::lock_guard lock(mutex_);
    const auto it = jobs_.find(job.job_id);
    if (it == jobs_.end() || it->second.job.restarts != job.restarts)
      return fail(Code::not_found, "job " + std::to_string(job.job_id) + " is over");
    const auto reads = [&](const NodeJobDatasetRow& row) {
      return row.dataset == dataset && row.generation == generation;
    };
    if (std::none_of(it->second.datasets.begin(), it->second.datasets.end(), reads))
      return fail(Code::not_found, "job " + std::to_string(job.job_id) + " does not read " + show(dataset));
  }
  auto replica = store_.find(dataset, generation);
  if (!replica) return fail(Code::not_found, "this generation of " + show(dataset) + " is no longer here");
  return replica;
}

std::vector<JobKey> JobTable::jobs() const {
  const std::lock_guard lock(mutex_);
  std::vector<JobKey> keys;
  for (const auto& [id, row] : jobs_) keys.push_back(row.job);
  return keys;
}

bool JobTable::knows(std::uint32_t job_id) const {
  const std::lock_guard lock(mutex_);
  return jobs_.contains(job_id);
}

bool mounted_noexec(const std::string& path) {
  const auto mounts = mounts_now();
  const auto* mount = mount_of(mounts, path);
  return mount != nullptr && has_option(mount->options, "noexec");
}

}  // namespace atlas::agent
