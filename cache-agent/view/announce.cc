#include "cache-agent/view/announce.h"

#include <algorithm>

#include "common/attach_report.h"
#include "common/percent.h"

namespace atlas::view {
namespace {

std::string path_of(const PlannedView& view) {
  return view.dataset.path.empty() ? view.origin_root : view.origin_root + "/" + view.dataset.path;
}

AttachedView result_of(const PlannedView& view, const std::vector<AttachedView>& results) {
  const auto found = std::find_if(results.begin(), results.end(),
                                  [&](const AttachedView& result) { return result.dataset == view.dataset; });
  return found != results.end() ? *found : AttachedView{view.dataset, false, view.reason};
}

}  // namespace

std::string cache_state(const JobViews& job, const std::vector<AttachedView>& results) {
  std::string out;
  for (const auto& view : job.views)
    (out += out.empty() ? "" : ":") +=
        cache_state_entry(path_of(view), !result_of(view, results).mounted     ? "origin"
                                         : view.state == ReplicaState::partial ? "partial"
                                                                               : "complete");
  return out;
}

std::string announcement(const JobViews& job, const std::vector<AttachedView>& results) {
  std::string out;
  for (const auto& view : job.views) {
    const auto result = result_of(view, results);
    out += (out.empty() ? "" : "; ") + printable(path_of(view));
    if (result.mounted && view.state == ReplicaState::partial) {
      out += " through this node's cache (" + std::string(view.writable ? "writes go to the origin, " : "partial, ") +
             format_size(view.resident) + " of " + format_size(view.size) + " here" +
             (view.note.empty() ? "" : "; " + printable(view.note)) + ")";
    } else if (result.mounted) {
      out += " from this node (complete" + (view.size.count == 0 ? "" : ", " + format_size(view.size)) + ")";
    } else {
      out += " from the origin" + (result.reason.empty() ? "" : ": " + printable(result.reason));
    }
  }
  if (job.waited.count() > 0) out += (out.empty() ? "waited " : "; waited ") + format_duration(job.waited);
  if (!job.reason.empty()) out += (job.waited.count() > 0 ? ": " : out.empty() ? "" : "; ") + printable(job.reason);
  return out.empty() ? "" : "atlas: " + out;
}

}  // namespace atlas::view
