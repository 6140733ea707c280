#include "cache-agent/limit/limit_governor.h"

#include <algorithm>
#include <cmath>

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;
using Seconds = std::chrono::duration<double>;

/// What one of whom the controller does not know yet may have of an equal part.
constexpr double kFloor = 0.1;
/// Without anything to read for so long a flow ends; another begins when it reads again.
constexpr auto kIdle = 3s;
/// How much such a one wants cannot be seen from what little it gets.
constexpr auto kNew = 2500ms;
constexpr auto kForgotten = 60s;
/// A shorter time says nothing about a rate.
constexpr auto kLeastPeriod = 200ms;
/// Use goes up and down; a tenth more than the last second's is wanted at any rate.
constexpr double kMargin = 1.1;
/// Who had to wait all the time wants more than he got, nobody knows how much: so many times.
constexpr double kHungry = 3;
/// Tokens are there when they are there: looking more often costs more than it brings.
constexpr auto kLeastSleep = 500us;
constexpr double kLeastRate = 1e-3;  ///< a bucket's, for which a division by it is one
constexpr double kForgetting = 0.7;  ///< seconds in which two thirds of a want that was are forgotten

constexpr IoRate least(const IoRate& a, const IoRate& b) {
  return {std::min(a.bytes, b.bytes), std::min(a.operations, b.operations)};
}

}  // namespace

LimitGovernor::LimitGovernor(std::string node, const Clock& clock, Executor& timers)
    : node_(std::move(node)), clock_(clock), timers_(timers) {}

LimitGovernor::Class LimitGovernor::class_of(Urgency urgency) {
  return urgency == Urgency::fault || urgency == Urgency::read_ahead ? foreground : warm;
}

LimitGovernor::Account& LimitGovernor::account_of(const Charge& charge) {
  const KeyView key{charge.origin, charge.uid, charge.gid, charge.job_id};
  if (const auto it = accounts_.find(key); it != accounts_.end()) return *it->second;
  const auto now = clock_.now();
  auto& account =
      *accounts_.emplace(Key{std::string(key.origin), key.uid, key.gid, key.job_id}, std::make_unique<Account>())
           .first->second;
  account.flow = {std::string(key.origin), key.uid, key.gid, key.job_id, {}};
  account.began = account.last_used = account.counted = now;
  account.bytes = account.operations = TokenBucket(kNoRate, 0s, now);
  account.pool = &pools_.try_emplace(account.flow.origin).first->second;
  match(account);
  for (const auto* budget : account.budgets) ++sharers_[budget];
  set_rate(account, now);
  return account;
}

/// Which limits are this account's.
void LimitGovernor::match(Account& account) const {
  account.flow.account.clear();
  account.cap = kUnlimited;
  if (const auto job = jobs_.find(account.flow.job_id); account.flow.job_id != 0 && job != jobs_.end()) {
    account.flow.account = job->second.account;
    account.cap = job->second.cap;
  }
  if (const auto user = users_.find(account.flow.uid); account.flow.job_id == 0 && user != users_.end())
    account.flow.account = user->second;
  account.budgets.clear();
  for (const auto& budget : budgets_)
    if (budget.rate != kUnlimited && applies(budget, node_, account.flow)) account.budgets.push_back(&budget);
  account.may_borrow = account.cap == kUnlimited &&
                       std::all_of(account.budgets.begin(), account.budgets.end(), [](const IoBudget* budget) {
                         return budget->kind == LimitKind::origin || budget->kind == LimitKind::node;
                       });
}

/// What an account would have if all nodes, and all on this one, got the same of each limit.
IoRate LimitGovernor::equal_part(const Account& account) const {
  IoRate out = kUnlimited;
  const auto bound = [&](const IoRate& rate, double parts) {
    if (!is_unlimited(rate.bytes)) out.bytes = std::min(out.bytes, rate.bytes / parts);
    if (!is_unlimited(rate.operations)) out.operations = std::min(out.operations, rate.operations / parts);
  };
  for (const auto* budget : account.budgets) {
    const auto sharers = sharers_.find(budget);
    const double here = sharers == sharers_.end() ? 1 : std::max(1U, sharers->second);
    bound(budget->rate, here * (budget->kind == LimitKind::node ? 1 : nodes_));
  }
  bound(account.cap, nodes_);
  return out;
}

