#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "cache-agent/manifest/ids.h"
#include "cache-agent/store/replica.h"
#include "common/result.h"
#include "common/units.h"

namespace atlas::view {

/// Memory between the origin and readers in order of files that are not kept: what they will read next, in pieces
/// that are dropped when they have been read. Bounded; what nobody comes for goes after a while. Thread-safe, never
/// blocks; no call is made under its lock.
class ReadWindow {
 public:
  static constexpr std::uint64_t kMost = 64ULL << 20;  ///< of a view
  static constexpr std::chrono::seconds kPatience{10};

  /// The pieces of a stretch of a file that are neither here nor on their way, as far as there is room for them: the
  /// caller fetches each, and tells arrived().
  [[nodiscard]] std::vector<agent::Extent> claim(const agent::Extent& stretch, SteadyTime now);
  /// The end of a claim. Whoever waits for the piece is told.
  void arrived(const agent::Extent& piece, const Result<std::span<const std::byte>>& data, SteadyTime now);
  /// If all of it is here or on its way: calls `done`, now or later, with the bytes (valid during the call), or with
  /// nothing when they did not come. False, and no call, otherwise: the caller reads it himself, so it is not claimed.
  using Done = std::function<void(const std::vector<std::byte>*)>;
  [[nodiscard]] bool read(const agent::Extent& want, SteadyTime now, Done done);
  /// Drops what nobody came for. Says whether anything is left that may have to go later.
  bool expire(SteadyTime now);
  [[nodiscard]] std::uint64_t bytes() const;  ///< here and on their way

 private:
  using Key = std::pair<agent::FileIndex, std::uint64_t>;
  struct Reader {
    agent::Extent want;
    Done done;
    unsigned missing = 0;  ///< pieces on their way
    bool failed = false;
    std::vector<std::byte> bytes;
  };
  struct Piece {
    std::uint64_t length = 0;
    std::uint64_t unread = 0;
    bool here = false;
    SteadyTime since{};
    std::vector<std::byte> data;
    std::vector<std::shared_ptr<Reader>> waiting;
  };
  using Pieces = std::map<Key, Piece>;
  [[nodiscard]] Pieces::iterator piece_at(agent::FileIndex file, std::uint64_t at);
  void take(const Key& key, Piece& piece, Reader& reader);
  void drop(Pieces::iterator at);
  void note_read(const agent::Extent& extent, SteadyTime now);
  void drop_old(SteadyTime now);

  mutable std::mutex mutex_;  ///< guards what follows
  Pieces pieces_;
  std::uint64_t bytes_ = 0;
  std::deque<std::pair<agent::Extent, SteadyTime>> read_;  ///< what readers have read just now
};

}  // namespace atlas::view
