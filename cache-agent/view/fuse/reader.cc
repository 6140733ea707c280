#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "cache-agent/view/fuse/connection.h"
#include "cache-agent/view/fuse/view_core.h"
#include "common/percent.h"

namespace atlas::view {
namespace {

using agent::EntryType;
using agent::Extent;
using agent::FileIndex;

constexpr std::size_t kOpenFiles = 128;
/// Asked for ahead of all readers of a view and not here yet.
constexpr std::uint64_t kMostAhead = 256ULL << 20;
/// The same for who waits for his limit: the longer, the more is asked for that he may never read.
constexpr std::uint64_t kAheadOfThrottled = 2ULL << 20;
/// Of what is read ahead and not kept: an operation at the origin. Each costs it an open, too.
constexpr std::uint64_t kOperation = 4ULL << 20;
/// Of a job that meets a broken origin not every read gets a line.
constexpr std::uint64_t kLines = 20;

/// What the job's read fails with. A deadline and a broken origin are EIO; a file that is not what it was is ESTALE, as
/// on NFS.
int error_for(const Error& error) {
  switch (error.code) {
    case Code::permission_denied:
      return EACCES;
    case Code::aborted:
      return ESTALE;
    default:
      return EIO;
  }
}

std::span<std::byte> thread_buffer(std::size_t size) {
  thread_local std::vector<std::byte> buffer;
  if (buffer.size() < size) buffer.resize(size);
  return std::span(buffer).first(size);
}

}  // namespace

struct ViewCore::Miss {
  std::shared_ptr<Parked> parked;
  Extent want;  ///< exactly what the kernel asked for
  Otherwise otherwise;
  Extent part{};                   ///< what of it is looked for now: of one node's share
  std::vector<std::byte> bytes{};  ///< the parts before
  unsigned round = 0;              ///< of the next waiter
};

Result<std::shared_ptr<const UniqueFd>> OpenFiles::open(FileIndex file) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = places_.find(file); it != places_.end()) {
      recent_.splice(recent_.begin(), recent_, it->second);
      return it->second->second;
    }
  }
  ATLAS_ASSIGN(UniqueFd fd, replica_.open_file(manifest_, file));
  auto shared = std::make_shared<const UniqueFd>(std::move(fd));
  if (manifest_.at(file).blocks <= 1) return shared;  // read once, in one piece
  const std::lock_guard lock(mutex_);
  if (places_.contains(file)) return shared;
  recent_.emplace_front(file, shared);
  places_[file] = recent_.begin();
  if (recent_.size() > kOpenFiles) {
    places_.erase(recent_.back().first);
    recent_.pop_back();
  }
  return shared;
}

ViewCore::ViewCore(PartialViewParts view_parts, std::shared_ptr<const agent::Manifest> of)
    : parts(std::move(view_parts)),
      manifest(std::move(of)),
      attributes(*manifest),
      writable_(parts.writable ? std::make_unique<Writable>(parts, *manifest) : nullptr),
      metas(parts, *manifest),
      files_(*parts.replica, *manifest) {}

std::string ViewCore::name_of(FileIndex index) const {
  const std::string below = manifest->path(index);
  return printable(agent::show(parts.replica->dataset()) + (below.empty() ? "" : "/" + below));
}

ViewCounters ViewCore::counters() const {
  return {hits_,          misses_,   Bytes{hit_bytes_}, Bytes{missed_bytes_},
          Bytes{*moved_}, failures_, passed_,           Bytes{window_.bytes()}};
}

bool ViewCore::suits_passthrough() const {
  const auto& of = manifest->summary();
  return parts.passthrough && !parts.writable && of.files != 0 && of.bytes / of.files >= kSmallestPassed.count;
}

bool ViewCore::passable(FileIndex index, bool vouched) const {
  const auto entry = manifest->at(index);
  if (!entry.is(EntryType::file) || entry.opaque() || entry.attributes.size < kSmallestPassed.count) return false;
  const Extent whole{index, Bytes{0}, Bytes{entry.attributes.size}};
  return parts.replica->resident(*manifest, whole) && (vouched || parts.replica->proven(*manifest, whole));
}

