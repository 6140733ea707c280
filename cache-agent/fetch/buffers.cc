#include "cache-agent/fetch/buffers.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace atlas::agent {
namespace {

constexpr std::size_t kLeast = 64 * 1024;
/// Of what is free at the moment.
constexpr std::size_t kMostKept = 64 * 1024 * 1024;

}  // namespace

std::shared_ptr<Buffers::Buffer> Buffers::take(std::size_t size) {
  const std::size_t capacity = std::bit_ceil(std::max(size, kLeast));
  Memory memory;
  {
    std::unique_lock lock(mutex_);
    freed_.wait(lock, [&] { return taken_ == 0 || taken_ + capacity <= limit_; });
    taken_ += capacity;
    auto& free = free_[capacity];
    if (!free.empty()) {
      memory = std::move(free.back());
      free.pop_back();
      kept_ -= capacity;
    }
  }
  if (!memory) memory = Memory(new (kPage, std::nothrow) std::byte[capacity]);
  if (!memory) {
    give(nullptr, capacity);
    return nullptr;
  }
  return std::make_shared<Buffer>(*this, std::move(memory), capacity, size);
}

void Buffers::give(Memory memory, std::size_t capacity) {
  decltype(free_) idle;  // goes outside the lock
  {
    const std::lock_guard lock(mutex_);
    taken_ -= capacity;
    if (taken_ == 0) {
      idle = std::exchange(free_, {});
      kept_ = 0;
    } else if (memory && kept_ + capacity <= kMostKept) {
      free_[capacity].push_back(std::move(memory));
      kept_ += capacity;
    }
  }
  freed_.notify_all();  // who waits for less may go first
}

}  // namespace atlas::agent
