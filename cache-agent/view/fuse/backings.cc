#include "cache-agent/view/fuse/backings.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace atlas::view {
namespace {

using agent::FileIndex;

constexpr std::uint64_t kMagic = 0x3153474e4b434142;  // "BACKNGS1"
constexpr std::size_t kHead = 4096;
constexpr std::int32_t kRefused = -1;
constexpr std::uint32_t kAway = 1, kBack = 2, kOneOpen = 4;  // of Entry::state

}  // namespace

struct Backings::Head {
  std::uint64_t magic = kMagic;
  std::uint64_t entries = 0;
  /// Opens of a root that is a file which are read through this process, and one more: 0 = nobody has counted them.
  std::uint64_t root_opens = 1;
};

Result<Backings::Head> Backings::head_of(int memory) {
  Head head;
  if (pread(memory, &head, sizeof head, 0) != sizeof head || head.magic != kMagic)
    return fail(Code::invalid_argument, "the memory of what the kernel reads is of another release");
  return head;
}

Backings::Backings(UniqueFd memory, std::byte* at, FileIndex entries, Kernel kernel, std::size_t idle)
    : memory_(std::move(memory)), at_(at), entries_(entries), kernel_(std::move(kernel)), most_idle_(idle) {
  static_assert(sizeof(Entry) == 8);
}

Backings::~Backings() {
  munmap(at_, kHead + entries_ * sizeof(Entry));
}

Result<std::shared_ptr<Backings>> Backings::make(FileIndex entries, Kernel kernel, std::size_t idle) {
  UniqueFd memory(memfd_create("atlas-backings", MFD_CLOEXEC));
  if (!memory) return fail_errno(errno, "memfd_create");
  // Entries of files that nobody opens take no memory.
  if (ftruncate(memory.get(), static_cast<off_t>(kHead + entries * sizeof(Entry))) != 0)
    return fail_errno(errno, "ftruncate");
  const Head head{kMagic, entries, 1};
  if (pwrite(memory.get(), &head, sizeof head, 0) != sizeof head) return fail_errno(errno, "memory for backing ids");
  return map(std::move(memory), entries, std::move(kernel), idle);
}

Result<std::shared_ptr<Backings>> Backings::map(UniqueFd memory, FileIndex entries, Kernel kernel, std::size_t idle) {
  ATLAS_ASSIGN(const auto head, head_of(memory.get()));
  const std::size_t size = kHead + entries * sizeof(Entry);
  struct stat st {};
  if (head.entries != entries || fstat(memory.get(), &st) != 0 || static_cast<std::size_t>(st.st_size) != size)
    return fail(Code::invalid_argument, "the memory of what the kernel reads is of another generation");
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) return fail_errno(errno, "mmap");
  std::shared_ptr<Backings> made(
      new Backings(std::move(memory), static_cast<std::byte*>(at), entries, std::move(kernel), idle));
  ATLAS_TRY(made->recall());
  return made;
}

bool Backings::made(int memory) {
  return head_of(memory).has_value();
}

/// Reads by calls: a look at the mapping would make pages for all the files that nobody has opened.
Status Backings::recall() {
  const std::lock_guard lock(mutex_);
  std::vector<Entry> some(8192);
  for (FileIndex first = 0; first < entries_; first += static_cast<FileIndex>(some.size())) {
    const std::size_t count = std::min<std::size_t>(some.size(), entries_ - first);
    const auto want = static_cast<ssize_t>(count * sizeof(Entry));
    if (pread(memory_.get(), some.data(), count * sizeof(Entry), static_cast<off_t>(kHead + first * sizeof(Entry))) !=
        want)
      return fail_errno(errno, "read the memory of backing ids");
    for (std::size_t i = 0; i < count; ++i) {
      if (some[i].id <= 0) continue;
      const auto file = static_cast<FileIndex>(first + i);
      vouched_.insert(file);
      if (some[i].state >= kOneOpen) {
        open_.insert(file);
      } else {
        places_[file] = idle_.insert(idle_.end(), file);
      }
    }
  }
  return {};
}

Backings::Head& Backings::head() const {
  return *reinterpret_cast<Head*>(at_);
}

Backings::Entry& Backings::entry(FileIndex file) const {
  return *reinterpret_cast<Entry*>(at_ + kHead + file * sizeof(Entry));
}

