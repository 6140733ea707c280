#include "cache-agent/store/replica.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cache-agent/store/replica_state.h"
#include "cache-agent/store/swapped_users.h"
#include "common/percent.h"

namespace atlas::agent {
namespace {

std::uint64_t blocks_of(std::uint64_t length) {
  return (length + kBlock.count - 1) / kBlock.count;
}

/// The piece of a file that one of its blocks is.
std::uint64_t length_of_block(std::uint64_t size, std::uint64_t block) {
  return std::min(kBlock.count, size - std::min(size, block * kBlock.count));
}

Status check_extent(const Manifest& manifest, const Extent& e) {
  if (e.file >= manifest.size()) return fail(Code::invalid_argument, "no such entry in the manifest");
  const auto entry = manifest.at(e.file);
  const std::uint64_t end = e.offset.count + e.length.count;
  if (entry.blocks == 0 || e.offset.count % kBlock.count != 0 || end > entry.attributes.size ||
      (end % kBlock.count != 0 && end != entry.attributes.size))
    return fail(Code::invalid_argument, printable(manifest.path(e.file)) + ": not a piece of whole blocks");
  return {};
}

}  // namespace

Replica::Replica(std::unique_ptr<State> state) : state_(std::move(state)) {}
Replica::~Replica() = default;

const DatasetId& Replica::dataset() const {
  return state_->dataset;
}
const ManifestSummary& Replica::summary() const {
  return state_->summary;
}
const std::string& Replica::tier() const {
  return state_->tier;
}
ReplicaState Replica::state() const {
  return state_->state.load(std::memory_order_acquire);
}
Bytes Replica::bytes_resident() const {
  return Bytes{state_->bytes_resident.load(std::memory_order_relaxed)};
}
std::uint64_t Replica::files_resident() const {
  return state_->files_resident.load(std::memory_order_relaxed);
}

Result<std::shared_ptr<const Manifest>> Replica::manifest() const {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->manifest) return state_->manifest;
  }
  ATLAS_ASSIGN(auto loaded, load_manifest(state_->path, state_->dataset_root, state_->summary.generation));
  const std::lock_guard lock(state_->mutex);
  if (!state_->manifest) state_->manifest = std::move(loaded);
  return state_->manifest;
}

void Replica::forget_manifest() {
  const std::lock_guard lock(state_->mutex);
  if (state() == ReplicaState::complete) state_->manifest.reset();
}

void Replica::State::count_resident(const Manifest& from) {
  std::uint64_t bytes = 0, files = 0;
  for (FileIndex i = 0; i < from.size(); ++i) {
    const auto entry = from.at(i);
    if (entry.blocks == 0) continue;
    std::uint32_t here = 0;
    for (std::uint32_t b = 0; b < entry.blocks; ++b) {
      if (!blocks.test(entry.first_block + b)) continue;
      ++here;
      bytes += length_of_block(entry.attributes.size, b);
    }
    if (here == entry.blocks) ++files;
  }
  bytes_resident = bytes;
  files_resident = files;
  room.set_used(bytes);
}

bool Replica::resident(const Manifest& manifest, const Extent& extent) const {
  const auto entry = manifest.at(extent.file);
  if (entry.blocks == 0) return false;
  const std::uint64_t first = extent.offset.count / kBlock.count;
  const std::uint64_t last = std::max(first + 1, blocks_of(extent.offset.count + extent.length.count));
  return last <= entry.blocks && state_->blocks.test_all(entry.first_block + first, last - first);
}

bool Replica::proven(const Manifest& manifest, const Extent& extent) const {
  if (state() == ReplicaState::complete) return true;
  const std::uint64_t first = extent.offset.count / kBlock.count;
  const std::uint64_t last = std::max(first + 1, blocks_of(extent.offset.count + extent.length.count));
  if (!state_->blocks.fresh(manifest.at(extent.file).first_block + first, last - first)) return true;
  state_->flush_wanted.store(true, std::memory_order_relaxed);
  return false;
}

