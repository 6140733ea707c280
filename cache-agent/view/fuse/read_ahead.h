#pragma once
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "cache-agent/manifest/ids.h"

namespace atlas::view {

/// Sees in the reads of a file what will be read next: a file in order, or pieces at equal distances. Several readers
/// of one file are told apart by where they are. Knows only what happened, so it is the same over several connections.
/// Thread-safe; never blocks.
class ReadAhead {
 public:
  static constexpr std::uint64_t kMost = 32ULL << 20;  ///< how far the window grows

  struct Piece {
    std::uint64_t offset = 0, length = 0;
    bool operator==(const Piece&) const = default;
  };
  using Pieces = std::vector<Piece>;
  /// A read of a file of this size came; what to fetch besides. Nothing beyond the end, nothing twice.
  [[nodiscard]] Pieces on_read(agent::FileIndex file, std::uint64_t offset, std::uint64_t length, std::uint64_t size);

 private:
  struct Stream {
    std::uint64_t last = 0, end = 0;  ///< of the read that was farthest
    std::int64_t stride = 0;
    unsigned in_order = 0, in_step = 0;  ///< how often the guess was right
    std::uint64_t window = 0;
    std::uint64_t ahead = 0;  ///< in order: asked for up to here
    unsigned steps = 0;       ///< in step: how many pieces are asked for already
    std::uint64_t used = 0;
  };
  struct File {
    std::vector<Stream> streams;
    std::vector<std::uint64_t> strays;  ///< the last two reads that belonged to no stream
    std::list<agent::FileIndex>::iterator place;
  };
  [[nodiscard]] File& file_of(agent::FileIndex file);
  [[nodiscard]] Stream& new_stream(File& file) const;
  [[nodiscard]] static std::vector<Piece> in_order(Stream& stream, std::uint64_t offset, std::uint64_t length,
                                                   std::uint64_t size);
  [[nodiscard]] static std::vector<Piece> in_step(Stream& stream, std::uint64_t offset, std::uint64_t length,
                                                  std::uint64_t size);

  std::mutex mutex_;  ///< guards what follows
  std::map<agent::FileIndex, File> files_;
  std::list<agent::FileIndex> recent_;
  std::uint64_t clock_ = 0;
};

}  // namespace atlas::view
