#include "cache-agent/view/fuse/partial_views.h"

#include <sys/utsname.h>

#include <cstdio>

#include "cache-agent/view/fuse/connection.h"
#include "cache-agent/view/fuse/view_core.h"
#include "common/percent.h"

namespace atlas::view {
namespace {

/// How long a thread that reads from a disk is waited for.
constexpr std::chrono::milliseconds kPatience{2000};

}  // namespace

std::string why_no_passthrough() {
#ifdef FUSE_CAP_PASSTHROUGH
  utsname system{};
  unsigned release = 0, minor_release = 0;
  if (uname(&system) != 0 || std::sscanf(system.release, "%u.%u", &release, &minor_release) != 2) return {};
  if (release > 6 || (release == 6 && minor_release >= 9)) return {};
  return "Linux " + std::string(system.release) + " cannot (6.9 can)";
#else
  return "this agent is built with libfuse " + std::string(fuse_pkgversion()) + " (3.17 can)";
#endif
}

Result<std::unique_ptr<PartialView>> PartialView::open(PartialViewParts parts) {
  if (const auto why = parts.replica->why_not_viewable_for(parts.as); !why.empty())
    return fail(Code::failed_precondition, why);
  ATLAS_ASSIGN(auto manifest, parts.replica->manifest());
  auto core = std::make_shared<ViewCore>(std::move(parts), std::move(manifest));
  core->start();
  return std::unique_ptr<PartialView>(new PartialView(std::move(core)));
}

PartialView::~PartialView() {
  close();
}

std::shared_ptr<ParkingLot> PartialView::new_lot() const {
  const auto& parts = core_->parts;
  ParkingLot::Options lot;
  lot.deadline = parts.deadline;
  lot.excused = [fetcher = parts.fetcher, as = parts.as, payer = parts.payer] { return fetcher->parks(as, payer); };
  lot.expired = [warn = parts.warn, deadline = parts.deadline, job = parts.payer.job_id](const std::string& what) {
    warn("job " + std::to_string(job) + ": a read of " + what + " failed: its origin did not answer within " +
         format_duration(deadline));
  };
  return std::make_shared<ParkingLot>(*parts.timers, *parts.clock, lot);
}

Status PartialView::add(std::shared_ptr<Connection> connection) {
  const std::lock_guard lock(mutex_);
  if (closed_) {
    connection->abort();
    return fail(Code::cancelled, "the job is over");
  }
  std::erase_if(connections_, [](const auto& one) { return one->ended(); });
  connections_.push_back(std::move(connection));
  return {};
}

Result<UniqueFd> PartialView::mount() {
  const auto& parts = core_->parts;
  Connection::Options options;
  options.source = "atlas:" + printable(agent::show(parts.replica->dataset()));
  options.root_type = core_->attributes.of(0).st_mode & S_IFMT;
  options.noexec = parts.noexec;
  options.threads = parts.threads;
  options.holder = parts.holder;
  options.slots = parts.slots;
  options.passthrough = core_->suits_passthrough();
  options.about = pack(
      {parts.payer, parts.as, parts.replica->dataset(), parts.replica->generation(), parts.noexec, parts.writable});
  ATLAS_ASSIGN(auto opened, Connection::open(core_, new_lot(), options));
  ATLAS_TRY(add(std::move(opened.connection)));
  return std::move(opened.mount);
}

Status PartialView::take_over(Kept kept) {
  Connection::Options options;
  options.threads = core_->parts.threads;
  options.holder = core_->parts.holder;
  ATLAS_ASSIGN(auto connection, Connection::take_over(core_, new_lot(), std::move(kept), options));
  return add(std::move(connection));
}

ViewCounters PartialView::counters() const {
  return core_->counters();
}

PartialView::Reads PartialView::take_reads() {
  const auto now = core_->counters();
  const std::lock_guard lock(mutex_);
  const auto last = std::exchange(taken_, now);
  if (now.passed != 0) return {};
  const Bytes hit = now.hit_bytes - last.hit_bytes;
  return {hit + now.missed_bytes - last.missed_bytes, hit};
}

const PartialViewParts& PartialView::parts() const {
  return core_->parts;
}

void PartialView::abort() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (const auto& connection : connections_) connection->abort();
}

void PartialView::close() {
  abort();
  std::vector<std::shared_ptr<Connection>> all;
  {
    const std::lock_guard lock(mutex_);
    all.swap(connections_);
  }
  const SteadyTime until = core_->parts.clock->now() + kPatience;
  for (const auto& connection : all) connection->wait(until);
}

void PartialView::leave() {
  std::vector<std::shared_ptr<Connection>> all;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    all.swap(connections_);
  }
  const SteadyTime until = core_->parts.clock->now() + kPatience;
  // A later agent would not know which files are open in what is written to.
  const auto stays = [this](const auto& connection) { return connection->kept() && !core_->parts.writable; };
  for (const auto& connection : all)
    if (!stays(connection)) connection->abort();
  for (const auto& connection : all) {
    if (stays(connection)) {
      connection->leave(until);
    } else {
      connection->wait(until);
    }
  }
}

