#include "cache-agent/view/fuse/request_slots.h"

#include <linux/fuse.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>

namespace atlas::view {
namespace {

/// What is parked are reads and extended attributes by name.
constexpr std::size_t kParkedRoom = 512;
/// More readers of one job than that wait at once on no node we know of. Pages that are not used cost nothing.
constexpr int kParked = 8192;
constexpr std::size_t kHead = 4096;
constexpr unsigned kMostThreads = 64;

struct Head {
  std::uint32_t version;
  std::uint32_t threads;
  std::uint32_t used;  ///< slots for parked requests below this number have been used; the others take no memory
};

constexpr std::size_t size_for(unsigned threads) {
  return kHead + threads * kRequestRoom + kParked * kParkedRoom;
}

std::uint32_t length_of(std::span<const std::byte> slot) {
  std::uint32_t length = 0;
  std::memcpy(&length, slot.data(), sizeof length);
  return length;
}

void set_length(std::span<std::byte> slot, std::uint32_t length) {
  std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(slot.data()))
      .store(length, std::memory_order_release);
}

bool live(std::span<const std::byte> slot) {
  const auto length = length_of(slot);
  return length >= sizeof(fuse_in_header) && length <= slot.size();
}

struct Current {
  std::span<const std::byte> request;
  int slot = -1;  ///< replayed from here
  bool parked = false;
};

Current& at() {
  thread_local Current current;
  return current;
}

}  // namespace

RequestSlots::RequestSlots(UniqueFd memory, std::byte* at, unsigned threads)
    : memory_(std::move(memory)), at_(at), threads_(threads) {
  for (int slot = used() - 1; slot >= 0; --slot)
    if (!live(parked(slot))) free_.push_back(slot);
}

int RequestSlots::used() const {
  return std::clamp(static_cast<int>(reinterpret_cast<const Head*>(at_)->used), 0, kParked);
}

RequestSlots::~RequestSlots() {
  munmap(at_, size_for(threads_));
}

Result<std::shared_ptr<RequestSlots>> RequestSlots::make(unsigned threads) {
  UniqueFd memory(memfd_create("atlas-requests", MFD_CLOEXEC));
  if (!memory) return fail_errno(errno, "memfd_create");
  if (ftruncate(memory.get(), static_cast<off_t>(size_for(threads))) != 0) return fail_errno(errno, "ftruncate");
  const Head head{1, threads, 0};
  // Written before the first request comes: a page that is missing then would fail it.
  const std::string zeros(threads * kRequestRoom, '\0');
  if (pwrite(memory.get(), &head, sizeof head, 0) != sizeof head ||
      pwrite(memory.get(), zeros.data(), zeros.size(), kHead) != static_cast<ssize_t>(zeros.size()))
    return fail_errno(errno, "memory for requests");
  return map(std::move(memory));
}

Result<std::shared_ptr<RequestSlots>> RequestSlots::map(UniqueFd memory) {
  Head head{};
  struct stat st {};
  if (pread(memory.get(), &head, sizeof head, 0) != sizeof head || fstat(memory.get(), &st) != 0 || head.version != 1 ||
      head.threads == 0 || head.threads > kMostThreads ||
      static_cast<std::size_t>(st.st_size) != size_for(head.threads))
    return fail(Code::invalid_argument, "the memory of requests is of another release");
  void* at = mmap(nullptr, size_for(head.threads), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) return fail_errno(errno, "mmap");
  return std::shared_ptr<RequestSlots>(new RequestSlots(std::move(memory), static_cast<std::byte*>(at), head.threads));
}

std::span<std::byte> RequestSlots::of_thread(unsigned thread) const {
  return {at_ + kHead + thread * kRequestRoom, kRequestRoom};
}

std::span<std::byte> RequestSlots::parked(int slot) const {
  return {at_ + kHead + threads_ * kRequestRoom + static_cast<std::size_t>(slot) * kParkedRoom, kParkedRoom};
}

void RequestSlots::clear(std::span<std::byte> slot) {
  set_length(slot, 0);
}

void RequestSlots::current(std::span<const std::byte> request) {
  at() = Current{request, -1, false};
}

int RequestSlots::park_current() {
  auto& current = at();
  if (current.request.empty() || current.request.size() > kParkedRoom) return -1;
  current.parked = true;
  if (current.slot >= 0) return current.slot;  // it is there already
  int slot = -1;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      slot = free_.back();
      free_.pop_back();
    } else if (used() < kParked) {
      slot = used();
      reinterpret_cast<Head*>(at_)->used = static_cast<std::uint32_t>(slot) + 1;
    } else {
      return -1;
    }
  }
  // The length goes last: until then there is no request.
  const auto into = parked(slot);
  std::memcpy(into.data() + 4, current.request.data() + 4, current.request.size() - 4);
  set_length(into, static_cast<std::uint32_t>(current.request.size()));
  return slot;
}

void RequestSlots::free(int slot) {
  if (slot < 0) return;
  clear(parked(slot));
  const std::lock_guard lock(mutex_);
  free_.push_back(slot);
}

void RequestSlots::replay(const std::function<void(std::span<const std::byte>)>& handle) {
  const auto one = [&](std::span<const std::byte> slot, int number) {
    // A copy: once it is answered the slot is cleared and used again.
    const std::vector<std::byte> request(slot.begin(), slot.begin() + length_of(slot));
    at() = Current{request, number, false};
    handle(request);
    const bool parked = at().parked;
    at() = Current{};
    return parked;
  };
  for (int slot = 0, end = used(); slot < end; ++slot)
    if (live(parked(slot)) && !one(parked(slot), slot)) free(slot);
  // After those: what these park gets slots of its own.
  for (unsigned thread = 0; thread < threads_; ++thread) {
    const auto slot = of_thread(thread);
    if (live(slot)) one(slot, -1);
    clear(slot);
  }
}

}  // namespace atlas::view
