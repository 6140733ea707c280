#pragma once
#include <atomic>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "common/result.h"

namespace atlas::agent {

/// A file mapped into memory, unmapped when it goes.
class MappedFile {
 public:
  MappedFile() = default;
  /// Creates `name` in the directory with its space really allocated (a full disk must fail here, not as SIGBUS later),
  /// or maps what is there: data_loss when its size is another.
  [[nodiscard]] static Result<MappedFile> open(int directory, const char* name, std::size_t size, bool create);
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedFile();
  [[nodiscard]] std::uint64_t* words() const { return static_cast<std::uint64_t*>(data_); }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Which blocks of a replica are resident, and their checksums. Two mapped files beside the tree ("residency" and
/// "sums"): what is set survives the process at once, and a crash of the machine once the file system was synced.
/// Thread-safe; reading a bit never blocks.
///
/// What this process has set is fresh until a sync of the file system that began later has succeeded: before that the
/// disk may lose it, and the kernel then forgets it without a word.
class BlockMap {
 public:
  [[nodiscard]] static Result<BlockMap> open(int directory, std::uint64_t blocks, bool create);

  [[nodiscard]] std::uint64_t size() const { return blocks_; }
  [[nodiscard]] bool test(std::uint64_t block) const {
    return (word(block).load(std::memory_order_acquire) >> (block % 64) & 1U) != 0;
  }
  [[nodiscard]] bool test_all(std::uint64_t first, std::uint64_t count) const;
  /// The checksum is stored before the bit becomes visible. True when the bit was clear before.
  bool set(std::uint64_t block, std::uint64_t sum);
  /// True when the bit was set before.
  bool clear(std::uint64_t block);
  [[nodiscard]] std::uint64_t sum(std::uint64_t block) const {
    return std::atomic_ref(sums_.words()[block]).load(std::memory_order_relaxed);
  }

  /// Is any of these fresh?
  [[nodiscard]] bool fresh(std::uint64_t first, std::uint64_t count) const;
  [[nodiscard]] bool any_fresh() const;
  /// Takes everything that is resident for fresh: what an earlier process left unsynced.
  void mark_fresh();
  /// A sync begins; one at a time. If it fails, what was fresh stays so.
  void sync_begins();
  /// What was fresh when it began lies on the disk.
  void sync_succeeded();

 private:
  using Words = std::vector<std::uint64_t>;
  [[nodiscard]] static std::atomic_ref<std::uint64_t> atomic(const Words& words, std::uint64_t at) {
    return std::atomic_ref(const_cast<std::uint64_t&>(words[at]));
  }
  [[nodiscard]] std::atomic_ref<std::uint64_t> word(std::uint64_t block) const {
    return std::atomic_ref(residency_.words()[block / 64]);
  }
  std::uint64_t blocks_ = 0;
  MappedFile residency_, sums_;
  Words fresh_, syncing_;  ///< a bit in either of them: fresh
};

/// xxh3-64 of a block.
[[nodiscard]] std::uint64_t sum_of(std::span<const std::byte> block);
/// The checksum of `size` zero bytes, at most one block.
[[nodiscard]] std::uint64_t sum_of_zeros(std::size_t size);

}  // namespace atlas::agent
