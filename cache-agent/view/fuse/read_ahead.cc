#include "cache-agent/view/fuse/read_ahead.h"

#include <algorithm>

namespace atlas::view {
namespace {

constexpr std::size_t kFiles = 512, kStreams = 8;
constexpr std::uint64_t kLeastWindow = 256 * 1024, kLeastSlack = 64 * 1024, kMostSlack = 2ULL << 20;
constexpr unsigned kMostSteps = 16;

/// The kernel's own read-ahead is in flight in several requests that overtake each other.
std::uint64_t slack_of(std::uint64_t length) {
  return std::clamp(2 * length, kLeastSlack, kMostSlack);
}

}  // namespace

std::vector<ReadAhead::Piece> ReadAhead::in_order(Stream& stream, std::uint64_t offset, std::uint64_t length,
                                                  std::uint64_t size) {
  if (offset + length <= stream.end) return {};  // overtaken
  stream.last = offset;
  stream.end = offset + length;
  if (++stream.in_order < 2) return {};
  stream.window = std::max({stream.window, kLeastWindow, 4 * length});
  const std::uint64_t from = std::max(stream.ahead, stream.end);
  const std::uint64_t to = std::min(size, stream.end + stream.window);
  if (from >= to || (from - stream.end > stream.window / 2 && to != size)) return {};
  stream.window = std::min(kMost, stream.window * 2);
  stream.ahead = to;
  return {{from, to - from}};
}

std::vector<ReadAhead::Piece> ReadAhead::in_step(Stream& stream, std::uint64_t offset, std::uint64_t length,
                                                 std::uint64_t size) {
  stream.last = offset;
  stream.end = offset + length;
  stream.steps -= std::min(stream.steps, 1U);
  if (++stream.in_step < 2) return {};
  std::vector<Piece> pieces;
  const unsigned wanted = std::min(kMostSteps, 2U << std::min(stream.in_step - 2, 3U));
  for (unsigned n = stream.steps + 1; n <= wanted; ++n) {
    const std::int64_t at = static_cast<std::int64_t>(offset) + stream.stride * n;
    if (at < 0 || static_cast<std::uint64_t>(at) >= size) break;
    const auto begin = static_cast<std::uint64_t>(at);
    pieces.push_back({begin, std::min(length, size - begin)});
    stream.steps = n;
  }
  return pieces;
}

ReadAhead::File& ReadAhead::file_of(agent::FileIndex file) {
  auto [it, fresh] = files_.try_emplace(file);
  if (!fresh) {
    recent_.splice(recent_.begin(), recent_, it->second.place);
    return it->second;
  }
  recent_.push_front(file);
  it->second.place = recent_.begin();
  if (files_.size() > kFiles) {
    files_.erase(recent_.back());
    recent_.pop_back();
  }
  return it->second;
}

ReadAhead::Stream& ReadAhead::new_stream(File& file) const {
  if (file.streams.size() < kStreams) return file.streams.emplace_back();
  auto& oldest = *std::min_element(file.streams.begin(), file.streams.end(),
                                   [](const Stream& a, const Stream& b) { return a.used < b.used; });
  return oldest = Stream{};
}

std::vector<ReadAhead::Piece> ReadAhead::on_read(agent::FileIndex index, std::uint64_t offset, std::uint64_t length,
                                                 std::uint64_t size) {
  if (length == 0 || offset >= size) return {};
  const std::lock_guard lock(mutex_);
  auto& file = file_of(index);
  ++clock_;
  for (auto& stream : file.streams) {
    if (stream.stride == 0 || offset != stream.last + static_cast<std::uint64_t>(stream.stride)) continue;
    stream.used = clock_;
    return in_step(stream, offset, length, size);
  }
  const std::uint64_t slack = slack_of(length);
  for (auto& stream : file.streams) {
    if (stream.stride != 0 || offset + slack < stream.end || offset > stream.end + slack) continue;
    stream.used = clock_;
    return in_order(stream, offset, length, size);
  }
  auto& strays = file.strays;
  const bool step = strays.size() == 2 && strays[1] - strays[0] == offset - strays[1] && offset != strays[1];
  auto& stream = new_stream(file);
  stream.last = offset;
  stream.end = offset + length;
  stream.used = clock_;
  stream.in_order = 1;
  if (!step) {
    if (strays.size() == 2) strays.erase(strays.begin());
    strays.push_back(offset);
    return {};
  }
  stream.stride = static_cast<std::int64_t>(offset - strays[1]);
  stream.in_step = 1;
  strays.clear();
  return in_step(stream, offset, length, size);
}

}  // namespace atlas::view