PartialViews::PartialViews(const std::vector<agent::Origin*>& origins, agent::Fetcher& fetcher, const Clock& clock,
                           Options options)
    : fetcher_(fetcher), clock_(clock), options_(std::move(options)) {
  for (auto* origin : origins) origins_[origin->name()] = origin;
  if (options_.holder.empty()) return;
  HolderClient::Options holder;
  holder.socket = options_.holder;
  holder.deadline = options_.takeover_deadline;
  holder.warn = options_.warn;
  holder.inform = options_.inform;
  // The thread that keeps the deadlines of parked reads must get on: else they may wait for ever.
  holder.alive = [this, answered = std::make_shared<std::atomic<bool>>(true)] {
    if (!answered->exchange(false)) return false;
    timers_.post([answered] { *answered = true; });
    options_.alive();
    return true;
  };
  holder_ = std::make_shared<HolderClient>(std::move(holder));
}

void PartialViews::close() {
  std::map<Key, std::shared_ptr<PartialView>> all;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    all.swap(views_);
  }
  for (const auto& [key, view] : all) view->leave();
  if (holder_) holder_->stop();
}

unsigned PartialViews::take_over(const Find& find) {
  if (!holder_) return 0;
  unsigned count = 0;
  for (auto& kept : holder_->kept()) {
    const std::string name = kept.about.substr(0, kept.about.find('\n'));
    const auto id = kept.id;
    auto spare = copy(kept);
    const auto taken = take_over(std::move(kept), find);
    if (taken) {
      ++count;
      continue;
    }
    options_.warn(name +
                  ": what an earlier agent served cannot be gone on with, its reads fail: " + taken.error().message);
    if (spare) abort_connection(spare->control.get());
    holder_->drop(id);
  }
  return count;
}

Status PartialViews::take_over(Kept kept, const Find& find) {
  ATLAS_ASSIGN(const auto was, unpack(kept.about));
  if (was.writable) return fail(Code::unimplemented, "what a job writes to ends with the agent that served it");
  ATLAS_ASSIGN(const auto replica, find(was));
  const Key key{was.job.job_id, was.dataset};
  std::shared_ptr<PartialView> view;
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = views_.find(key); it != views_.end()) view = it->second;
  }
  if (!view) {
    ATLAS_ASSIGN(view, make(replica, was.job, was.as, Modes{was.noexec}));
    const std::lock_guard lock(mutex_);
    views_[key] = view;
  }
  return view->take_over(std::move(kept));
}

Result<std::unique_ptr<PartialView>> PartialViews::make(const std::shared_ptr<agent::Replica>& replica,
                                                        const JobKey& job, const Principal& as, Modes modes) {
  const auto origin = origins_.find(replica->dataset().origin);
  if (origin == origins_.end())
    return fail(Code::not_found, "origin '" + replica->dataset().origin + "' is not configured on this node");
  PartialViewParts parts;
  parts.replica = replica;
  parts.fetcher = &fetcher_;
  parts.origin = origin->second;
  parts.timers = &timers_;
  parts.clock = &clock_;
  parts.as = agent::normalize(as);
  parts.payer = job;
  parts.noexec = modes.noexec;
  parts.writable = modes.writable;
  parts.deadline = options_.deadline;
  parts.holder = holder_;
  parts.slots = options_.slots;
  parts.passthrough = options_.passthrough;
  parts.warn = options_.warn;
  if (!modes.writable) parts.share = options_.share(job, parts.as, *replica);
  return PartialView::open(std::move(parts));
}

Result<UniqueFd> PartialViews::mount(const std::shared_ptr<agent::Replica>& replica, const JobKey& job,
                                     const Principal& as, Modes modes) {
  const Key key{job.job_id, replica->dataset()};
  std::shared_ptr<PartialView> view, old;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(Code::unavailable, "the cache agent is stopping");
    if (const auto it = views_.find(key); it != views_.end()) view = it->second;
    // Of an earlier attempt of the job.
    if (view && (view->parts().payer != job || view->parts().replica != replica)) {
      old = std::move(view);
      views_.erase(key);
    }
  }
  if (old) old->close();
  if (!view) {
    ATLAS_ASSIGN(auto made, make(replica, job, as, modes));
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(Code::unavailable, "the cache agent is stopping");
    auto& slot = views_[key];
    if (!slot) slot = std::move(made);
    view = slot;
  }
  return view->mount();
}

PartialViews::Counters PartialViews::release(std::uint32_t job_id) {
  std::vector<std::pair<DatasetId, std::shared_ptr<PartialView>>> gone;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = views_.lower_bound(Key{job_id, {}}); it != views_.end() && it->first.first == job_id;) {
      gone.emplace_back(it->first.second, std::move(it->second));
      it = views_.erase(it);
    }
  }
  Counters counters;
  for (const auto& [dataset, view] : gone) {
    view->close();
    counters[dataset] = view->counters();
  }
  return counters;
}

PartialViews::Reads PartialViews::take_reads() {
  std::vector<std::pair<DatasetId, std::shared_ptr<PartialView>>> all;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, view] : views_) all.emplace_back(key.second, view);
  }
  Reads out;
  for (const auto& [dataset, view] : all) {
    const auto reads = view->take_reads();
    if (reads.asked.count == 0) continue;
    auto& sum = out[{dataset, view->parts().as.uid}];
    sum.asked += reads.asked;
    sum.hit += reads.hit;
  }
  return out;
}

}  // namespace atlas::view