void ViewCore::mend(FileIndex index) {
  if (mending_ != 0) return;  // what hangs in the origin is not asked for again and again
  const std::uint64_t size = manifest->at(index).attributes.size;
  if (parts.replica->resident(*manifest, {index, Bytes{0}, Bytes{size}})) return;
  for (std::uint64_t at = 0; at < size; at += agent::kBlock.count) {
    const Extent block{index, Bytes{at}, Bytes{std::min(agent::kBlock.count, size - at)}};
    if (parts.replica->resident(*manifest, block)) continue;
    ++mending_;
    parts.fetcher
        ->fetch({parts.replica, block, parts.as, parts.payer, agent::Urgency::read_ahead, moved_},
                [self = shared_from_this()](const Status&) { --self->mending_; })
        .detach();
  }
}

void ViewCore::when_whole(fuse_req_t req, FileIndex file, std::function<void(fuse_req_t)> reply) {
  const auto parked = Connection::of(req).lot().park(req, name_of(file));
  const Extent whole{file, Bytes{0}, Bytes{manifest->at(file).attributes.size}};
  const auto done = [parked, reply = std::move(reply)](const Status& status) {
    status ? parked->answer(reply) : parked->fail(error_for(status.error()));
  };
  parked->hold(
      0, parts.fetcher->fetch({parts.replica, whole, parts.as, parts.payer, agent::Urgency::fault, moved_}, done));
}

void ViewCore::with_meta(fuse_req_t req, FileIndex index,
                         std::function<void(fuse_req_t, const agent::FileMeta&)> reply) {
  const auto parked = Connection::of(req).lot().park(req, name_of(index) + ": its attributes");
  metas.find(index, [parked, reply = std::move(reply)](const Result<agent::FileMeta>& meta) {
    if (meta) {
      parked->answer([&](fuse_req_t r) { reply(r, *meta); });
    } else {
      parked->fail(error_for(meta.error()));
    }
  });
}

