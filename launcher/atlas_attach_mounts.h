#pragma once
#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "common/identity.h"
#include "common/job_tree.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::launcher {

/// A detached mount and the place where the job's user has always found this data.
struct PlannedMount {
  DatasetId dataset;
  std::string origin_root;
  UniqueFd mount;                       ///< none: it stays at the origin
  std::string name;                     ///< below $ATLAS_ROOT
  std::vector<std::string> lock_files;  ///< below the dataset: get a private file that everybody may write
  std::vector<std::string> windows;     ///< directories of it, by path below its root, that stay the origin's own
  bool granted = false;                 ///< shared with the user's group: what the origin allows him is not asked
  bool seen_lately = false;             ///< the origin need not be asked again whether he may see it, if it is silent
};

[[nodiscard]] std::string full_path(const PlannedMount& planned);

struct MountOutcome {
  bool mounted = false;
  bool in_tree = false;  ///< not at its path, as its origin is silent, but in the tree
  std::string reason;    ///< when not mounted, one sentence
};

/// Gives this process a mount namespace of its own, made from the one it is in; what is mounted or unmounted outside
/// still shows, nothing mounted here shows outside. Its id is larger than `above` if that can be had (see
/// common/mount_id.h).
[[nodiscard]] Status enter_private_namespace(std::uint64_t above);

/// How long an origin may take to answer: each question at most `silence`, all together until `deadline`.
struct Patience {
  std::chrono::milliseconds silence;
  SteadyTime deadline;
};

/// Mounts each on its dataset's root. The root is opened by its path below the origin, as the user, following no
/// symlink and never leaving the origin: the permissions of its parents hold, and no path can be swapped for another.
/// Windows are bound on top as the user finds them; one he may not enter, or that is gone, stays an empty directory.
/// The origin is touched in child processes only; one that was silent once is not asked again. A failure leaves that
/// dataset at the origin; of one that was seen lately a silent origin withholds the path only, and the tree has it.
/// Outcomes are in the order of `mounts`. In `tree`, which may be null, each is shown once more, those at the origin by
/// a link; it is sealed. Without it lock files stay as they are.
[[nodiscard]] std::vector<MountOutcome> attach_mounts(const std::vector<PlannedMount>& mounts, const Principal& as,
                                                      const Patience& patience, JobTree* tree);

/// Whether the user can enter the directory; false too when its storage is silent.
[[nodiscard]] bool can_enter(const std::string& directory, const Principal& as, const Patience& patience);

}  // namespace atlas::launcher