void LimitGovernor::set_rate(Account& account, SteadyTime now) {
  IoRate rate = kUnlimited, most = kUnlimited;
  std::optional<std::chrono::milliseconds> burst;
  account.rate_until = SteadyTime::max();
  if (!open_ && account.limited()) {
    const IoRate equal = equal_part(account);
    const auto floor = [](double part) { return is_unlimited(part) ? part : part * kFloor; };
    if (account.share_until > now) {
      rate = account.share;
      account.rate_until = account.share_until;
    } else if (connected_ && account.share_until == SteadyTime{}) {  // of now that is known, it answers soon
      rate = {floor(equal.bytes), floor(equal.operations)};
    } else {
      rate = equal;
    }
    for (const auto* budget : account.budgets) {
      most = least(most, budget->rate);
      if (budget->burst > 0ms) burst = std::min(burst.value_or(budget->burst), budget->burst);
    }
    most = least(most, account.cap);
    rate = least(rate, most);  // lowered a moment ago, it may be: shares come later
  }
  const Seconds at_once(burst.value_or(kDefaultBurst));
  // A burst that somebody wants stays saved up while the share is another's: it came out of a share that was this
  // account's. What comes at once anyway goes down with the share, or shares that swing would add up.
  const double kept = at_once > kDefaultBurst ? at_once.count() : 0;
  account.bytes.set(std::max(rate.bytes, kLeastRate), at_once, now, most.bytes * kept);
  account.operations.set(std::max(rate.operations, kLeastRate), at_once, now, most.operations * kept);
}

void LimitGovernor::set_all_rates(SteadyTime now) {
  sharers_.clear();
  for (const auto& [key, account] : accounts_)
    if (account->waits() || account->last_used + kIdle > now)
      for (const auto* budget : account->budgets) ++sharers_[budget];
  for (const auto& [key, account] : accounts_) set_rate(*account, now);
  for (auto& [origin, pool] : pools_) fill_pool(pool, now);
}

void LimitGovernor::fill_pool(Pool& pool, SteadyTime now) {
  IoRate sum, owed;
  for (const auto& [key, account] : accounts_) {
    if (account->pool != &pool || account->rate_until <= now || account->rate_until == SteadyTime::max()) continue;
    sum.bytes += account->bytes.rate();
    sum.operations += account->operations.rate();
    owed.bytes += std::max(0.0, -account->bytes.level());
    owed.operations += std::max(0.0, -account->operations.level());
  }
  const bool lent = std::exchange(pool.lends, sum.bytes > 0 && sum.operations > 0);
  pool.bytes.set(std::max(sum.bytes, kLeastRate), kDefaultBurst, now);
  pool.operations.set(std::max(sum.operations, kLeastRate), kDefaultBurst, now);
  if (lent) return;
  pool.bytes.take(owed.bytes);
  pool.operations.take(owed.operations);
}

/// A share that has run out is none.
void LimitGovernor::refresh(Account& account, SteadyTime now) {
  if (account.rate_until <= now) set_all_rates(now);
}

void LimitGovernor::touch(Account& account, SteadyTime now) {
  account.last_used = now;
  if (account.began != SteadyTime::max()) return;
  account.began = account.counted = now;
  account.used = {};
}

bool LimitGovernor::ready(Account& account, SteadyTime now) {
  refresh(account, now);
  return account.bytes.ready(now) && account.operations.ready(now);
}

/// Only what it lacks is borrowed, but all of it is the pool's.
bool LimitGovernor::can_borrow(Account& account, SteadyTime now) {
  auto& pool = *account.pool;
  return account.may_borrow && pool.lends && pool.bytes.ready(now) && pool.operations.ready(now) &&
         (pool.bytes.level() > 0 || is_unlimited(pool.bytes.rate())) &&
         (pool.operations.level() > 0 || is_unlimited(pool.operations.rate()));
}

Grant LimitGovernor::take(Account& account, Urgency urgency, Bytes bytes, std::uint32_t operations, SteadyTime now,
                          From from) {
  const auto size = static_cast<double>(bytes.count);
  account.pool->bytes.take(size);
  account.pool->operations.take(operations);
  if (from == From::own) {
    account.bytes.take(size);
    account.operations.take(operations);
  }
  auto& used = account.used[class_of(urgency)];
  used.bytes += static_cast<double>(bytes.count);
  used.operations += operations;
  touch(account, now);
  ++account.in_flight;
  return {&account, urgency, bytes, operations, from != From::own};
}

