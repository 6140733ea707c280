#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::view {

/// The largest request there is, with room to spare: names and attributes' names have at most 255 bytes, and nothing is
/// written.
inline constexpr std::size_t kRequestRoom = std::size_t{16} * 1024;

/// The requests that were read from one connection and have no answer yet, in memory that outlives this process.
/// Kernels from 6.9 on repeat such requests when asked; before them this is how a later agent knows them. Thread-safe.
class RequestSlots {
 public:
  [[nodiscard]] static Result<std::shared_ptr<RequestSlots>> make(unsigned threads);
  /// What an earlier agent has left.
  [[nodiscard]] static Result<std::shared_ptr<RequestSlots>> map(UniqueFd memory);
  ~RequestSlots();
  RequestSlots(const RequestSlots&) = delete;
  RequestSlots& operator=(const RequestSlots&) = delete;

  [[nodiscard]] int memory() const { return memory_.get(); }
  [[nodiscard]] unsigned threads() const { return threads_; }
  /// Where a thread reads its requests into. One that is cleared holds none.
  [[nodiscard]] std::span<std::byte> of_thread(unsigned thread) const;
  static void clear(std::span<std::byte> slot);
  /// Keeps the request that this thread is at until free(); -1 when there is no room for more: that one is lost if this
  /// process is killed, and its reader waits for the holder's deadline.
  [[nodiscard]] int park_current();
  void free(int slot);
  /// Hands out each request that an earlier agent left. Once, before anything is read.
  void replay(const std::function<void(std::span<const std::byte>)>& handle);

  /// The request that the calling thread is at; empty = none.
  static void current(std::span<const std::byte> request);

 private:
  RequestSlots(UniqueFd memory, std::byte* at, unsigned threads);
  [[nodiscard]] std::span<std::byte> parked(int slot) const;
  [[nodiscard]] int used() const;

  UniqueFd memory_;
  std::byte* const at_;
  const unsigned threads_;
  std::mutex mutex_;       ///< guards free_
  std::vector<int> free_;  ///< the last is the next
};

}  // namespace atlas::view
