#include "cache-agent/view/fuse/writable_nodes.h"

#include <algorithm>
#include <utility>

#include "cache-agent/origin/walker.h"

namespace atlas::view {

using agent::FileIndex;

WritableNodes::WritableNodes(const agent::Manifest& manifest) : manifest_(manifest), spoilt_(manifest.size()) {
  Node root;
  root.index = 0;
  root.lookups = 1;
  nodes_.emplace(kRoot, std::move(root));
}

WritableNodes::Key WritableNodes::key_of(const Live& live) {
  return {live.st.st_dev, live.st.st_ino, live.born, live.st.st_mode & S_IFMT};
}

bool WritableNodes::Place::is(const Live& live) const {
  return root || (inode == live.st.st_ino && born == live.born && type == (live.st.st_mode & S_IFMT));
}

std::optional<WritableNodes::Place> WritableNodes::place(std::uint64_t id) const {
  const std::lock_guard lock(mutex_);
  auto at = nodes_.find(id);
  if (at == nodes_.end()) return std::nullopt;
  Place out{"", at->second.key.inode, at->second.key.born, at->second.key.type, id == kRoot};
  while (at->first != kRoot) {
    out.path = out.path.empty() ? at->second.name : at->second.name + "/" + out.path;
    at = nodes_.find(at->second.parent);
    if (at == nodes_.end()) return std::nullopt;
  }
  return out;
}

std::uint64_t WritableNodes::found(std::uint64_t parent, const std::string& name, const Live& live) {
  const Key key = key_of(live);
  const std::lock_guard lock(mutex_);
  const auto [at, fresh] = by_key_.try_emplace(key, next_);
  const auto id = at->second;
  Node& node = nodes_[id];
  if (fresh) {
    ++next_;
    node.key = key;
    node.index = index_at(parent, name);
  }
  ++node.lookups;
  hang(id, node, parent, name);
  return id;
}

/// mutex_ is held. Nothing hangs below itself: a directory is found below another one than before only after a rename
/// that this view did not make, and of that no circle can come at the origin; in between one could here.
void WritableNodes::hang(std::uint64_t id, Node& node, std::uint64_t parent, const std::string& name) {
  if (node.parent != parent) {
    for (auto above = parent; above != kRoot;) {
      const auto at = nodes_.find(above);
      if (above == id || at == nodes_.end()) return;
      above = at->second.parent;
    }
    ++nodes_[parent].children;
    const auto before = std::exchange(node.parent, parent);
    if (const auto at = nodes_.find(before); at != nodes_.end()) {
      --at->second.children;
      drop_unused(before);
    }
  }
  node.name = name;
}

void WritableNodes::forget(std::uint64_t id, std::uint64_t times) {
  const std::lock_guard lock(mutex_);
  const auto at = nodes_.find(id);
  if (at == nodes_.end() || id == kRoot) return;
  at->second.lookups -= std::min(at->second.lookups, times);
  drop_unused(id);
}

/// mutex_ is held.
void WritableNodes::drop_unused(std::uint64_t id) {
  while (id != kRoot) {
    const auto at = nodes_.find(id);
    if (at == nodes_.end() || at->second.lookups != 0 || at->second.children != 0) return;
    id = at->second.parent;
    by_key_.erase(at->second.key);
    nodes_.erase(at);
    const auto above = nodes_.find(id);
    if (above == nodes_.end()) return;
    --above->second.children;
  }
}

/// mutex_ is held.
FileIndex WritableNodes::index_at(std::uint64_t parent, const std::string& name) const {
  const auto above = nodes_.find(parent);
  if (above == nodes_.end() || above->second.index == kNone) return kNone;
  const auto child = manifest_.child(above->second.index, name);
  return child && !spoilt(*child) ? *child : kNone;
}

/// Of hard links all names are one file.
bool WritableNodes::spoilt(FileIndex index) const {
  return spoilt_[index] || spoilt_[manifest_.at(index).leader];
}

std::optional<FileIndex> WritableNodes::cached(std::uint64_t id, const struct stat& now) {
  const std::lock_guard lock(mutex_);
  const auto at = nodes_.find(id);
  if (at == nodes_.end() || at->second.index == kNone || !S_ISREG(now.st_mode)) return std::nullopt;
  Node& node = at->second;
  const auto entry = manifest_.at(node.index);
  auto walked = entry.attributes;
  walked.flags = 0;
  if (!entry.opaque() && !spoilt(node.index) && agent::attributes_of(now) == walked) return entry.leader;
  spoilt_[node.index] = spoilt_[entry.leader] = true;
  node.index = kNone;
  return std::nullopt;
}

std::optional<FileIndex> WritableNodes::unchanged(std::uint64_t id) const {
  const std::lock_guard lock(mutex_);
  const auto at = nodes_.find(id);
  if (at == nodes_.end() || at->second.index == kNone || spoilt(at->second.index)) return std::nullopt;
  return manifest_.at(at->second.index).leader;
}

void WritableNodes::touch(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto at = nodes_.find(id);
  if (at == nodes_.end() || at->second.index == kNone) return;
  const auto entry = manifest_.at(at->second.index);
  if (entry.is(agent::EntryType::directory)) return;  // it is their names that count
  spoilt_[at->second.index] = spoilt_[entry.leader] = true;
}

/// The file itself may live on under another name, and stays what it is: its node keeps its index.
void WritableNodes::touch_name(std::uint64_t parent, const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto above = nodes_.find(parent);
  if (above == nodes_.end() || above->second.index == kNone) return;
  if (const auto child = manifest_.child(above->second.index, name)) spoilt_[*child] = true;
}

void WritableNodes::moved(const Live& live, std::uint64_t parent, const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (const auto at = by_key_.find(key_of(live)); at != by_key_.end())
    hang(at->second, nodes_[at->second], parent, name);
}

}  // namespace atlas::view
