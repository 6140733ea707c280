#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas {

/// $ATLAS_ROOT: where a job on this node finds each of its datasets under a short name, whichever origin it comes from.
/// Equal for all jobs of a node: each mounts its own there.
[[nodiscard]] std::string job_tree_path(const Config& config, std::string_view node);

/// The name of each of a job's datasets in that tree: the short one it was asked for by ("speech", of "~user/speech"
/// "speech"), else the last component of its path; a name that is taken already gets "-2", "-3", ... `requested` is
/// what the job's request says, a claim: where it does not fit the paths, these alone count.
[[nodiscard]] std::vector<std::string> job_tree_names(std::span<const std::string> requested,
                                                      std::span<const std::string> paths);

/// The tree while it is made: a tmpfs of its own in the mount namespace of this process, which must be a private one.
class JobTree {
 public:
  /// Makes the directory if need be and mounts an empty tree over it.
  [[nodiscard]] static Result<JobTree> make(std::string directory);

  /// Shows a mount of this namespace (with all that is mounted below it) once more, as NAME.
  [[nodiscard]] Status bind(const std::string& name, int mount);
  /// Shows a detached mount as NAME, and nowhere else.
  [[nodiscard]] Status take(const std::string& name, int mount);
  /// NAME leads to a path.
  [[nodiscard]] Status link(const std::string& name, const std::string& target);
  /// Mounts over a file of this namespace a new empty one that everybody may write. It lies in memory, has no name in
  /// the tree and is no part of what it covers.
  [[nodiscard]] Status cover(int file);
  /// Nothing more can be added; the mount is read-only from here on.
  [[nodiscard]] Status seal();

 private:
  JobTree(std::string directory, UniqueFd root) : directory_(std::move(directory)), root_(std::move(root)) {}
  std::string directory_;
  UniqueFd root_;
};

/// Is a tree mounted there, in this process's mount namespace?
[[nodiscard]] bool has_job_tree(const std::string& directory);

/// For a job that reads everything from the origins: a mount namespace of this process's own, whose tree has links
/// only. `cache_state` is the value of ATLAS_CACHE_STATE, in the order of `requested` if nothing is wrong with it.
/// Touches no origin.
[[nodiscard]] Status make_tree_of_links(const std::string& directory, std::span<const std::string> requested,
                                        std::string_view cache_state);

}  // namespace atlas
