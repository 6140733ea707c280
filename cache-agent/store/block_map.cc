#include "cache-agent/store/block_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>  // the same sums, three times as fast where the processor has AVX2
#endif

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "common/units.h"

namespace atlas::agent {

Result<MappedFile> MappedFile::open(int directory, const char* name, std::size_t size, bool create) {
  size = std::max<std::size_t>(size, sizeof(std::uint64_t));
  const UniqueFd fd(openat(directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT | O_EXCL : 0), 0600));
  if (!fd) return fail_errno(errno, std::string("replica's ") + name);
  if (create) {
    if (const int err = posix_fallocate(fd.get(), 0, static_cast<off_t>(size)); err != 0)
      return fail_errno(err, std::string("replica's ") + name);
  }
  struct stat st {};
  if (fstat(fd.get(), &st) != 0) return fail_errno(errno, std::string("replica's ") + name);
  if (static_cast<std::size_t>(st.st_size) != size)
    return fail(Code::data_loss, std::string("replica's ") + name + " has the wrong size");
  MappedFile mapped;
  mapped.data_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapped.data_ == MAP_FAILED) {
    mapped.data_ = nullptr;
    return fail_errno(errno, std::string("cannot map the replica's ") + name);
  }
  mapped.size_ = size;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_);
}

Result<BlockMap> BlockMap::open(int directory, std::uint64_t blocks, bool create) {
  BlockMap map;
  map.blocks_ = blocks;
  map.fresh_.resize((blocks + 63) / 64);
  map.syncing_.resize(map.fresh_.size());
  ATLAS_ASSIGN(map.residency_, MappedFile::open(directory, "residency", (blocks + 63) / 64 * 8, create));
  ATLAS_ASSIGN(map.sums_, MappedFile::open(directory, "sums", blocks * 8, create));
  return map;
}

bool BlockMap::test_all(std::uint64_t first, std::uint64_t count) const {
  for (std::uint64_t block = first; block < first + count; ++block)
    if (!test(block)) return false;
  return true;
}

bool BlockMap::set(std::uint64_t block, std::uint64_t sum) {
  std::atomic_ref(sums_.words()[block]).store(sum, std::memory_order_relaxed);
  const std::uint64_t bit = std::uint64_t{1} << (block % 64);
  atomic(fresh_, block / 64).fetch_or(bit, std::memory_order_relaxed);  // seen by who sees the block
  return (word(block).fetch_or(bit, std::memory_order_acq_rel) & bit) == 0;
}

bool BlockMap::clear(std::uint64_t block) {
  const std::uint64_t bit = std::uint64_t{1} << (block % 64);
  return (word(block).fetch_and(~bit, std::memory_order_acq_rel) & bit) != 0;
}

bool BlockMap::fresh(std::uint64_t first, std::uint64_t count) const {
  for (std::uint64_t block = first, end = first + count; block < end;) {
    const std::uint64_t here = std::min<std::uint64_t>(64 - block % 64, end - block);
    const std::uint64_t bits = atomic(fresh_, block / 64).load() | atomic(syncing_, block / 64).load();
    if ((bits >> (block % 64) & (~std::uint64_t{0} >> (64 - here))) != 0) return true;
    block += here;
  }
  return false;
}

bool BlockMap::any_fresh() const {
  for (std::uint64_t i = 0; i < fresh_.size(); ++i)
    if ((atomic(fresh_, i).load() | atomic(syncing_, i).load()) != 0) return true;
  return false;
}

void BlockMap::mark_fresh() {
  for (std::uint64_t i = 0; i < fresh_.size(); ++i) atomic(fresh_, i).fetch_or(word(i * 64).load());
}

void BlockMap::sync_begins() {
  for (std::uint64_t i = 0; i < fresh_.size(); ++i) {
    const std::uint64_t bits = atomic(fresh_, i).load();
    atomic(syncing_, i).fetch_or(bits);  // first: in between nothing may look proven
    atomic(fresh_, i).fetch_and(~bits);
  }
}

void BlockMap::sync_succeeded() {
  for (std::uint64_t i = 0; i < syncing_.size(); ++i) atomic(syncing_, i).store(0);
}

std::uint64_t sum_of(std::span<const std::byte> block) {
  return XXH3_64bits(block.data(), block.size());
}

std::uint64_t sum_of_zeros(std::size_t size) {
  static const std::vector<std::byte> kZeros(kMiB.count);
  static const std::uint64_t kFull = XXH3_64bits(kZeros.data(), kZeros.size());
  return size == kZeros.size() ? kFull : XXH3_64bits(kZeros.data(), size);
}

}  // namespace atlas::agent
