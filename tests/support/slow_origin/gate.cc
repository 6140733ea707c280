#include "tests/support/slow_origin/gate.h"

#include <fnmatch.h>

#include <algorithm>
#include <cerrno>
#include <thread>

namespace atlas::slow_origin {
namespace {

constexpr std::array<std::string_view, kOpCount> kNames{
    "lookup",  "getattr", "setattr", "readlink", "mknod",    "mkdir",     "unlink",     "rmdir",     "symlink",
    "rename",  "link",    "open",    "create",   "read",     "write",     "fsync",      "fallocate", "lseek",
    "opendir", "readdir", "statfs",  "getxattr", "setxattr", "listxattr", "removexattr"};

}  // namespace

std::string_view op_name(Op op) {
  return kNames[static_cast<std::size_t>(op)];
}

std::optional<Op> op_from_name(std::string_view name) {
  const auto* found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Op>(found - kNames.begin());
}

bool Gate::concerns(const Selection& what, const Visit& visit, std::optional<std::string>& path) {
  if (!what.ops.empty() && !what.ops.contains(visit.op)) return false;
  if (what.pattern.empty()) return true;
  if (!path) path = visit.path();
  return fnmatch(what.pattern.c_str(), path->c_str(), 0) == 0;
}

bool Gate::hangs(const Visit& visit, std::optional<std::string>& path) const {
  return std::any_of(hangs_.begin(), hangs_.end(), [&](const Selection& s) { return concerns(s, visit, path); });
}

int Gate::wait_out_hang(const Visit& visit, std::unique_lock<std::mutex>& lock, std::optional<std::string>& path) {
  if (!hangs(visit, path)) return 0;
  bool interrupted = false;
  if (visit.on_interrupt) {
    lock.unlock();  // the interrupt may already be there, then the wake-up runs inside this call
    visit.on_interrupt([this, &interrupted] {
      const std::lock_guard guard(mutex_);
      interrupted = true;
      resumed_.notify_all();
    });
    lock.lock();
  }
  ++hanging_;
  resumed_.wait(lock, [&] { return interrupted || !hangs(visit, path); });
  --hanging_;
  if (visit.on_interrupt) {
    lock.unlock();
    visit.on_interrupt({});
    lock.lock();
  }
  return interrupted ? EINTR : 0;
}

int Gate::enter(const Visit& visit) {
  std::chrono::microseconds latency{};
  {
    const std::lock_guard guard(mutex_);
    ++total_.ops[static_cast<std::size_t>(visit.op)];
    ++by_uid_[visit.uid].ops[static_cast<std::size_t>(visit.op)];
    max_in_flight_ = std::max(max_in_flight_, ++in_flight_);
    latency = latency_;
  }
  if (latency.count() > 0) std::this_thread::sleep_for(latency);
  std::unique_lock lock(mutex_);
  std::optional<std::string> path;
  if (const int error = wait_out_hang(visit, lock, path); error != 0) return error;
  for (const Failure& failure : failures_) {
    if (!concerns(failure.what, visit, path)) continue;
    ++failed_;
    return failure.error;
  }
  return 0;
}

void Gate::leave() {
  const std::lock_guard guard(mutex_);
  --in_flight_;
}

void Gate::moved(Op op, uid_t uid, std::uint64_t bytes) {
  std::unique_lock lock(mutex_);
  (op == Op::kRead ? total_.read_bytes : total_.write_bytes) += bytes;
  Counters& user = by_uid_[uid];
  (op == Op::kRead ? user.read_bytes : user.write_bytes) += bytes;
  if (bytes_per_second_ == 0 || bytes == 0) return;
  // One pipe for all: each transfer occupies it for bytes / rate after those before it.
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double> occupied(static_cast<double>(bytes) / static_cast<double>(bytes_per_second_));
  pipe_free_at_ = std::max(pipe_free_at_, now) + std::chrono::duration_cast<std::chrono::nanoseconds>(occupied);
  const auto until = pipe_free_at_;
  // Under another rate nobody waits out the old one's time.
  resumed_.wait_until(lock, until, [this, pace = pace_] { return pace != pace_; });
}

void Gate::set_latency(std::chrono::microseconds latency) {
  const std::lock_guard guard(mutex_);
  latency_ = latency;
}

void Gate::set_bandwidth(std::uint64_t bytes_per_second) {
  const std::lock_guard guard(mutex_);
  bytes_per_second_ = bytes_per_second;
  pipe_free_at_ = {};
  ++pace_;
  resumed_.notify_all();
}

void Gate::hang(Selection what) {
  const std::lock_guard guard(mutex_);
  hangs_.push_back(std::move(what));
}

void Gate::fail(Selection what, int error) {
  const std::lock_guard guard(mutex_);
  failures_.push_back({std::move(what), error});
}

void Gate::shorten(Short how) {
  const std::lock_guard guard(mutex_);
  short_ = std::move(how);
}

std::optional<Gate::Short> Gate::shortens(const std::string& path) const {
  const std::lock_guard guard(mutex_);
  if (!short_ || fnmatch(short_->pattern.c_str(), path.c_str(), 0) != 0) return std::nullopt;
  return short_;
}

void Gate::note_short() {
  const std::lock_guard guard(mutex_);
  ++shortened_;
}

void Gate::resume() {
  const std::lock_guard guard(mutex_);
  hangs_.clear();
  resumed_.notify_all();
}

void Gate::heal() {
  const std::lock_guard guard(mutex_);
  failures_.clear();
  short_.reset();
}

void Gate::reset() {
  const std::lock_guard guard(mutex_);
  total_ = {};
  by_uid_.clear();
  max_in_flight_ = in_flight_;
  failed_ = shortened_ = 0;
}

nlohmann::json Gate::to_json(const Counters& counters) {
  nlohmann::json ops = nlohmann::json::object();
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kOpCount; ++i) {
    if (counters.ops[i] != 0) ops[std::string(kNames[i])] = counters.ops[i];
    sum += counters.ops[i];
  }
  return {{"ops", ops}, {"ops_total", sum}, {"read_bytes", counters.read_bytes}, {"write_bytes", counters.write_bytes}};
}

nlohmann::json Gate::stats() const {
  const std::lock_guard guard(mutex_);
  nlohmann::json result = to_json(total_);
  nlohmann::json users = nlohmann::json::object();
  for (const auto& [uid, counters] : by_uid_) users[std::to_string(uid)] = to_json(counters);
  result["by_uid"] = users;
  result["in_flight"] = in_flight_;
  result["max_in_flight"] = max_in_flight_;
  result["hanging"] = hanging_;
  result["failed"] = failed_;
  result["short"] = shortened_;
  result["latency_ms"] = static_cast<double>(latency_.count()) / 1000.0;
  result["bandwidth"] = bytes_per_second_;
  result["is"] = "a stand-in for Lustre for tests, not Lustre";
  return result;
}

}  // namespace atlas::slow_origin