Result<std::int32_t> Backings::acquire(FileIndex file) {
  {
    const std::lock_guard lock(mutex_);
    auto& known = entry(file);
    if (known.id == kRefused) return fail(Code::unavailable, "the kernel does not read this file by itself");
    take_up(file);
    if (known.id > 0) return known.id;
  }
  const auto made = kernel_.open(file);
  std::unique_lock lock(mutex_);
  auto& known = entry(file);
  if (known.id > 0) {  // somebody else was faster
    const std::int32_t id = known.id;
    lock.unlock();
    if (made) kernel_.close(*made);
    return id;
  }
  if (made) return known.id = *made;
  known.id = kRefused;
  put_down(file);
  return fail(made.error());
}

/// One open more. mutex_ is held.
void Backings::take_up(FileIndex file) {
  entry(file).state += kOneOpen;
  open_.insert(file);
  if (const auto it = places_.find(file); it != places_.end()) {
    idle_.erase(it->second);
    places_.erase(it);
  }
}

/// One open less. mutex_ is held.
void Backings::put_down(FileIndex file) {
  auto& known = entry(file);
  if (known.state < kOneOpen) return;
  known.state -= kOneOpen;
  if (known.state >= kOneOpen) return;
  open_.erase(file);
  if (known.id > 0) places_[file] = idle_.insert(idle_.begin(), file);
}

/// Ids to be given back. mutex_ is held.
std::vector<std::int32_t> Backings::take_spare() {
  std::vector<std::int32_t> spare;
  while (idle_.size() > most_idle_) {
    auto& oldest = entry(idle_.back());
    // Forgotten here first: killed in between, one id is lost until the connection ends. The other way round a later
    // agent would hand out an id that is no more.
    spare.push_back(std::exchange(oldest.id, 0));
    places_.erase(idle_.back());
    idle_.pop_back();
  }
  return spare;
}

void Backings::release(FileIndex file) {
  std::vector<std::int32_t> spare;
  {
    const std::lock_guard lock(mutex_);
    put_down(file);
    spare = take_spare();
  }
  for (const auto id : spare) kernel_.close(id);
}

/// One open more in the way that is the only one now; nothing = an id must be made first. mutex_ is held.
std::optional<std::int32_t> Backings::join_root(bool passable) {
  auto& known = entry(0);
  auto& others = head().root_opens;
  const bool passed = known.state >= kOneOpen, free = others == 1;
  if (passed || (free && passable && known.id > 0)) {
    take_up(0);
    return known.id;
  }
  if (free && passable && known.id != kRefused) return std::nullopt;
  if (others != 0) ++others;
  return 0;
}

std::int32_t Backings::open_root(bool passable) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto id = join_root(passable)) return *id;
  }
  const auto made = kernel_.open(0);
  std::unique_lock lock(mutex_);
  auto& known = entry(0);
  const bool first = known.id <= 0;
  if (first) {
    known.id = made ? *made : kRefused;
    if (made) places_[0] = idle_.insert(idle_.begin(), FileIndex{0});
  }
  const std::int32_t id = join_root(passable).value_or(0);
  lock.unlock();
  if (!first && made) kernel_.close(*made);  // somebody else was faster
  return id;
}

void Backings::close_root(bool passed) {
  if (passed) return release(0);
  const std::lock_guard lock(mutex_);
  if (auto& others = head().root_opens; others > 1) --others;
}

bool Backings::root_passed() const {
  const std::lock_guard lock(mutex_);
  return entry(0).state >= kOneOpen;
}

bool Backings::refused(FileIndex file) const {
  const std::lock_guard lock(mutex_);
  return entry(file).id == kRefused;
}

std::vector<FileIndex> Backings::open_files() const {
  const std::lock_guard lock(mutex_);
  return {open_.begin(), open_.end()};
}

bool Backings::vouched(FileIndex file) const {
  const std::lock_guard lock(mutex_);
  return vouched_.contains(file);
}

bool Backings::send_away(FileIndex file) {
  const std::lock_guard lock(mutex_);
  auto& known = entry(file);
  const auto was = known.state & (kAway | kBack);
  known.state = (known.state & ~(kAway | kBack)) | (was == kBack ? 0 : kAway);
  return was == 0;
}

void Backings::came_back(FileIndex file) {
  const std::lock_guard lock(mutex_);
  vouched_.erase(file);
  auto& known = entry(file);
  known.state = (known.state & ~kAway) | kBack;
}

}  // namespace atlas::view
