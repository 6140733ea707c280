#include "cache-agent/view/fuse/read_window.h"

#include <algorithm>
#include <cstring>

namespace atlas::view {
namespace {

constexpr std::uint64_t kUnit = agent::kBlock.count;
/// Requests overtake each other: what was read so recently is not read ahead once more.
constexpr std::size_t kRecent = 64;
constexpr std::chrono::seconds kJustNow{1};

}  // namespace

/// mutex_ is held. The piece that holds the byte at `at`.
ReadWindow::Pieces::iterator ReadWindow::piece_at(agent::FileIndex file, std::uint64_t at) {
  auto next = pieces_.upper_bound(Key{file, at});
  if (next == pieces_.begin()) return pieces_.end();
  --next;
  const auto& [key, piece] = *next;
  return key.first == file && at < key.second + piece.length ? next : pieces_.end();
}

std::vector<agent::Extent> ReadWindow::claim(const agent::Extent& stretch, SteadyTime now) {
  std::vector<agent::Extent> out;
  const std::uint64_t end = stretch.offset.count + stretch.length.count;
  const std::lock_guard lock(mutex_);
  drop_old(now);
  while (!read_.empty() && now - read_.front().second >= kJustNow) read_.pop_front();
  for (auto at = stretch.offset.count; at < end;) {
    if (const auto known = piece_at(stretch.file, at); known != pieces_.end()) {
      at = known->first.second + known->second.length;
      continue;
    }
    const auto read = std::find_if(read_.begin(), read_.end(), [&](const auto& one) {
      const auto& [extent, when] = one;
      return extent.file == stretch.file && extent.offset.count <= at && at < extent.offset.count + extent.length.count;
    });
    if (read != read_.end()) {
      at = read->first.offset.count + read->first.length.count;
      continue;
    }
    std::uint64_t to = std::min(end, (at / kUnit + 1) * kUnit);
    if (const auto after = pieces_.lower_bound(Key{stretch.file, at});
        after != pieces_.end() && after->first.first == stretch.file)
      to = std::min(to, after->first.second);
    for (const auto& [extent, when] : read_)
      if (extent.file == stretch.file && extent.offset.count > at) to = std::min(to, extent.offset.count);
    if (bytes_ + (to - at) > kMost) break;
    Piece& piece = pieces_[Key{stretch.file, at}];
    piece.length = piece.unread = to - at;
    bytes_ += to - at;
    out.push_back({stretch.file, Bytes{at}, Bytes{to - at}});
    at = to;
  }
  return out;
}

/// mutex_ is held. Copies what the reader wants of a piece that is here.
void ReadWindow::take(const Key& key, Piece& piece, Reader& reader) {
  const std::uint64_t begin = std::max(key.second, reader.want.offset.count);
  const std::uint64_t end = std::min(key.second + piece.length, reader.want.offset.count + reader.want.length.count);
  std::memcpy(reader.bytes.data() + (begin - reader.want.offset.count), piece.data.data() + (begin - key.second),
              end - begin);
  piece.unread -= std::min(piece.unread, end - begin);
}

void ReadWindow::arrived(const agent::Extent& extent, const Result<std::span<const std::byte>>& data, SteadyTime now) {
  std::vector<std::shared_ptr<Reader>> complete;
  std::vector<std::byte> copy;
  const bool whole = data && data->size() == extent.length.count;
  if (whole) copy.assign(data->begin(), data->end());
  {
    const std::lock_guard lock(mutex_);
    const Key key{extent.file, extent.offset.count};
    const auto at = pieces_.find(key);
    if (at == pieces_.end()) return;
    Piece& piece = at->second;
    piece.here = whole;
    piece.since = now;
    piece.data = std::move(copy);
    for (auto& reader : piece.waiting) {
      if (whole && !reader->failed) take(key, piece, *reader);
      reader->failed = reader->failed || !whole;
      if (--reader->missing == 0) complete.push_back(reader);
    }
    piece.waiting.clear();
    if (whole && piece.unread == 0) note_read(extent, now);
    if (!whole || piece.unread == 0) drop(at);
  }
  for (const auto& reader : complete) reader->done(reader->failed ? nullptr : &reader->bytes);
}

bool ReadWindow::read(const agent::Extent& want, SteadyTime now, Done done) {
  const auto reader = std::make_shared<Reader>();
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t begin = want.offset.count, end = begin + want.length.count;
    std::vector<Pieces::iterator> found;
    for (auto at = begin; at < end; at = found.back()->first.second + found.back()->second.length) {
      found.push_back(piece_at(want.file, at));
      if (found.back() != pieces_.end()) continue;
      note_read(want, now);
      return false;
    }
    reader->want = want;
    reader->done = std::move(done);
    reader->bytes.resize(want.length.count);
    for (const auto at : found) {
      if (!at->second.here) {
        ++reader->missing;
        at->second.waiting.push_back(reader);
        continue;
      }
      take(at->first, at->second, *reader);
      if (at->second.unread != 0) continue;
      note_read({want.file, Bytes{at->first.second}, Bytes{at->second.length}}, now);
      drop(at);
    }
    if (reader->missing != 0) return true;
  }
  reader->done(&reader->bytes);
  return true;
}

/// mutex_ is held.
void ReadWindow::note_read(const agent::Extent& extent, SteadyTime now) {
  read_.emplace_back(extent, now);
  if (read_.size() > kRecent) read_.pop_front();
}

/// mutex_ is held.
void ReadWindow::drop(Pieces::iterator at) {
  bytes_ -= at->second.length;
  pieces_.erase(at);
}

/// mutex_ is held.
void ReadWindow::drop_old(SteadyTime now) {
  for (auto at = pieces_.begin(); at != pieces_.end();) {
    const auto next = std::next(at);
    if (at->second.here && now - at->second.since >= kPatience) drop(at);
    at = next;
  }
}

bool ReadWindow::expire(SteadyTime now) {
  const std::lock_guard lock(mutex_);
  drop_old(now);
  return !pieces_.empty();
}

std::uint64_t ReadWindow::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace atlas::view
