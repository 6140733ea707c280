#include "cache-agent/view/fuse/view_core.h"

namespace atlas::view {
namespace {

using agent::EntryType;
using agent::FileIndex;
using agent::FileMeta;

constexpr std::size_t kBatch = 32;

}  // namespace

std::string origin_path(const DatasetId& dataset, const std::string& below) {
  return dataset.path.empty() || below.empty() ? dataset.path + below : dataset.path + "/" + below;
}

void Metas::find(FileIndex index, Found found) {
  const auto entry = manifest_.at(index);
  const bool may_have = entry.is(EntryType::directory) || entry.is(EntryType::file);
  if (!may_have || (entry.attributes.flags & agent::kUnknown) != 0) return found(FileMeta{});
  bool asks = false, stored = true;
  {
    std::unique_lock lock(mutex_);
    if (const auto it = known_.find(index); it != known_.end()) {
      const FileMeta meta = it->second;
      lock.unlock();
      return found(meta);
    }
    if (entry.blocks == 0 || !parts_.replica->resident(manifest_, {index, Bytes{0}, Bytes{0}})) {
      auto& waiting = asked_[index];
      asks = waiting.empty();
      waiting.push_back(found);
      stored = false;
    }
  }
  if (stored) return found(parts_.replica->meta_of(manifest_, index));
  if (asks) ask({index}, core_.lock(), agent::Urgency::fault);
}

void Metas::fetch_directories(const std::shared_ptr<ViewCore>& keep) {
  std::vector<FileIndex> batch;
  for (FileIndex i = 0; i < manifest_.size(); ++i) {
    const auto entry = manifest_.at(i);
    if (!entry.is(EntryType::directory) || (entry.attributes.flags & agent::kUnknown) != 0) continue;
    {
      const std::lock_guard lock(mutex_);
      asked_[i].push_back([](const auto&) {});  // who asks meanwhile waits for this one
    }
    batch.push_back(i);
    if (batch.size() == kBatch) ask(std::exchange(batch, {}), keep, agent::Urgency::read_ahead);
  }
  if (!batch.empty()) ask(std::move(batch), keep, agent::Urgency::read_ahead);
}

void Metas::ask(std::vector<FileIndex> which, std::shared_ptr<void> keep, agent::Urgency urgency) {
  parts_.origin->run(parts_.as, urgency, [this, keep = std::move(keep), which = std::move(which)](const Status& able) {
    for (const FileIndex index : which) {
      if (!able) {
        learn(index, ::atlas::fail(able.error()));
        continue;
      }
      const std::string path = origin_path(parts_.replica->dataset(), manifest_.path(index));
      learn(index, parts_.origin->meta_of(path, manifest_.at(index).attributes));
    }
  });
}

void Metas::learn(FileIndex index, const Result<FileMeta>& meta) {
  std::vector<Found> waiting;
  {
    const std::lock_guard lock(mutex_);
    if (meta) known_[index] = *meta;
    if (const auto it = asked_.find(index); it != asked_.end()) {
      waiting = std::move(it->second);
      asked_.erase(it);
    }
  }
  for (const auto& found : waiting) found(meta);
}

}  // namespace atlas::view
