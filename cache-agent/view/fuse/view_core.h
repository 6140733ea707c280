#pragma once
#include <fuse_lowlevel.h>

#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/origin/origin.h"
#include "cache-agent/store/replica.h"
#include "cache-agent/view/fuse/attributes.h"
#include "cache-agent/view/fuse/parked.h"
#include "cache-agent/view/fuse/partial_views.h"
#include "cache-agent/view/fuse/read_ahead.h"
#include "cache-agent/view/fuse/read_window.h"
#include "cache-agent/view/fuse/writable.h"

namespace atlas::view {

inline constexpr Bytes kMaxRead = kMiB;  ///< one request of the kernel
/// What an open costs more by passthrough, a read of so much gains by it. Measured, in memory: files of 100 KiB are
/// read as fast either way by one reader; from 256 KiB on at native speed by passthrough, at 0.6 to 0.8 of it without.
inline constexpr Bytes kSmallestPassed{128 * 1024};

/// Where something of a dataset is below its origin's root.
[[nodiscard]] std::string origin_path(const DatasetId& dataset, const std::string& below);

/// Extended attributes of one view's entries. Those of resident files lie in the store; others are asked of the origin,
/// once, and kept. Thread-safe; never blocks on the origin.
class Metas {
 public:
  using Found = std::function<void(const Result<agent::FileMeta>&)>;
  Metas(const PartialViewParts& parts, const agent::Manifest& manifest) : parts_(parts), manifest_(manifest) {}
  /// Calls `found` at once or on a thread of the origin.
  void find(agent::FileIndex index, Found found);
  /// Asks for those of all directories, in the background: paths must be passable even when the origin hangs.
  void fetch_directories(const std::shared_ptr<ViewCore>& keep);

 private:
  void ask(std::vector<agent::FileIndex> which, std::shared_ptr<void> keep, agent::Urgency urgency);
  void learn(agent::FileIndex index, const Result<agent::FileMeta>& meta);

  const PartialViewParts& parts_;
  const agent::Manifest& manifest_;
  std::mutex mutex_;  ///< guards what follows
  std::map<agent::FileIndex, agent::FileMeta> known_;
  std::map<agent::FileIndex, std::vector<Found>> asked_;
  friend class ViewCore;
  std::weak_ptr<ViewCore> core_;
};

/// Files of the store that are read again and again. Thread-safe.
class OpenFiles {
 public:
  OpenFiles(const agent::Replica& replica, const agent::Manifest& manifest) : replica_(replica), manifest_(manifest) {}
  [[nodiscard]] Result<std::shared_ptr<const UniqueFd>> open(agent::FileIndex file);

 private:
  using Entry = std::pair<agent::FileIndex, std::shared_ptr<const UniqueFd>>;
  const agent::Replica& replica_;
  const agent::Manifest& manifest_;
  std::mutex mutex_;         ///< guards what follows
  std::list<Entry> recent_;  ///< the last used first
  std::map<agent::FileIndex, std::list<Entry>::iterator> places_;
};

/// What one job sees of one partial replica, whichever connection asks. Thread-safe. Everything that waits for the
/// origin keeps it alive.
class ViewCore : public std::enable_shared_from_this<ViewCore> {
 public:
  ViewCore(PartialViewParts parts, std::shared_ptr<const agent::Manifest> manifest);
  void start() {
    if (writable_) writable_->belongs_to(weak_from_this());
    metas.core_ = weak_from_this();
    if (!writable_) metas.fetch_directories(shared_from_this());
  }

  /// Takes the place of an error.
  using Otherwise = std::function<void(const std::shared_ptr<Parked>&)>;
  void read(fuse_req_t req, agent::FileIndex file, std::size_t size, std::uint64_t offset, Otherwise otherwise = {});
  /// SEEK_DATA and SEEK_HOLE; minus an errno. The holes of a file are known once all of it is here.
  [[nodiscard]] off_t seek(agent::FileIndex file, off_t offset, int whence);
  /// Does the kernel gain by reading large files by itself? An open costs a request then, which one that does not wait
  /// for us need not make: that pays where files are large.
  [[nodiscard]] bool suits_passthrough() const;
  /// A large file that is all here, and that the disk has; `vouched` = that has been seen before.
  [[nodiscard]] bool passable(agent::FileIndex file, bool vouched) const;
  void note_passed() { passed_.fetch_add(1, std::memory_order_relaxed); }
  /// Fetches what is missing of a file that was all here. Never blocks.
  void mend(agent::FileIndex file);
  /// The same, and then `reply` answers; an error when it cannot be had.
  void when_whole(fuse_req_t req, agent::FileIndex file, std::function<void(fuse_req_t)> reply);
  /// Finds the entry's attributes and has `reply` answer with them.
  void with_meta(fuse_req_t req, agent::FileIndex index, std::function<void(fuse_req_t, const agent::FileMeta&)> reply);
  /// Null unless the job may write.
  [[nodiscard]] Writable* writable() const { return writable_.get(); }
  [[nodiscard]] std::string name_of(agent::FileIndex index) const;
  [[nodiscard]] ViewCounters counters() const;
  /// Read from the origin past the fetcher.
  void note_read(Bytes bytes) { moved_->fetch_add(bytes.count, std::memory_order_relaxed); }

  const PartialViewParts parts;
  const std::shared_ptr<const agent::Manifest> manifest;
  const Attributes attributes;

 private:
  struct Miss;
  [[nodiscard]] bool answer_from_store(fuse_req_t req, const agent::Extent& want);
  void next_part(const std::shared_ptr<Miss>& miss);
  void deliver(const std::shared_ptr<Miss>& miss, std::span<const std::byte> data);
  void fetched(const std::shared_ptr<Miss>& miss, const Status& status);
  void from_window(const std::shared_ptr<Miss>& miss);
  void read_through(const std::shared_ptr<Miss>& miss);
  void failed(const Miss& miss, const Error& error);
  void read_ahead(agent::FileIndex file, const ReadAhead::Pieces& pieces);
  void bring_ahead(const agent::Extent& stretch);
  void fill_window(const agent::Extent& stretch);
  void sweep_window();
  [[nodiscard]] agent::Extent first_share(const agent::Extent& piece) const;
  [[nodiscard]] agent::Extent blocks_of(const agent::Extent& want) const;
  [[nodiscard]] const NodeAddress* keeper_of(const agent::Extent& want) const;
  [[nodiscard]] bool kept_here(const agent::Extent& blocks) const;
  [[nodiscard]] agent::FetchRequest passing(const agent::Extent& want, agent::Urgency urgency) const;
  [[nodiscard]] bool read_right(const agent::Extent& want, std::span<std::byte> into);
  [[nodiscard]] Result<std::size_t> read_store(const agent::Extent& want, std::span<std::byte> into);

  const std::unique_ptr<Writable> writable_;
  Metas metas;
  OpenFiles files_;
  ReadAhead read_ahead_;
  ReadWindow window_;
  std::mutex sweep_mutex_;  ///< guards what follows
  bool sweep_due_ = false;  ///< somebody will look at the window
  agent::TimerHandle sweep_;
  std::atomic<std::uint64_t> hits_{0}, hit_bytes_{0}, misses_{0}, missed_bytes_{0}, failures_{0}, passed_{0};
  const std::shared_ptr<std::atomic<std::uint64_t>> moved_ = std::make_shared<std::atomic<std::uint64_t>>(0);
  std::atomic<unsigned> mending_{0};     ///< blocks asked for by mend() and not here yet
  std::atomic<std::uint64_t> ahead_{0};  ///< bytes asked for ahead of readers and not here yet
};

}  // namespace atlas::view