bool Replica::zeros(const Manifest& manifest, FileIndex file, Bytes block) const {
  const auto entry = manifest.at(file);
  const std::uint64_t number = block.count / kBlock.count;
  return resident(manifest, {file, block, Bytes{1}}) &&
         state_->blocks.sum(entry.first_block + number) == sum_of_zeros(length_of_block(entry.attributes.size, number));
}

Result<UniqueFd> Replica::open_file(const Manifest& manifest, FileIndex file) const {
  return state_->tree.open_file(manifest, file);
}

Result<FileMeta> Replica::meta_of(const Manifest& manifest, FileIndex file) const {
  return state_->tree.meta_of(manifest, file);
}

void Replica::keep_only_before(std::int64_t time) {
  state_->kept_before.store(time, std::memory_order_relaxed);
}

bool Replica::keeps(const EntryAttributes& file) const {
  return std::max(file.mtime, file.ctime) <= state_->kept_before.load(std::memory_order_relaxed);
}

bool Replica::has_room_for(const Manifest& manifest, const Extent& extent) const {
  const auto entry = manifest.at(extent.file);
  const std::uint64_t last =
      std::min<std::uint64_t>(entry.blocks, blocks_of(extent.offset.count + extent.length.count));
  std::uint64_t more = 0;
  for (std::uint64_t block = extent.offset.count / kBlock.count; block < last; ++block)
    if (!state_->blocks.test_all(entry.first_block + block, 1)) more += length_of_block(entry.attributes.size, block);
  return state_->room.fits(more) && !state_->is_crowded();
}

bool Replica::may_hold_all() const {
  return state_->room.most() == Room::kNoLimit;
}

Status Replica::prepare() {
  ATLAS_ASSIGN(const auto entries, manifest());
  return state_->tree.make_skeleton(*entries);
}

Status Replica::commit(const Extent& extent, std::span<const std::byte> data, const BlockSums& sums,
                       const FileMeta* meta) {
  ATLAS_ASSIGN(const auto entries, manifest());
  ATLAS_TRY(check_extent(*entries, extent));
  if (data.size() != extent.length.count || sums.size() != blocks_of(data.size()))
    return fail(Code::invalid_argument, "data and checksums do not fit the extent");
  std::vector<std::uint8_t> zero(sums.size());
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < zero.size(); ++i) {
    const auto block =
        data.subspan(i * kBlock.count, std::min<std::size_t>(kBlock.count, data.size() - i * kBlock.count));
    // Equal to itself, one further: a run of its first byte. Ends at the first byte that differs.
    zero[i] = !block.empty() && block[0] == std::byte{0} &&
              std::memcmp(block.data(), block.data() + 1, block.size() - 1) == 0;
    if (zero[i] == 0) bytes += block.size();
  }
  if (bytes != 0) ATLAS_TRY(state_->charge(bytes));
  const auto entry = entries->at(extent.file);
  if (auto written = state_->tree.write(
          *entries, {extent.file, extent.offset.count, data, extent.length.count, zero, meta, entry.blocks == 1});
      !written) {
    state_->room.give(bytes);
    return disk_failure(written.error(), printable(entries->path(extent.file)));
  }
  return finish_commit(*entries, extent, sums);
}

Status Replica::commit_hole(const Extent& extent, const FileMeta* meta) {
  ATLAS_ASSIGN(const auto entries, manifest());
  ATLAS_TRY(check_extent(*entries, extent));
  const auto entry = entries->at(extent.file);
  if (auto written = state_->tree.write(
          *entries, {extent.file, extent.offset.count, {}, extent.length.count, {}, meta, entry.blocks == 1});
      !written)
    return disk_failure(written.error(), printable(entries->path(extent.file)));
  BlockSums sums(std::max<std::uint64_t>(1, blocks_of(extent.length.count)), sum_of_zeros(kBlock.count));
  sums.back() = sum_of_zeros(extent.length.count - (sums.size() - 1) * kBlock.count);
  return finish_commit(*entries, extent, sums);
}

