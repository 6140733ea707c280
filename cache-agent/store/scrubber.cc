#include "cache-agent/store/scrubber.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "cache-agent/store/replica_state.h"
#include "common/unique_fd.h"

namespace atlas::agent {
namespace {

constexpr const char* kStamp = "scrubbed";
constexpr std::chrono::seconds kLookAgain{60};
/// ionice -c 3: only when nobody else wants the disk (schedulers that have priorities).
constexpr int kIdleClass = 3 << 13, kThisThread = 1;

/// When the replica was last known to be whole: at its last scrub, else when it was made.
WallTime checked_at(const Replica& replica) {
  struct stat st {};
  const int directory = replica.internals().tree.directory();
  if (fstatat(directory, kStamp, &st, 0) != 0 && fstatat(directory, "residency", &st, 0) != 0) return {};
  return WallTime(std::chrono::seconds(st.st_mtim.tv_sec));
}

void stamp(const Replica& replica) {
  const UniqueFd fd(
      openat(replica.internals().tree.directory(), kStamp, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd) futimens(fd.get(), nullptr);  // a stamp that is not made costs a scrub
}

}  // namespace

Scrubber::Scrubber(Store& store, const Clock& clock, ScrubOptions options,
                   std::function<void(const std::string&)> found)
    : store_(store), clock_(clock), options_(options), found_(std::move(found)) {
  if (options_.period.count() > 0) thread_ = std::thread([this] { run(); });
}

Scrubber::~Scrubber() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Scrubber::pause(std::chrono::nanoseconds time) {
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, time, [&] { return stop_; });
}

std::shared_ptr<Replica> Scrubber::next() const {
  std::shared_ptr<Replica> oldest;
  WallTime when = clock_.wall() - options_.period;
  for (const auto& info : store_.inventory()) {
    if (info.state != ReplicaState::complete) continue;
    auto replica = store_.find(info.dataset, info.generation.id);
    if (!replica) continue;
    if (const WallTime checked = checked_at(*replica); checked <= when) {
      when = checked;
      oldest = std::move(replica);
    }
  }
  return oldest;
}

void Scrubber::run() {
  syscall(SYS_ioprio_set, kThisThread, 0, kIdleClass);
  for (;;) {
    const auto replica = next();
    if (replica) scrub(replica);
    const auto idle = std::min<std::chrono::nanoseconds>(kLookAgain, options_.period);
    if (!pause(replica ? std::chrono::nanoseconds{0} : idle)) return;
  }
}

void Scrubber::scrub(const std::shared_ptr<Replica>& replica) {
  const SteadyTime began = clock_.now();
  auto& looked_at = replica->internals().looked_at;
  ++looked_at;
  const std::shared_ptr<void> look(nullptr, [&looked_at](void*) { --looked_at; });
  const auto verified = store_.verify(replica, [&](Bytes checked) {
    if (replica->internals().leaving) return false;
    std::chrono::nanoseconds ahead{0};
    if (options_.rate.count > 0) {
      const std::chrono::duration<double> due(static_cast<double>(checked.count) /
                                              static_cast<double>(options_.rate.count));
      ahead = std::chrono::duration_cast<std::chrono::nanoseconds>(due) - (clock_.now() - began);
    }
    return pause(std::max(ahead, std::chrono::nanoseconds{0}));
  });
  if (replica->internals().leaving || (!verified && verified.error().code == Code::cancelled)) return;
  stamp(*replica);
  if (!verified) {
    found_(show(replica->dataset()) + " could not be checked: " + verified.error().message);
  } else if (verified->bad != 0) {
    found_(show(replica->dataset()) + ": " + std::to_string(verified->bad) + " of " +
           std::to_string(verified->checked) + " blocks on tier " + replica->tier() +
           " did not match their checksums; they will be fetched again. Is that disk well?");
  }
}

}  // namespace atlas::agent
