#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/result.h"
#include "controller/staging/job.h"

namespace atlas {

/// A job as people see it.
struct JobView {
  JobRow row;
  std::vector<DatasetId> datasets;
  std::vector<WarmProgress> warming;
  std::optional<Receipt> receipt;
  std::string slurm_state;
  PlanRows plan{};  ///< what was weighed when its nodes were chosen
};

/// Who follows which job. Lives on the strand.
class Watchers {
 public:
  struct Watcher {
    std::function<bool(const JobView&)> show;  ///< false: has gone
    std::function<void(Status)> done;
  };
  void add(std::uint32_t job_id, Watcher watcher) { watchers_.emplace(job_id, std::move(watcher)); }
  [[nodiscard]] bool any(std::uint32_t job_id) const { return watchers_.contains(job_id); }
  [[nodiscard]] bool empty() const { return watchers_.empty(); }
  [[nodiscard]] std::vector<std::uint32_t> jobs() const {
    std::vector<std::uint32_t> ids;
    for (const auto& [id, watcher] : watchers_)
      if (ids.empty() || ids.back() != id) ids.push_back(id);
    return ids;
  }
  void show(const JobView& view) {
    for (auto [at, end] = watchers_.equal_range(view.row.key.job_id); at != end;)
      at = at->second.show(view) ? std::next(at) : watchers_.erase(at);
  }
  /// The last message, then the end.
  void finish(const JobView& view) {
    show(view);
    for (auto [at, end] = watchers_.equal_range(view.row.key.job_id); at != end; at = watchers_.erase(at))
      at->second.done({});
  }

 private:
  std::multimap<std::uint32_t, Watcher> watchers_;
};

}  // namespace atlas
