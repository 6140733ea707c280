#include <algorithm>
#include <condition_variable>

#include "cache-agent/origin/origin.h"
#include "cache-agent/warm/chosen.h"
#include "cache-agent/warm/warm_engine.h"
#include "cache-agent/warm/warm_up.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

constexpr std::size_t kMetasPerTask = 32;
/// One unreadable file makes the replica incomplete, but a broken storage need not be asked a million times.
constexpr std::uint64_t kMostFailures = 16;
/// How long a cancelled warm-up waits for what is under way; a hung storage may never answer.
constexpr std::chrono::seconds kPatience{2};

/// The fetches of one warm-up that are under way. Shared with their callbacks, which may outlive it.
class Window {
 public:
  Window(unsigned most, std::stop_token stop) : most_(most), stop_(std::move(stop)) {}

  /// Waits for a place; false = no further fetch makes sense.
  bool enter() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return under_way_ < most_ || over(); });
    if (over()) return false;
    ++under_way_;
    return true;
  }
  void leave(const Status& status, std::atomic<std::uint64_t>& failures) {
    {
      const std::lock_guard lock(mutex_);
      --under_way_;
      if (!status) {
        failures.fetch_add(1, std::memory_order_relaxed);
        ++failures_;
        const Code code = status.error().code;
        const bool fatal = code == Code::resource_exhausted || code == Code::internal || code == Code::aborted;
        if (fatal && !fatal_) first_ = status;
        if (!fatal && first_) first_ = status;
        fatal_ = fatal_ || fatal;
      }
    }
    changed_.notify_all();
  }
  void wake() { changed_.notify_all(); }
  /// Waits until nothing is under way (not for long when told to stop).
  Status wait() {
    std::unique_lock lock(mutex_);
    const auto idle = [&] { return under_way_ == 0; };
    changed_.wait(lock, [&] { return idle() || stop_.stop_requested(); });
    if (!idle()) changed_.wait_for(lock, kPatience, idle);
    if (stop_.stop_requested()) return fail(Code::cancelled, "the warm-up was cancelled");
    if (first_ || fatal_ || failures_ <= 1) return first_;
    Error error = first_.error();
    error.message = std::to_string(failures_) + (over() ? " or more" : "") +
                    " files could not be cached, the first: " + error.message;
    return fail(std::move(error));
  }

 private:
  [[nodiscard]] bool over() const { return fatal_ || failures_ >= kMostFailures || stop_.stop_requested(); }

  const unsigned most_;
  const std::stop_token stop_;
  std::mutex mutex_;  ///< guards what follows
  std::condition_variable changed_;
  unsigned under_way_ = 0;
  std::uint64_t failures_ = 0;
  bool fatal_ = false;
  Status first_;
};

/// ACLs and xattrs of directories and opaque entries, read as the user.
struct Metas {
  std::mutex mutex;  ///< guards found
  std::map<FileIndex, FileMeta> found;
};

Status read_metas(Origin& origin, const std::string& dataset, const Manifest& manifest,
                  const std::vector<FileIndex>& which, Metas& metas) {
  for (const FileIndex index : which) {
    const std::string below = manifest.path(index);
    const std::string path = dataset.empty() || below.empty() ? dataset + below : dataset + "/" + below;
    ATLAS_ASSIGN(FileMeta meta, origin.meta_of(path, manifest.at(index).attributes));
    if (meta.xattrs.empty()) continue;
    const std::lock_guard lock(metas.mutex);
    metas.found[index] = std::move(meta);
  }
  return {};
}

}  // namespace

Status WarmEngine::fetch_all(WarmUp& up, const std::shared_ptr<Replica>& replica, const Manifest& manifest,
                             const Chosen& chosen, const Share* share, std::map<FileIndex, FileMeta>& metas) {
  const auto window = std::make_shared<Window>(options_.window, up.stop.get_token());
  const std::stop_callback wake(up.stop.get_token(), [window] { window->wake(); });
  const auto found = std::make_shared<Metas>();
  // Callbacks of a hung storage may come after the warm-up is gone: they hold what they touch.
  const auto keep = replica->manifest();
  if (!keep) return fail(keep.error());
  const auto failures = std::make_shared<std::atomic<std::uint64_t>>(0);
  Origin* origin = origins_.at(up.request.dataset.origin);

  std::vector<FileIndex> batch;
  const auto send_batch = [&] {
    if (batch.empty() || !window->enter()) return;
    origin->run(up.request.as, Urgency::warm_queued,
                [origin, window, found, failures, manifest_copy = *keep, dataset = up.request.dataset.path,
                 which = std::exchange(batch, {})](const Status& able) {
                  window->leave(able ? read_metas(*origin, dataset, *manifest_copy, which, *found) : able, *failures);
                });
  };
  for (FileIndex i = 0; i < manifest.size(); ++i) {
    const auto entry = manifest.at(i);
    const bool readable_directory = entry.is(EntryType::directory) && (entry.attributes.flags & kUnknown) == 0;
    const bool opaque_file =
        entry.is(EntryType::file) && entry.opaque() && entry.leader == i && (entry.attributes.flags & kUnknown) == 0;
    if (share == nullptr && (readable_directory || opaque_file)) {  // a part is not sealed
      batch.push_back(i);
      if (batch.size() == kMetasPerTask) send_batch();
    }
    if (entry.blocks == 0 || !chosen.contains(i, entry.attributes)) continue;
    const std::uint64_t size = entry.attributes.size;
    const std::uint64_t unit =
        size <= fetcher_.chunk().count ? std::max<std::uint64_t>(1, size) : fetcher_.chunk().count;
    for (std::uint64_t at = 0; at == 0 || at < size; at += unit) {
      const Extent extent{i, Bytes{at}, Bytes{std::min(unit, size - at)}};
      if (share != nullptr && !share->mine(manifest, i, at)) continue;
      if (replica->resident(manifest, extent)) continue;
      if (!window->enter()) break;
      FetchRequest request{replica,  extent, up.request.as, up.request.payer, Urgency::warm_queued,
                           up.moved, true,   up.from_peers, share != nullptr};
      request.backers = up.backers;
      fetcher_.fetch(std::move(request), [window, failures](const Status& status) { window->leave(status, *failures); })
          .detach();
    }
    up.failures = failures->load(std::memory_order_relaxed);
  }
  send_batch();
  const Status status = window->wait();
  up.failures = failures->load(std::memory_order_relaxed);
  if (!status) return status;
  const std::lock_guard lock(found->mutex);
  metas = std::move(found->found);
  return {};
}

}  // namespace atlas::agent