std::optional<Grant> LimitGovernor::try_admit(const Charge& charge) {
  const auto now = clock_.now();
  const std::lock_guard lock(mutex_);
  auto& account = account_of(charge);
  if (account.waits() || !ready(account, now)) return std::nullopt;
  return take(account, charge.urgency, charge.bytes, charge.operations, now);
}

Ticket LimitGovernor::admit(const Charge& charge, std::function<void(Grant)> go) {
  auto parked = std::make_shared<Parked>();
  parked->grant = {nullptr, charge.urgency, charge.bytes, charge.operations, false};
  bool tell = false;
  {
    const auto now = clock_.now();
    std::unique_lock lock(mutex_);
    auto& account = account_of(charge);
    if (!account.waits() && ready(account, now)) {
      const Grant grant = take(account, charge.urgency, charge.bytes, charge.operations, now);
      lock.unlock();
      go(grant);
      return {};
    }
    parked->go = std::move(go);
    const auto which = class_of(charge.urgency);
    if (!account.waits()) {
      waiting_.push_back(&account);
      account.waits_since = now;
    }
    account.wait[which].begin(now);
    account.backlog[which].bytes += static_cast<double>(charge.bytes.count);
    account.backlog[which].operations += charge.operations;
    account.queues[which].push_back(parked);
    touch(account, now);
    throttled_[account.flow.job_id].bytes += charge.bytes;
    tell = connected_ && account.share_until <= now && !std::exchange(account.asked, true);
    arm(now);
  }
  if (tell) newcomer_();
  // Dropped, it leaves an empty place in the queue.
  return Ticket(std::shared_ptr<void>(nullptr, [this, weak = std::weak_ptr(parked)](void*) {
    std::function<void(Grant)> unwanted;
    const auto place = weak.lock();
    if (!place) return;
    const std::lock_guard lock(mutex_);
    unwanted = std::exchange(place->go, nullptr);
  }));
}

void LimitGovernor::charge(const Charge& charge) {
  const auto now = clock_.now();
  const std::lock_guard lock(mutex_);
  auto& account = account_of(charge);
  static_cast<void>(take(account, charge.urgency, charge.bytes, charge.operations, now));
  --account.in_flight;
}

Bytes LimitGovernor::at_a_time(const Charge& payer, Bytes least, Bytes most) {
  const auto now = clock_.now();
  const std::lock_guard lock(mutex_);
  auto& account = account_of(payer);
  refresh(account, now);
  const double rate = account.bytes.rate();
  return rate >= static_cast<double>(most.count) ? most : std::max(least, Bytes{static_cast<std::uint64_t>(rate)});
}

void LimitGovernor::settle(const Grant& grant, Bytes moved, std::uint32_t operations) {
  const auto now = clock_.now();
  const std::lock_guard lock(mutex_);
  auto& account = *static_cast<Account*>(grant.account);
  --account.in_flight;
  account.last_used = now;
  const double bytes = static_cast<double>(grant.bytes.count) - static_cast<double>(moved.count);
  const double count = static_cast<double>(grant.operations) - static_cast<double>(operations);
  account.pool->bytes.give_back(bytes);
  account.pool->operations.give_back(count);
  if (!grant.borrowed) {
    account.bytes.give_back(bytes);
    account.operations.give_back(count);
  }
  auto& used = account.used[class_of(grant.urgency)];
  used.bytes = std::max(0.0, used.bytes - bytes);
  used.operations = std::max(0.0, used.operations - count);
  if (account.waits() && (bytes > 0 || count > 0)) arm(now);
}

/// The first of a queue leaves it, and begins if it is still wanted.
void LimitGovernor::start_front(Account& account, Class which, SteadyTime now, From from, Run& run) {
  auto& queue = account.queues[which];
  auto& parked = *queue.front();
  auto& backlog = account.backlog[which];
  backlog.bytes = std::max(0.0, backlog.bytes - static_cast<double>(parked.grant.bytes.count));
  backlog.operations = std::max(0.0, backlog.operations - parked.grant.operations);
  if (parked.go)
    run.emplace_back(std::exchange(parked.go, nullptr),
                     take(account, parked.grant.urgency, parked.grant.bytes, parked.grant.operations, now, from));
  queue.pop_front();
  if (queue.empty()) account.wait[which].end(now);
  // A job that is over has been counted, and is not counted anew.
  if (const auto at = throttled_.find(account.flow.job_id); !account.waits() && at != throttled_.end())
    at->second.time += std::chrono::duration_cast<std::chrono::milliseconds>(now - account.waits_since);
}

