#include "cache-agent/origin/reader_pool.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

namespace atlas::agent {
namespace {

struct Identity {
  bool set = false;
  Principal as;
};

Identity& thread_identity() {
  thread_local Identity identity;
  return identity;
}

bool urgent(std::size_t queue) {
  return queue <= static_cast<std::size_t>(Urgency::read_ahead);
}

}  // namespace

Status drop_reader_capabilities() {
  if (geteuid() != 0) return {};
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  const std::uint32_t keep = (1U << CAP_SETUID) | (1U << CAP_SETGID);
  data[0].permitted = data[0].effective = keep;
  if (syscall(SYS_capset, &header, data) != 0) return fail_errno(errno, "cannot give up capabilities");
  return {};
}

Status become(const Principal& as) {
  if (geteuid() != 0) return {};
  Identity& identity = thread_identity();
  if (identity.set && identity.as == as) return {};
  identity.set = false;
  if (syscall(SYS_setgroups, as.groups.size(), as.groups.data()) != 0)
    return fail_errno(errno, "cannot take the groups of " + show(as));
  // Both return the previous value; asking with an impossible one tells whether the change was made.
  syscall(SYS_setfsgid, as.gid);
  syscall(SYS_setfsuid, as.uid);
  if (static_cast<gid_t>(syscall(SYS_setfsgid, -1)) != as.gid ||
      static_cast<uid_t>(syscall(SYS_setfsuid, -1)) != as.uid)
    return fail(Code::permission_denied,
                "the agent may not act as " + show(as) + ": it needs CAP_SETUID and CAP_SETGID");
  identity.as = as;
  identity.set = true;
  return {};
}

const Principal* current_principal() {
  const Identity& identity = thread_identity();
  return identity.set ? &identity.as : nullptr;
}

Principal with_groups(const Principal& principal) {
  if (!principal.groups.empty()) return normalize(principal);
  struct Known {
    std::vector<std::uint32_t> groups;
    std::chrono::steady_clock::time_point until;
  };
  static std::mutex mutex;  // guards known
  static std::map<std::pair<uid_t, gid_t>, Known> known;
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex);
    const auto it = known.find({principal.uid, principal.gid});
    if (it != known.end() && it->second.until > now) return {principal.uid, principal.gid, it->second.groups};
  }
  Principal full = principal;
  std::array<char, 16384> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(principal.uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    int count = 64;
    full.groups.resize(static_cast<std::size_t>(count));
    if (getgrouplist(entry.pw_name, principal.gid, full.groups.data(), &count) < 0) {
      full.groups.resize(static_cast<std::size_t>(count));
      if (getgrouplist(entry.pw_name, principal.gid, full.groups.data(), &count) < 0) count = 0;
    }
    full.groups.resize(static_cast<std::size_t>(count));
  }
  full = normalize(std::move(full));
  const std::lock_guard lock(mutex);
  known[{principal.uid, principal.gid}] = {full.groups, now + std::chrono::seconds(60)};
  return full;
}

ReaderPool::ReaderPool(unsigned most) : most_(most), shared_(std::make_shared<Shared>()) {
  shared_->most_bulk = most;
  shared_->most_each = most + kSpareOfOne;
}

ReaderPool::~ReaderPool() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->wake.notify_all();
  for (auto& thread : threads_)
    if (thread.joinable()) thread.join();
}

std::size_t ReaderPool::busy() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->busy;
}

void ReaderPool::post(const Principal& as, Urgency urgency, Task task) {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->stop) return;
  if (!last_ || *last_ != as) last_ = std::make_shared<const Principal>(as);  // thousands of tasks share one
  shared_->queues[static_cast<std::size_t>(urgency)].push({last_, std::move(task)});
  ++shared_->queued;
  if (shared_->queued > shared_->idle && threads_.size() < most_ + kSpare)
    threads_.emplace_back([s = shared_] { serve(s); });
  shared_->wake.notify_one();
}

void ReaderPool::Queue::push(Job job) {
  auto& tasks = of[job.as->uid];
  if (tasks.empty()) turns.push_back(job.as->uid);
  tasks.push_back(std::move(job));
}

ReaderPool::Job ReaderPool::Queue::pop(std::deque<std::uint32_t>::iterator turn) {
  const auto user = *turn;
  turns.erase(turn);
  const auto tasks = of.find(user);
  Job job = std::move(tasks->second.front());
  tasks->second.pop_front();
  if (tasks->second.empty()) {
    of.erase(tasks);
  } else {
    turns.push_back(user);
  }
  return job;
}

std::optional<std::pair<ReaderPool::Queue*, std::deque<std::uint32_t>::iterator>> ReaderPool::Shared::next() {
  const auto may = [this](std::uint32_t user) {
    const auto now = running.find(user);
    return now == running.end() || now->second < most_each;
  };
  for (std::size_t i = 0; i < queues.size(); ++i) {
    if (!urgent(i) && bulk >= most_bulk) continue;
    auto& turns = queues[i].turns;
    if (const auto turn = std::find_if(turns.begin(), turns.end(), may); turn != turns.end())
      return std::pair(&queues[i], turn);
  }
  return std::nullopt;
}

void ReaderPool::serve(const std::shared_ptr<Shared>& shared) {
  const Status dropped = drop_reader_capabilities();
  std::unique_lock lock(shared->mutex);
  for (;;) {
    ++shared->idle;
    std::optional<std::pair<Queue*, std::deque<std::uint32_t>::iterator>> next;
    shared->wake.wait(lock, [&] { return shared->stop || (next = shared->next()); });
    --shared->idle;
    if (shared->stop) return;
    const bool bulk = !urgent(static_cast<std::size_t>(next->first - shared->queues.data()));
    Job job = next->first->pop(next->second);
    const auto user = job.as->uid;
    ++shared->running[user];
    --shared->queued;
    ++shared->busy;
    shared->bulk += bulk ? 1 : 0;
    // What ended before this one may have let another one begin, too: of a user, or of those that are not urgent.
    if (shared->idle != 0 && shared->next()) shared->wake.notify_one();
    lock.unlock();
    try {
      job.task(dropped ? become(*job.as) : dropped);
    } catch (const std::exception&) {  // the task's own end is told by what it holds; a thread must not end the agent
    }
    job = {};  // what the task held is let go outside the lock
    lock.lock();
    --shared->busy;
    shared->bulk -= bulk ? 1 : 0;
    if (const auto mine = shared->running.find(user); --mine->second == 0) shared->running.erase(mine);
  }
}

}  // namespace atlas::agent
