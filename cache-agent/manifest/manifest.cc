#include "cache-agent/manifest/manifest.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include "common/percent.h"

namespace atlas::agent {
namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t kBlockSize = 1024 * 1024;
constexpr std::uint64_t kDiskPage = 4096;

/// A link leaves the dataset when its target, read as text, ends above the root or is absolute and not below it.
bool leaves(std::string_view target, std::size_t depth, std::string_view root) {
  if (target.starts_with('/'))
    return !(target.starts_with(root) && (target.size() == root.size() || target[root.size()] == '/'));
  std::size_t begin = 0;
  auto level = static_cast<std::ptrdiff_t>(depth);
  while (begin <= target.size()) {
    const std::size_t end = std::min(target.find('/', begin), target.size());
    const auto part = target.substr(begin, end - begin);
    if (part == "..") {
      if (--level < 0) return true;
    } else if (!part.empty() && part != ".") {
      ++level;
    }
    begin = end + 1;
  }
  return false;
}

struct HashState {
  XXH3_state_t* state = XXH3_createState();
  HashState() { XXH3_128bits_reset(state); }
  ~HashState() { XXH3_freeState(state); }
  HashState(const HashState&) = delete;
  HashState& operator=(const HashState&) = delete;

  void text(std::string_view bytes) { XXH3_128bits_update(state, bytes.data(), bytes.size()); }
  /// Little-endian, whatever the machine: generations are compared between nodes.
  template <class Int>
  void number(Int value) {
    std::array<unsigned char, sizeof(Int)> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<unsigned char>(static_cast<std::uint64_t>(value) >> (8 * i));
    XXH3_128bits_update(state, bytes.data(), bytes.size());
  }
  [[nodiscard]] GenerationId digest() const {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    GenerationId id;
    std::memcpy(id.digest.data(), canonical.digest, id.digest.size());
    return id;
  }
};

}  // namespace

Manifest::Entry Manifest::at(FileIndex index) const {
  const Compact& c = entries_[index];
  const Owner& owner = owners_[c.owner];
  Entry entry;
  const auto length = static_cast<unsigned char>(arena_[c.name]);
  entry.name = std::string_view(arena_).substr(c.name + 1, length);
  auto& a = entry.attributes;
  a = {c.type, c.flags, owner.mode, owner.uid, owner.gid, c.size, c.mtime, c.ctime, 0};
  if (c.type == EntryType::char_device || c.type == EntryType::block_device) std::swap(a.size, a.rdev);
  entry.parent = c.parent;
  entry.leader = index;
  switch (c.type) {
    case EntryType::directory:
      entry.first_child = c.link;
      entry.children = c.extra;
      break;
    case EntryType::symlink:
      entry.target = std::string_view(arena_).substr(c.link, c.extra);
      break;
    default:
      entry.leader = c.link;
      entry.first_block = c.extra;
      if (c.type == EntryType::file && c.link == index && !entry.opaque())
        entry.blocks = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, (c.size + kBlockSize - 1) / kBlockSize));
  }
  return entry;
}

std::string Manifest::path(FileIndex index) const {
  std::vector<std::string_view> parts;
  for (FileIndex at_index = index; at_index != 0; at_index = entries_[at_index].parent)
    parts.push_back(at(at_index).name);
  std::string out;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (!out.empty()) out += '/';
    out += *part;
  }
  return out;
}