/// An error of the tier, not of the origin: full, unable to hold an ACL, or (internal) broken.
tl::unexpected<Error> Replica::disk_failure(Error error, const std::string& path) const {
  state_->failed(error);
  if (error.code != Code::resource_exhausted && error.code != Code::unimplemented) error.code = Code::internal;
  return fail(error.in("tier " + state_->tier + ": " + path));
}

Status Replica::finish_commit(const Manifest& manifest, const Extent& extent, const BlockSums& sums) {
  const auto entry = manifest.at(extent.file);
  const std::uint64_t first = extent.offset.count / kBlock.count;
  const std::uint64_t count = std::max<std::uint64_t>(1, sums.size());
  std::uint64_t bytes = 0;
  const std::lock_guard lock(state_->mutex);  // only so that exactly one of two committers sees the file become whole
  bool news = false;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (!state_->blocks.set(entry.first_block + first + i, sums.empty() ? sum_of_zeros(0) : sums[i])) continue;
    news = true;
    bytes += length_of_block(entry.attributes.size, first + i);
  }
  state_->bytes_resident.fetch_add(bytes, std::memory_order_relaxed);
  if (news && state_->blocks.test_all(entry.first_block, entry.blocks))
    state_->files_resident.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Status Replica::adopt(const Extent& whole, const BlockSums& sums) {
  ATLAS_ASSIGN(const auto entries, manifest());
  ATLAS_TRY(check_extent(*entries, whole));
  return finish_commit(*entries, whole, sums);
}

Result<Bytes> Replica::read(const Extent& extent, std::span<std::byte> into, Verify verify) {
  ATLAS_ASSIGN(const auto entries, manifest());
  const auto entry = entries->at(extent.file);
  const std::uint64_t size = entry.attributes.size;
  const std::uint64_t length = std::min(
      {extent.length.count, static_cast<std::uint64_t>(into.size()), size - std::min(size, extent.offset.count)});
  const Extent want{extent.file, extent.offset, Bytes{length}};
  if (length == 0) return Bytes{0};
  if (!resident(*entries, want)) return fail(Code::not_found, printable(entries->path(extent.file)) + ": not resident");
  if (verify == Verify::no) {
    ATLAS_ASSIGN(const std::size_t got,
                 state_->tree.read(*entries, extent.file, extent.offset.count, into.first(length)));
    if (got == length) return Bytes{length};
  }
  std::vector<std::byte> block;  // for those of which only a part is wanted
  for (std::uint64_t at = extent.offset.count; at < extent.offset.count + length;) {
    const std::uint64_t number = at / kBlock.count, begin = number * kBlock.count;
    const std::uint64_t of_block = length_of_block(size, number), end = extent.offset.count + length;
    const bool in_place = at == begin && end - at >= of_block;
    if (!in_place) block.resize(kBlock.count);
    const auto whole = in_place ? into.subspan(at - extent.offset.count, of_block) : std::span(block).first(of_block);
    const auto got = state_->tree.read(*entries, extent.file, begin, whole);
    if (!got || *got != whole.size() || sum_of(whole) != state_->blocks.sum(entry.first_block + number)) {
      lose(entry, number);
      return fail(Code::data_loss, state_->path + "/tree/" + printable(entries->path(extent.file)) + ": block " +
                                       std::to_string(number) +
                                       " does not match its checksum; it will be fetched again");
    }
    const std::uint64_t take = std::min(begin + of_block, end) - at;
    if (!in_place) std::memcpy(into.data() + (at - extent.offset.count), whole.data() + (at - begin), take);
    at += take;
  }
  return Bytes{length};
}

/// A block is not what it should be: it is no longer resident, and the replica no longer complete.
void Replica::lose(const Manifest::Entry& entry, std::uint64_t number) {
  std::unique_lock lock(state_->mutex);
  const bool was_whole = state_->blocks.test_all(entry.first_block, entry.blocks);
  if (!state_->blocks.clear(entry.first_block + number)) return;
  state_->bytes_resident.fetch_sub(length_of_block(entry.attributes.size, number), std::memory_order_relaxed);
  if (was_whole) state_->files_resident.fetch_sub(1, std::memory_order_relaxed);
  const bool was_complete = state_->state.exchange(ReplicaState::partial) == ReplicaState::complete;
  lock.unlock();
  if (was_complete && state_->damaged) state_->damaged();
}