Result<std::size_t> ViewCore::read_store(const Extent& want, std::span<std::byte> into) {
  ATLAS_ASSIGN(const auto fd, files_.open(want.file));
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got =
        pread(fd->get(), into.data() + done, into.size() - done, static_cast<off_t>(want.offset.count + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

/// What is here, straight from the file; compared with its checksums while the disk may still lose it, and when it
/// cannot be read. False when the store does not give what it should have: its blocks count as missing then.
bool ViewCore::read_right(const Extent& want, std::span<std::byte> into) {
  if (parts.replica->proven(*manifest, want)) {
    if (const auto got = read_store(want, into); got && *got == into.size()) return true;
  }
  const auto checked = parts.replica->read(want, into, agent::Verify::yes);
  return checked && checked->count == into.size();
}

bool ViewCore::answer_from_store(fuse_req_t req, const Extent& want) {
  const auto buffer = thread_buffer(want.length.count);
  if (!read_right(want, buffer)) return false;
  fuse_reply_buf(req, reinterpret_cast<const char*>(buffer.data()), buffer.size());
  return true;
}

void ViewCore::read(fuse_req_t req, FileIndex index, std::size_t size, std::uint64_t offset, Otherwise otherwise) {
  const auto entry = manifest->at(index);
  if (!entry.is(EntryType::file)) return void(fuse_reply_err(req, entry.is(EntryType::directory) ? EISDIR : EINVAL));
  if (entry.opaque()) return void(fuse_reply_err(req, EACCES));
  const std::uint64_t whole = entry.attributes.size;
  const std::uint64_t length = std::min<std::uint64_t>({size, whole - std::min(whole, offset), kMaxRead.count});
  if (length == 0) return void(fuse_reply_buf(req, nullptr, 0));
  const Extent want{index, Bytes{offset}, Bytes{length}};
  // Noted before it is answered: the reader's next read must not overtake this one, or its steps are not recognized.
  const auto next = entry.blocks > 1 ? read_ahead_.on_read(index, offset, length, whole) : ReadAhead::Pieces{};
  const bool here = parts.replica->resident(*manifest, want);
  if (here && answer_from_store(req, want)) {
    hits_.fetch_add(1, std::memory_order_relaxed);
    hit_bytes_.fetch_add(length, std::memory_order_relaxed);
  } else {
    misses_.fetch_add(1, std::memory_order_relaxed);
    missed_bytes_.fetch_add(length, std::memory_order_relaxed);
    next_part(
        std::make_shared<Miss>(Miss{Connection::of(req).lot().park(req, name_of(index)), want, std::move(otherwise)}));
  }
  read_ahead(index, next);
}

off_t ViewCore::seek(FileIndex file, off_t offset, int whence) {
  const auto entry = manifest->at(file);
  const auto size = static_cast<off_t>(entry.attributes.size);
  if (!entry.is(EntryType::file)) return -EINVAL;
  if (offset < 0 || offset >= size) return -ENXIO;
  if (entry.blocks != 0 && parts.replica->resident(*manifest, {file, Bytes{0}, Bytes{entry.attributes.size}})) {
    const auto fd = files_.open(file);
    if (const off_t found = fd ? ::lseek((*fd)->get(), offset, whence) : -1; found >= 0 || errno == ENXIO)
      return found >= 0 ? found : -ENXIO;
  }
  return whence == SEEK_HOLE ? size : offset;
}

/// The whole blocks around a piece.
Extent ViewCore::blocks_of(const Extent& want) const {
  const std::uint64_t size = manifest->at(want.file).attributes.size;
  const std::uint64_t begin = want.offset.count / agent::kBlock.count * agent::kBlock.count;
  const std::uint64_t end =
      (want.offset.count + want.length.count + agent::kBlock.count - 1) / agent::kBlock.count * agent::kBlock.count;
  return {want.file, Bytes{begin}, Bytes{std::min(size, end) - begin}};
}

/// The other node of the job whose share this is; nullptr = none.
const NodeAddress* ViewCore::keeper_of(const Extent& want) const {
  if (!parts.share) return nullptr;
  const auto* owner = parts.share->owner(*manifest, want.file, want.offset.count);
  return parts.share->another(owner) ? owner : nullptr;
}

/// What misses of these blocks is kept on this node.
bool ViewCore::kept_here(const Extent& blocks) const {
  return (!parts.share || parts.share->mine(*manifest, blocks.file, blocks.offset.count)) &&
         parts.fetcher->can_keep(*parts.replica, *manifest, blocks);
}

/// To be read without being kept. What another node keeps comes from there: the job's user was shown this generation,
/// so it is his to read as long as the job runs, as what lies on this node is.
agent::FetchRequest ViewCore::passing(const Extent& want, agent::Urgency urgency) const {
  agent::FetchRequest request{parts.replica, want, parts.as, parts.payer, urgency, moved_};
  if (const auto* keeper = keeper_of(want)) {
    request.walked = true;
    request.keeper = *keeper;
  }
  return request;
}

/// What of a piece comes first and is of one node: of what is divided each chunk may be another's.
Extent ViewCore::first_share(const Extent& piece) const {
  if (!parts.share) return piece;
  const std::uint64_t unit = parts.fetcher->chunk().count;
  return {piece.file, piece.offset, Bytes{std::min(piece.length.count, unit - piece.offset.count % unit)}};
}

void ViewCore::next_part(const std::shared_ptr<Miss>& miss) {
  const Bytes got{miss->bytes.size()};
  miss->part = first_share({miss->want.file, miss->want.offset + got, miss->want.length - got});
  const Extent blocks = blocks_of(miss->part);
  if (!kept_here(blocks)) return from_window(miss);
  const unsigned round = miss->round++;
  miss->parked->hold(
      round,
      parts.fetcher->fetch({parts.replica, blocks, parts.as, parts.payer, agent::Urgency::fault, moved_},
                           [self = shared_from_this(), miss](const Status& status) { self->fetched(miss, status); }));
}

void ViewCore::deliver(const std::shared_ptr<Miss>& miss, std::span<const std::byte> data) {
  if (miss->part.length != miss->want.length) {
    miss->bytes.insert(miss->bytes.end(), data.begin(), data.end());
    if (miss->bytes.size() < miss->want.length.count) return next_part(miss);
    data = miss->bytes;
  }
  miss->parked->answer(
      [&](fuse_req_t req) { fuse_reply_buf(req, reinterpret_cast<const char*>(data.data()), data.size()); });
}

void ViewCore::fetched(const std::shared_ptr<Miss>& miss, const Status& status) {
  if (status) {
    const auto buffer = thread_buffer(miss->part.length.count);
    return read_right(miss->part, buffer) ? deliver(miss, buffer) : read_through(miss);
  }
  switch (status.error().code) {
    case Code::resource_exhausted:  // no room, or the disk is full
    case Code::internal:            // the disk fails
    case Code::unimplemented:       // the tier cannot hold the file's attributes
      return from_window(miss);
    default:
      return failed(*miss, status.error());
  }
}

/// What does not fit, if it was read ahead. What begins in what is kept and ends in the window is read through whole:
/// there is one such place where the room ended.
void ViewCore::from_window(const std::shared_ptr<Miss>& miss) {
  const bool there = window_.read(miss->part, parts.clock->now(),
                                  [self = shared_from_this(), miss](const std::vector<std::byte>* bytes) {
                                    bytes == nullptr ? self->read_through(miss) : self->deliver(miss, *bytes);
                                  });
  if (!there) read_through(miss);
}

void ViewCore::read_through(const std::shared_ptr<Miss>& miss) {
  const unsigned round = miss->round++;
  miss->parked->hold(round, parts.fetcher->read_through(
                                passing(miss->part, agent::Urgency::fault),
                                [self = shared_from_this(), miss](const Result<std::span<const std::byte>>& data) {
                                  data ? self->deliver(miss, *data) : self->failed(*miss, data.error());
                                }));
}

void ViewCore::failed(const Miss& miss, const Error& error) {
  if (miss.otherwise) return miss.otherwise(miss.parked);
  if (!miss.parked->fail(error_for(error))) return;
  const auto count = failures_.fetch_add(1, std::memory_order_relaxed);
  if (count < kLines || count % 100 == 0)
    parts.warn("job " + std::to_string(parts.payer.job_id) + ": a read of " + name_of(miss.want.file) +
               " failed: " + error.message);
}

void ViewCore::read_ahead(FileIndex file, const ReadAhead::Pieces& pieces) {
  for (const auto& piece : pieces) {
    for (Extent rest{file, Bytes{piece.offset}, Bytes{piece.length}}; rest.length.count != 0;) {
      const Extent next = first_share(rest);
      bring_ahead(next);
      rest.offset += next.length;
      rest.length -= next.length;
    }
  }
}

void ViewCore::bring_ahead(const Extent& stretch) {
  const Extent blocks = blocks_of(stretch);
  if (parts.replica->resident(*manifest, blocks)) return;
  if (!kept_here(blocks)) return fill_window(stretch);
  const auto most = parts.fetcher->parks(parts.as, parts.payer) ? kAheadOfThrottled : kMostAhead;
  if (ahead_.fetch_add(blocks.length.count) > most) {
    ahead_.fetch_sub(blocks.length.count);
    return;
  }
  parts.fetcher
      ->fetch({parts.replica, blocks, parts.as, parts.payer, agent::Urgency::read_ahead, moved_},
              [self = shared_from_this(), blocks](const Status&) { self->ahead_.fetch_sub(blocks.length.count); })
      .detach();
}

/// What will be read next and is not kept waits in memory: a reader in order is else alone with the origin's latency.
void ViewCore::fill_window(const Extent& stretch) {
  if (parts.fetcher->parks(parts.as, parts.payer)) return;  // it would stand in the queue before what is asked for
  std::vector<Extent> pieces;
  for (const auto& piece : window_.claim(stretch, parts.clock->now())) {
    if (!parts.replica->resident(*manifest, piece)) {
      pieces.push_back(piece);
    } else {
      window_.arrived(piece, fail(Code::already_exists, "it is kept"), {});
    }
  }
  for (auto at = pieces.begin(); at != pieces.end();) {
    std::vector<Extent> run{*at};
    Extent whole = *at;
    for (++at; at != pieces.end() && whole.length.count + at->length.count <= kOperation &&
               at->offset == whole.offset + whole.length;
         ++at) {
      whole.length += at->length;
      run.push_back(*at);
    }
    const auto arrived = [self = shared_from_this(), run, whole](const Result<std::span<const std::byte>>& data) {
      const auto now = self->parts.clock->now();
      for (const auto& piece : run)
        self->window_.arrived(piece,
                              data ? Result<std::span<const std::byte>>(
                                         data->subspan(piece.offset.count - whole.offset.count, piece.length.count))
                                   : fail(data.error()),
                              now);
      self->sweep_window();
    };
    parts.fetcher->read_through(passing(whole, agent::Urgency::read_ahead), arrived).detach();
  }
}

/// What nobody comes for any more does not stay until the next one reads ahead.
void ViewCore::sweep_window() {
  if (window_.bytes() == 0) return;
  const std::lock_guard lock(sweep_mutex_);
  if (std::exchange(sweep_due_, true)) return;
  sweep_ = parts.timers->post_at(parts.clock->now() + ReadWindow::kPatience, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    {
      const std::lock_guard due(self->sweep_mutex_);
      self->sweep_due_ = false;
    }
    if (self->window_.expire(self->parts.clock->now())) self->sweep_window();
  });
}

}  // namespace atlas::view
