#pragma once
#include <sys/stat.h>

#include <functional>
#include <stop_token>
#include <string>

#include "cache-agent/manifest/manifest.h"
#include "cache-agent/origin/origin.h"
#include "cache-agent/origin/posix_origin.h"
#include "common/result.h"
#include "common/unique_fd.h"

namespace atlas::agent {

/// What a walk, its tasks and the reading of files share about one origin. Copies are cheap.
struct WalkContext {
  std::string root;     ///< of the origin
  std::string dataset;  ///< path below it
  Principal as;
  std::shared_ptr<PosixOrigin::Counters> counters;
};

/// Opens the origin's root as the calling thread.
[[nodiscard]] Result<UniqueFd> open_origin_root(const std::string& root);
/// Opens a dataset's root (O_PATH) as the calling thread; errors speak of path and user.
[[nodiscard]] Result<UniqueFd> open_dataset(const WalkContext& context);
/// The dataset's root as a walked entry. permission_denied when it cannot be listed or read.
[[nodiscard]] Result<WalkedEntry> look_at_root(const WalkContext& context);
[[nodiscard]] EntryAttributes attributes_of(const struct stat& st);

/// Walks with tasks given to `post`, handing entries to the sink from the calling thread.
[[nodiscard]] Status walk_tree(const WalkContext& context, const Patterns& exclude, EntrySink& sink,
                               const std::stop_token& stop,
                               const std::function<void(std::function<void(Status)>)>& post);

}  // namespace atlas::agent