/// Moves what an account may begin now to `run`.
void LimitGovernor::release_ready(Account& account, SteadyTime now, Run& run) {
  for (const auto which : {foreground, warm})
    while (!account.queues[which].empty() && (!account.queues[which].front()->go || ready(account, now)))
      start_front(account, which, now, From::own, run);
}

/// Everybody's own first; then in turn what others have left.
void LimitGovernor::release_all(SteadyTime now, Run& run) {
  for (auto* account : waiting_) release_ready(*account, now, run);
  for (bool some = true; some;) {
    some = false;
    for (auto* account : waiting_) {
      if (!account->waits() || !can_borrow(*account, now)) continue;
      start_front(*account, account->queues[foreground].empty() ? warm : foreground, now, From::pool, run);
      some = true;
    }
  }
  std::erase_if(waiting_, [](const Account* account) { return !account->waits(); });
  if (!waiting_.empty()) std::rotate(waiting_.begin(), waiting_.begin() + 1, waiting_.end());
}

/// Sees to it that serve() runs when the first of those who wait may go on.
void LimitGovernor::arm(SteadyTime now) {
  auto next = SteadyTime::max();
  for (const auto* account : waiting_) {
    next = std::min({next, std::max(account->bytes.ready_at(), account->operations.ready_at()), account->rate_until});
    const auto& pool = *account->pool;
    if (account->may_borrow && pool.lends)
      next = std::min(next, std::max(pool.bytes.ready_at(), pool.operations.ready_at()));
  }
  if (next == SteadyTime::max() || next >= timer_at_) return;
  timer_at_ = std::max(next, now + kLeastSleep);
  timer_ = timers_.post_at(timer_at_, [this] { serve(); });
}

void LimitGovernor::serve() {
  Run run;
  {
    const auto now = clock_.now();
    const std::lock_guard lock(mutex_);
    timer_at_ = SteadyTime::max();
    release_all(now, run);
    arm(now);
  }
  for (const auto& [go, grant] : run) go(grant);
}

void LimitGovernor::changed(std::unique_lock<std::mutex> lock) {
  Run run;
  const auto now = clock_.now();
  set_all_rates(now);
  release_all(now, run);
  timer_at_ = SteadyTime::max();  // what was armed may be too late now
  arm(now);
  lock.unlock();
  if (run.empty()) return;
  timers_.post([run = std::move(run)] {
    for (const auto& [go, grant] : run) go(grant);
  });
}

void LimitGovernor::set_budgets(std::vector<IoBudget> budgets, std::uint32_t nodes) {
  std::unique_lock lock(mutex_);
  nodes_ = std::max(1U, nodes);
  if (budgets_ != budgets) {
    budgets_ = std::move(budgets);
    for (const auto& [key, account] : accounts_) match(*account);
  }
  changed(std::move(lock));
}

void LimitGovernor::set_shares(const std::vector<IoShare>& shares) {
  std::unique_lock lock(mutex_);
  const auto until = clock_.now() + kShareHolds;
  for (const auto& share : shares) {
    const auto& flow = share.flow;
    const auto it = accounts_.find(KeyView{flow.origin, flow.uid, flow.gid, flow.job_id});
    if (it == accounts_.end()) continue;
    it->second->share = share.rate;
    it->second->share_until = until;
    it->second->asked = false;
  }
  changed(std::move(lock));
}

void LimitGovernor::set_connected(bool connected) {
  std::unique_lock lock(mutex_);
  if (connected_ == connected) return;
  connected_ = connected;
  changed(std::move(lock));
}

void LimitGovernor::set_job(std::uint32_t job_id, const std::string& account, const IoRate& cap) {
  std::unique_lock lock(mutex_);
  auto& job = jobs_[job_id];
  if (job.account == account && job.cap == cap) return;
  job = {account, cap};
  for (const auto& [key, held] : accounts_)
    if (held->flow.job_id == job_id) match(*held);
  changed(std::move(lock));
}