Result<Replica::Verified> Replica::verify(const Step& step) {
  ATLAS_ASSIGN(const auto entries, manifest());
  Verified result;
  Bytes compared;
  std::vector<std::byte> block(kBlock.count);
  for (FileIndex i = 0; i < entries->size(); ++i) {
    const auto entry = entries->at(i);
    if (entry.blocks != 0 && state_->blocks.test(entry.first_block)) state_->tree.forget(*entries, i);
    for (std::uint32_t b = 0; b < entry.blocks; ++b) {
      if (!state_->blocks.test(entry.first_block + b)) continue;
      ++result.checked;
      compared.count += length_of_block(entry.attributes.size, b);
      if (step && !step(compared)) return fail(Code::cancelled, "the comparison was stopped");
      const std::uint64_t length = length_of_block(entry.attributes.size, b);
      if (length == 0) {  // an empty file: is it there at all?
        std::byte none{};
        if (state_->tree.read(*entries, i, 0, std::span(&none, 1)).value_or(1) == 0) continue;
        lose(entry, b);
        ++result.bad;
        continue;
      }
      const auto read_back = read({i, Bytes{b * kBlock.count}, Bytes{length}}, block, Verify::yes);
      if (read_back) continue;
      if (read_back.error().code != Code::data_loss) return fail(read_back.error());
      ++result.bad;
    }
  }
  return result;
}

Status Replica::seal(const Principal& as, const std::map<FileIndex, FileMeta>& metas) {
  ATLAS_ASSIGN(const auto entries, manifest());
  if (files_resident() != state_->summary.files)
    return fail(Code::failed_precondition,
                std::to_string(state_->summary.files - files_resident()) + " files are not resident");
  return state_->tree.finish(*entries, as, metas);
}

std::string Replica::why_not_mountable_for(const Principal& principal) const {
  const auto& s = state_->summary;
  if (state() != ReplicaState::complete) {
    const std::uint64_t percent = s.bytes == 0 ? 0 : bytes_resident().count * 100 / s.bytes;
    return "only " + std::to_string(percent) + "% of it is on this node so far";
  }
  return why_not_viewable_for(principal);
}

std::string Replica::why_not_viewable_for(const Principal& principal) const {
  const auto& s = state_->summary;
  if (s.blind != 0) return "it holds directories that may be entered but not listed, which cannot be cached";
  if (s.opaque == 0) return "";
  const std::lock_guard lock(state_->mutex);
  if (state_->vouchers.contains(key_of(normalize(principal)))) return "";
  return "it holds " + std::to_string(s.opaque) + " entries that not everyone may read, and was cached for other users";
}

Result<std::vector<UniqueFd>> Replica::mounts(int copies, MountFlags flags) const {
  if (state() != ReplicaState::complete)
    return fail(Code::failed_precondition, show(state_->dataset) + ": the replica is not complete");
  UniqueFd mapping;
  if (flags.swap) {
    ATLAS_ASSIGN(mapping, swapped_users(flags.swap->owner, flags.swap->shown_as));
  }
  std::vector<UniqueFd> mounts;
  for (int i = 0; i < copies; ++i) {
    UniqueFd fd(open_tree(state_->tree.directory(), "tree",
                          OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW));
    if (!fd) return fail_errno(errno, "open_tree " + state_->path + "/tree");
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME |
                          (flags.noexec ? MOUNT_ATTR_NOEXEC : 0U);
    attributes.attr_clr = MOUNT_ATTR__ATIME;
    attributes.propagation = MS_PRIVATE;
    if (mapping) {
      attributes.attr_set |= MOUNT_ATTR_IDMAP;
      attributes.userns_fd = static_cast<__u64>(mapping.get());
    }
    if (mount_setattr(fd.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0)
      return fail_errno(errno, "mount_setattr " + state_->path + "/tree");
    mounts.push_back(std::move(fd));
  }
  return mounts;
}

}  // namespace atlas::agent
