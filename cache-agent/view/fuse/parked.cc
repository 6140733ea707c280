#include "cache-agent/view/fuse/parked.h"

#include <cerrno>
#include <csignal>
#include <fstream>
#include <vector>

#include "cache-agent/view/fuse/connection.h"

namespace atlas::view {
namespace {

constexpr std::chrono::milliseconds kLookAgain{100};

/// Has the process a fatal signal before it? The kernel turns each of them into a pending SIGKILL.
bool dying(pid_t pid) {
  if (pid == 0) return true;  // of another pid namespace: cannot be looked at
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  if (!status) return true;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("State:") && line.find_first_of("ZX", 6) != std::string::npos) return true;
    if (!line.starts_with("SigPnd:") && !line.starts_with("ShdPnd:")) continue;
    const auto pending = std::strtoull(line.c_str() + 7, nullptr, 16);
    if ((pending >> (SIGKILL - 1) & 1U) != 0) return true;
  }
  return false;
}

/// Forgets the request on this side; the kernel waits on.
void no_answer(fuse_req_t req) {
  fuse_reply_none(req);
}

void on_interrupt(fuse_req_t req, void* id) {
  Connection::of(req).lot().interrupt(reinterpret_cast<std::uintptr_t>(id));
}

}  // namespace

bool Parked::answer(Reply reply) {
  agent::Waiter waiter;  // goes outside the lock
  {
    const std::lock_guard lock(mutex_);
    if (done_) return false;
    done_ = true;
    waiter = std::move(waiter_);
    if (!armed_) {
      outcome_ = std::move(reply);
      return true;
    }
  }
  reply(req_);
  lot_.left(id_);  // the last touch: the lot may go now
  return true;
}

bool Parked::fail(int error) {
  return answer([error](fuse_req_t req) { fuse_reply_err(req, error); });
}

void Parked::arm() {
  Reply early;
  {
    const std::lock_guard lock(mutex_);
    armed_ = true;
    if (!done_) return;
    early = std::move(outcome_);
  }
  early(req_);
  lot_.left(id_);
}

void Parked::hold(unsigned round, agent::Waiter waiter) {
  const std::lock_guard lock(mutex_);
  if (done_ || round < round_) return;
  round_ = round;
  waiter_ = std::move(waiter);
}

bool Parked::answered() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

void ParkingLot::keep_in(std::shared_ptr<RequestSlots> slots) {
  const std::lock_guard lock(mutex_);
  slots_ = std::move(slots);
}

std::shared_ptr<Parked> ParkingLot::park(fuse_req_t req, std::string what) {
  std::shared_ptr<Parked> parked;
  bool closed = false, gone = false;
  {
    const std::lock_guard lock(mutex_);
    const SteadyTime until = clock_.now() + options_.deadline;
    parked.reset(new Parked(*this, next_++, req, fuse_req_ctx(req)->pid, until, std::move(what)));
    if (slots_) parked->slot_ = slots_->park_current();
    waiting_[parked->id_] = parked;
    ++answering_;
    closed = closed_;
    gone = left_;
    wake_at(until);
  }
  // May call on_interrupt() at once; from here on it may be called at any time, but an answer waits for arm().
  fuse_req_interrupt_func(req, on_interrupt, reinterpret_cast<void*>(static_cast<std::uintptr_t>(parked->id_)));
  parked->arm();
  if (gone) {
    parked->answer(no_answer);
  } else if (closed) {
    parked->fail(EIO);
  }
  return parked;
}

void ParkingLot::interrupt(std::uint64_t id) {
  std::shared_ptr<Parked> parked;
  {
    const std::lock_guard lock(mutex_);
    const auto it = waiting_.find(id);
    if (it == waiting_.end()) return;
    parked = it->second;
  }
  if (dying(parked->pid_)) {
    parked->fail(EINTR);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (!waiting_.contains(id)) return;
  signalled_.insert(id);
  wake_at(clock_.now() + kLookAgain);
}

/// mutex_ is held.
void ParkingLot::wake_at(SteadyTime when) {
  if (when >= wake_ || closed_) return;
  wake_ = when;
  timer_ = timers_.post_at(when, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->sweep();
  });
}

void ParkingLot::sweep() {
  std::vector<std::shared_ptr<Parked>> late, signalled;
  {
    const std::lock_guard lock(mutex_);
    const SteadyTime now = clock_.now();
    for (const auto& [id, parked] : waiting_) {
      if (parked->until_ > now) break;
      late.push_back(parked);
    }
    for (const auto id : signalled_)
      if (const auto it = waiting_.find(id); it != waiting_.end()) signalled.push_back(it->second);
  }
  if (!late.empty() && options_.excused()) {
    late.clear();
    const std::lock_guard lock(mutex_);
    const SteadyTime until = clock_.now() + options_.deadline;  // later than that of all who wait: their order holds
    for (const auto& [id, parked] : waiting_) parked->until_ = until;
  }
  for (const auto& parked : late)
    if (parked->fail(EIO)) options_.expired(parked->what_);
  for (const auto& parked : signalled)
    if (dying(parked->pid_)) parked->fail(EINTR);
  const std::lock_guard lock(mutex_);
  wake_ = SteadyTime::max();
  if (!signalled_.empty()) wake_at(clock_.now() + kLookAgain);
  // One that is being answered right now must not keep the timer busy.
  if (!waiting_.empty()) wake_at(std::max(waiting_.begin()->second->until_, clock_.now() + kLookAgain));
}

void ParkingLot::left(std::uint64_t id) {
  std::shared_ptr<Parked> last;  // it may be the object that called; it goes outside the lock
  const std::lock_guard lock(mutex_);
  const auto it = waiting_.find(id);
  if (it != waiting_.end()) {
    last = std::move(it->second);
    waiting_.erase(it);
    if (slots_ && !left_) slots_->free(last->slot_);
  }
  signalled_.erase(id);
  if (--answering_ == 0) idle_.notify_all();
}

void ParkingLot::close() {
  end(true);
}

void ParkingLot::leave() {
  end(false);
}

void ParkingLot::end(bool answer) {
  std::vector<std::shared_ptr<Parked>> all;
  {
    const std::lock_guard lock(mutex_);
    left_ = left_ || (!closed_ && !answer);
    closed_ = true;
    timer_.cancel();
    for (const auto& [id, parked] : waiting_) all.push_back(parked);
  }
  for (const auto& parked : all) {
    if (answer) {
      parked->fail(EIO);
    } else {
      parked->answer(no_answer);
    }
  }
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [&] { return answering_ == 0; });
}

void ParkingLot::suspect_all() {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, parked] : waiting_) signalled_.insert(id);
  if (!waiting_.empty()) wake_at(clock_.now() + kLookAgain);
}

std::size_t ParkingLot::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

}  // namespace atlas::view