std::optional<FileIndex> Manifest::child(FileIndex directory, std::string_view name) const {
  const Compact& dir = entries_[directory];
  if (dir.type != EntryType::directory) return std::nullopt;
  FileIndex low = dir.link, high = dir.link + dir.extra;
  while (low < high) {
    const FileIndex middle = low + (high - low) / 2;
    if (at(middle).name < name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low < dir.link + dir.extra && at(low).name == name) return low;
  return std::nullopt;
}

std::optional<FileIndex> Manifest::find(std::string_view path) const {
  FileIndex index = 0;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    const auto next = child(index, path.substr(0, end));
    if (!next) return std::nullopt;
    index = *next;
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return index;
}

struct ManifestLoader::State {
  explicit State(std::string root) : dataset_root(std::move(root)) { hash.text("atlas manifest 1\n"); }
  Manifest manifest;
  std::string dataset_root;
  std::map<Manifest::Owner, std::uint32_t> owners;
  std::vector<std::uint16_t> depths;  // of directories' children, by index; only while loading
  HashState hash;
  ManifestSummary summary;
  std::uint64_t blocks = 0;

  Status check_place(const Row& row, FileIndex index);
  void append(const Row& row, FileIndex index);
  void count(const Row& row, FileIndex index);
};

Status ManifestLoader::State::check_place(const Row& row, FileIndex index) {
  auto& entries = manifest.entries_;
  const auto bad = [&](const char* why) {
    return fail(Code::data_loss, "manifest entry " + std::to_string(index) + ": " + why);
  };
  if (index >= kMost || manifest.arena_.size() + row.name.size() + row.target.size() + 1 >= kMost)
    return fail(Code::out_of_range,
                "the dataset has more entries or longer names than a manifest can hold; cache a "
                "part of it");
  if (row.leader > index) return bad("its hard link leader comes after it");
  if (row.leader != index &&
      (row.attributes.type == EntryType::directory || row.attributes.type == EntryType::symlink ||
       entries[row.leader].type != row.attributes.type))
    return bad("its hard link leader is of another type");
  if (index == 0) return row.name.empty() ? Status{} : bad("the root has a name");
  if (row.parent >= index || entries[row.parent].type != EntryType::directory) return bad("its parent is no directory");
  if (row.name.empty() || row.name.size() > 255 || row.name.find('/') != std::string_view::npos || row.name == "." ||
      row.name == "..")
    return bad("its name is no name");
  const auto previous = manifest.at(index - 1);
  if (index > 1 && (row.parent < previous.parent || (row.parent == previous.parent && row.name <= previous.name)))
    return bad("it is out of order");
  return {};
}

void ManifestLoader::State::append(const Row& row, FileIndex index) {
  const auto& a = row.attributes;
  const auto [owner, fresh] =
      owners.try_emplace(Manifest::Owner{a.mode, a.uid, a.gid}, static_cast<std::uint32_t>(manifest.owners_.size()));
  if (fresh) manifest.owners_.push_back(owner->first);
  Manifest::Compact c{};
  const bool device = a.type == EntryType::char_device || a.type == EntryType::block_device;
  c.size = device ? a.rdev : a.size;
  c.mtime = a.mtime;
  c.ctime = a.ctime;
  c.name = static_cast<std::uint32_t>(manifest.arena_.size());
  c.parent = index == 0 ? 0 : row.parent;
  c.owner = owner->second;
  c.type = a.type;
  c.flags = a.flags;
  manifest.arena_ += static_cast<char>(row.name.size());
  manifest.arena_ += row.name;
  if (a.type == EntryType::symlink) {
    c.link = static_cast<std::uint32_t>(manifest.arena_.size());
    c.extra = static_cast<std::uint32_t>(row.target.size());
    manifest.arena_ += row.target;
  } else if (a.type != EntryType::directory) {
    c.link = row.leader;
    c.extra = static_cast<std::uint32_t>(blocks);
  }
  manifest.entries_.push_back(c);
  if (index != 0) {
    auto& parent = manifest.entries_[row.parent];
    if (parent.extra++ == 0) parent.link = index;
  }
}

void ManifestLoader::State::count(const Row& row, FileIndex index) {
  const auto entry = manifest.at(index);
  const auto& a = row.attributes;
  blocks += entry.blocks;
  ++summary.entries;
  if (entry.opaque()) ++summary.opaque;
  if ((a.flags & kBlind) != 0) ++summary.blind;
  if ((a.flags & kWindow) != 0 && summary.windows.size() <= kMostWindows)
    summary.windows.push_back(manifest.path(index));
  if (entry.blocks != 0) {
    ++summary.files;
    summary.bytes += a.size;
    const std::uint64_t disk = std::min(a.size, row.allocated);
    summary.allocated += (disk + kDiskPage - 1) / kDiskPage * kDiskPage;
  }
  if (a.type == EntryType::directory) summary.allocated += kDiskPage;
  if (a.type == EntryType::symlink) {
    std::size_t depth = 0;
    for (FileIndex i = entry.parent; i != 0; i = manifest.entries_[i].parent) ++depth;
    if (leaves(row.target, depth, dataset_root)) ++summary.outward_links;
  }
  hash.number(entry.parent);
  hash.number(entry.leader);
  hash.number(static_cast<std::uint8_t>(a.type));
  hash.number(a.flags);
  hash.number(a.mode);
  hash.number(a.uid);
  hash.number(a.gid);
  hash.number(a.size);
  hash.number(a.mtime);
  hash.number(a.ctime);
  hash.number(a.rdev);
  hash.number(static_cast<std::uint8_t>(row.name.size()));
  hash.text(row.name);
  hash.number(static_cast<std::uint32_t>(row.target.size()));
  hash.text(row.target);
}

ManifestLoader::ManifestLoader(std::string dataset_root) : state_(std::make_unique<State>(std::move(dataset_root))) {}
ManifestLoader::~ManifestLoader() = default;

Status ManifestLoader::add(const Row& row) {
  const FileIndex index = state_->manifest.size();
  ATLAS_TRY(state_->check_place(row, index));
  state_->append(row, index);
  state_->count(row, index);
  if (state_->blocks >= kMost)
    return fail(Code::out_of_range, "the dataset is larger than a manifest can hold (4 PiB)");
  return {};
}

Result<Manifest> ManifestLoader::finish() && {
  if (state_->manifest.entries_.empty()) return fail(Code::failed_precondition, "a manifest without a root");
  auto& summary = state_->summary;
  summary.generation = state_->hash.digest();
  summary.blocks = state_->blocks;
  summary.is_file = state_->manifest.entries_[0].type == EntryType::file;
  summary.owner = state_->manifest.at(0).attributes.uid;
  state_->manifest.summary_ = summary;
  state_->manifest.entries_.shrink_to_fit();
  state_->manifest.arena_.shrink_to_fit();
  return std::move(state_->manifest);
}

std::uint32_t ManifestBuilder::add(std::uint32_t parent, WalkedEntry entry) {
  found_.push_back({std::move(entry), found_.empty() ? 0 : parent});
  return static_cast<std::uint32_t>(found_.size() - 1);
}

void ManifestBuilder::quieten_directories() {
  const auto is_directory = [](const Found& f) { return f.entry.attributes.type == EntryType::directory; };
  for (auto& found : found_)
    if (is_directory(found)) found.entry.attributes.mtime = found.entry.attributes.ctime = 0;
  for (std::size_t i = found_.size() - 1; i > 0; --i) {  // parents come before what is in them
    const auto& mine = found_[i].entry.attributes;
    auto& parent = found_[found_[i].parent].entry.attributes;
    parent.mtime = std::max(parent.mtime, mine.mtime);
    parent.ctime = std::max(parent.ctime, mine.ctime);
  }
}

Result<Manifest> ManifestBuilder::build() && {
  if (found_.size() > 1 && quiet_directories_) quieten_directories();
  if (found_.empty()) return fail(Code::failed_precondition, "a walk without a root");
  if (found_.size() >= kMost) return fail(Code::out_of_range, "the dataset has more entries than a manifest can hold");
  // Children of each directory, together and by name.
  std::vector<std::uint32_t> order(found_.size() - 1);
  std::iota(order.begin(), order.end(), 1U);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return found_[a].parent != found_[b].parent ? found_[a].parent < found_[b].parent
                                                : found_[a].entry.name < found_[b].entry.name;
  });
  for (std::size_t i = 1; i < order.size(); ++i)
    if (found_[order[i]].parent == found_[order[i - 1]].parent &&
        found_[order[i]].entry.name == found_[order[i - 1]].entry.name)
      return fail(Code::aborted, "a directory changed while it was listed: '" + printable(found_[order[i]].entry.name) +
                                     "' appeared twice");
  std::vector<std::uint32_t> begin(found_.size() + 1, 0);
  for (const auto token : order) ++begin[found_[token].parent + 1];
  std::partial_sum(begin.begin(), begin.end(), begin.begin());

  struct Placed {
    std::uint32_t token;
    FileIndex parent;
  };
  std::vector<Placed> placed{{0, 0}};  // breadth first, so children of one directory are contiguous
  placed.reserve(found_.size());
  std::map<std::pair<std::uint64_t, std::uint64_t>, FileIndex> leaders;
  ManifestLoader loader(std::move(dataset_root_));
  for (FileIndex index = 0; index < placed.size(); ++index) {
    const auto [token, parent] = placed[index];
    const WalkedEntry& e = found_[token].entry;
    FileIndex leader = index;
    if (e.links > 1 && e.attributes.type != EntryType::directory && e.attributes.type != EntryType::symlink &&
        (e.attributes.flags & kUnknown) == 0)
      leader = leaders.try_emplace({e.device, e.inode}, index).first->second;
    ATLAS_TRY(loader.add({parent, leader, e.name, e.target, e.attributes, e.allocated}));
    for (std::uint32_t i = begin[token]; i < begin[token + 1]; ++i) placed.push_back({order[i], index});
  }
  return std::move(loader).finish();
}

}  // namespace atlas::agent
