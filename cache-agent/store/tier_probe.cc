#include "cache-agent/store/tier_probe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

#include "common/unique_fd.h"

namespace atlas::agent {
namespace {

using Block = std::array<std::uint64_t, 512>;

/// False when the disk has failed. A full one has not.
bool works(const std::string& file, std::uint64_t number) {
  const UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return errno == ENOSPC || errno == EDQUOT || errno == EMFILE || errno == ENFILE;
  Block written, read{};
  written.fill(number);
  if (::pwrite(fd.get(), written.data(), sizeof written, 0) != sizeof written || ::fdatasync(fd.get()) != 0)
    return errno == ENOSPC || errno == EDQUOT;
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);  // what is clean now comes from the disk
  return ::pread(fd.get(), read.data(), sizeof read, 0) == sizeof read && read == written;
}

}  // namespace

struct TierProbe::State {
  std::string file;
  Options options;
  std::function<bool()> settle;
  std::thread thread;
  std::mutex mutex;  ///< guards what follows
  std::condition_variable wake;
  bool stop = false, done = false, settling = false;
  std::optional<SteadyTime> asked;  ///< a probe is under way since then
  unsigned wanted = 0;              ///< good ones before it is trusted again
};

TierProbe::TierProbe(const std::string& directory, const Options& options, std::function<bool()> settle)
    : state_(std::make_shared<State>()) {
  state_->settle = std::move(settle);
  state_->file = directory + "/probe";
  state_->options = options;
  state_->thread = std::thread([state = state_] { run(state); });
}

TierProbe::~TierProbe() {
  stop();
}

void TierProbe::stop() {
  if (!state_->thread.joinable()) return;
  std::unique_lock lock(state_->mutex);
  state_->stop = true;
  state_->wake.notify_all();
  state_->wake.wait(lock, [&] { return !state_->settling; });
  const bool ended = state_->wake.wait_for(lock, state_->options.patience, [&] { return state_->done; });
  lock.unlock();
  if (ended)
    state_->thread.join();
  else
    state_->thread.detach();
}

void TierProbe::run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  for (std::uint64_t number = 1; !state->stop; ++number) {
    state->asked = std::chrono::steady_clock::now();
    lock.unlock();
    const bool good = works(state->file, number);
    lock.lock();
    if (good && state->wanted == 1 && !state->stop) {
      state->settling = true;
      lock.unlock();
      const bool settled = state->settle();
      lock.lock();
      state->settling = false;
      state->wake.notify_all();
      if (!settled)
        state->wanted = state->options.good_in_a_row;
      else if (state->wanted == 1)  // else somebody has met an error meanwhile
        state->wanted = 0;
    } else if (!good) {
      state->wanted = state->options.good_in_a_row;
    } else if (state->wanted > 1) {
      --state->wanted;
    }
    state->asked.reset();
    state->wake.wait_for(lock, state->options.period, [&] { return state->stop; });
  }
  state->done = true;
  state->wake.notify_all();
}

TierProbe::Health TierProbe::health() const {
  const std::lock_guard lock(state_->mutex);
  if (state_->asked && std::chrono::steady_clock::now() - *state_->asked > state_->options.patience)
    return Health::silent;
  return state_->wanted > 0 ? Health::failing : Health::good;
}

void TierProbe::doubt() {
  const std::lock_guard lock(state_->mutex);
  state_->wanted = state_->options.good_in_a_row;
}

}  // namespace atlas::agent
