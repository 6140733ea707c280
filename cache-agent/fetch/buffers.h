#pragma once
#include <condition_variable>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <vector>

#include "common/units.h"

namespace atlas::agent {

/// The memory of pieces that are under way between an origin and the store, bounded as a whole. What is given back is
/// used again, as long as anything is under way: touching fresh pages costs as much as reading into them. It begins on
/// a page, as storage wants it that is read past the page cache. Thread-safe.
class Buffers {
 public:
  explicit Buffers(Bytes limit) : limit_(limit.count) {}
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  static constexpr std::align_val_t kPage{4096};
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete[](memory, kPage); }
  };
  using Memory = std::unique_ptr<std::byte[], Free>;
  /// A piece of memory with anything in it, given back with its last owner; must not outlive this object.
  class Buffer {
   public:
    Buffer(Buffers& home, Memory memory, std::size_t capacity, std::size_t size)
        : home_(home), memory_(std::move(memory)), capacity_(capacity), size_(size) {}
    ~Buffer() { home_.give(std::move(memory_), capacity_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    [[nodiscard]] std::span<std::byte> bytes() const { return {memory_.get(), size_}; }

   private:
    Buffers& home_;
    Memory memory_;
    const std::size_t capacity_, size_;
  };
  /// Blocks while others hold all there may be. One is always granted, however large, but null when
  /// the node has no memory for it.
  [[nodiscard]] std::shared_ptr<Buffer> take(std::size_t size);

 private:
  void give(Memory memory, std::size_t capacity);

  const std::size_t limit_;
  std::mutex mutex_;  ///< guards what follows
  std::condition_variable freed_;
  std::size_t taken_ = 0, kept_ = 0;                 ///< bytes
  std::map<std::size_t, std::vector<Memory>> free_;  ///< by capacity
};

}  // namespace atlas::agent
