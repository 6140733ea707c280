#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/identity.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "common/units.h"

namespace atlas::view {

/// What a job may find of one of its datasets on this node.
struct PlannedView {
  DatasetId dataset;
  std::string origin_root;  ///< absolute path of the origin
  ReplicaState state = ReplicaState::absent;
  Bytes size;                          ///< of the generation, 0 = not known
  Bytes resident{};                    ///< of a partial one: what is here already
  std::string reason;                  ///< when there is nothing to mount: why, one sentence
  std::string note{};                  ///< what its user may want to know of the view, one sentence
  std::string refused{};               ///< why the job's user does not want it to start; "" = he does
  std::vector<std::string> windows{};  ///< directories of it that stay the origin's own
  bool writable = false;               ///< it writes to the origin through the mount
  bool granted = false;                ///< shared with the user's group: the mount gives what the owner may read
  /// A walk by this very user has shown it within a day. Should the origin be silent when the job attaches, it is found
  /// in $ATLAS_ROOT all the same.
  bool seen_lately = false;
  std::function<Result<UniqueFd>()> mount{};  ///< a new detached mount; empty = the job reads the origin
  std::vector<std::string> lock_files{};      ///< below its path: what readers of databases must be able to lock
};

struct JobViews {
  bool known = false;  ///< false: the job asked Atlas for nothing; the rest is empty
  JobKey job;
  Principal as;
  std::vector<PlannedView> views;
  std::string refused{};                ///< why its user does not want it to start
  std::string reason;                   ///< why the job is where it is, one sentence
  std::chrono::milliseconds waited{0};  ///< how long it was held back for the cache
};

/// What came of mounting one dataset.
struct AttachedView {
  DatasetId dataset;
  bool mounted = false;
  std::string reason;  ///< when not mounted
};

/// Where views come from: the jobs of this node. Thread-safe.
class ViewSource {
 public:
  virtual ~ViewSource() = default;
  /// Waits for the controller until `deadline` at most. permission_denied when the plan is another user's; unavailable,
  /// deadline_exceeded when nobody could be asked.
  [[nodiscard]] virtual Result<JobViews> views_of(std::uint32_t job_id, const Principal& as, SteadyTime deadline) = 0;
  /// False once the job has been released.
  [[nodiscard]] virtual bool knows(std::uint32_t job_id) const = 0;
  /// For the job's receipt. Idempotent.
  virtual void record_attach(std::uint32_t job_id, const std::vector<AttachedView>& results) = 0;
};

}  // namespace atlas::view