void LimitGovernor::set_user(std::uint32_t uid, const std::string& account) {
  std::unique_lock lock(mutex_);
  auto& held = users_[uid];
  if (held == account) return;
  held = account;
  for (const auto& [key, one] : accounts_)
    if (key.uid == uid && key.job_id == 0) match(*one);
  changed(std::move(lock));
}

void LimitGovernor::forget_job(std::uint32_t job_id) {
  const std::lock_guard lock(mutex_);
  jobs_.erase(job_id);
  throttled_.erase(job_id);
}

void LimitGovernor::open() {
  std::unique_lock lock(mutex_);
  open_ = true;
  Run run;
  const auto now = clock_.now();
  set_all_rates(now);
  release_all(now, run);
  timer_.cancel();
  lock.unlock();
  for (const auto& [go, grant] : run) go(grant);
}

LimitGovernor::Throttled LimitGovernor::throttled(std::uint32_t job_id) const {
  const std::lock_guard lock(mutex_);
  Throttled out;
  if (const auto it = throttled_.find(job_id); it != throttled_.end()) out = it->second;
  const auto now = clock_.now();
  for (const auto* account : waiting_)
    if (account->flow.job_id == job_id)
      out.time += std::chrono::duration_cast<std::chrono::milliseconds>(now - account->waits_since);
  return out;
}

std::size_t LimitGovernor::remembered() const {
  const std::lock_guard lock(mutex_);
  return accounts_.size() + jobs_.size() + throttled_.size();
}

bool LimitGovernor::parks(std::uint32_t uid, std::uint32_t job_id) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(waiting_.begin(), waiting_.end(), [&](const Account* account) {
    return account->flow.uid == uid && account->flow.job_id == job_id && !account->queues[foreground].empty();
  });
}

/// What it wants: a little more than it used, and the more the longer it had to wait.
IoDemand LimitGovernor::demand_of(Account& account, SteadyTime now) {
  IoDemand out;
  out.flow = account.flow;
  out.cap = account.cap;
  out.waiting = static_cast<std::uint32_t>(account.queues[foreground].size() + account.queues[warm].size());
  const double period = Seconds(now - account.counted).count();
  const bool counts = now - account.counted >= kLeastPeriod;
  const bool fresh = now - account.began < kNew;
  if (counts) account.rate = {};
  for (const auto which : {foreground, warm}) {
    auto& wanted = account.wanted[which];
    auto& used = account.used[which];
    double hunger = account.waits() ? 1 : 0;
    if (counts) {
      hunger = std::min(1.0, account.wait[which].take(now) / period);
      const double kept = std::exp(-period / kForgetting);
      const auto want = [&](double units, double backlog, double before) {
        return std::max(units / period * (kMargin + kHungry * hunger) + backlog, before * kept);
      };
      wanted = {want(used.bytes, account.backlog[which].bytes, wanted.bytes),
                want(used.operations, account.backlog[which].operations, wanted.operations)};
      account.rate.bytes += used.bytes / period;
      account.rate.operations += used.operations / period;
      used = {};
    }
    const bool unknown = fresh && (hunger > 0.05 || !account.queues[which].empty());
    (which == foreground ? out.foreground : out.warm) = unknown ? kUnlimited : wanted;
  }
  if (counts) account.counted = now;
  out.used = account.rate;
  return out;
}

std::vector<IoDemand> LimitGovernor::demands() {
  std::unique_lock lock(mutex_);
  const auto now = clock_.now();
  std::vector<IoDemand> out;
  for (auto it = accounts_.begin(); it != accounts_.end();) {
    auto& account = *it->second;
    const bool active = account.waits() || account.last_used + kIdle > now;
    if (active) {
      if (account.limited()) out.push_back(demand_of(account, now));
      ++it;
      continue;
    }
    account.share_until = {};
    account.asked = false;
    account.wanted = {};
    account.began = SteadyTime::max();  // of the next activity
    // What a job has saved up is its own until it ends.
    const bool idle =
        account.in_flight == 0 && account.last_used + kForgotten < now && !jobs_.contains(account.flow.job_id);
    if (idle) throttled_.erase(account.flow.job_id);  // which nobody will ask about
    it = idle ? accounts_.erase(it) : std::next(it);
  }
  changed(std::move(lock));
  return out;
}

}  // namespace atlas::agent
