#pragma once
#include <optional>
#include <string>

#include "common/config.h"
#include "common/request.h"
#include "common/result.h"
#include "common/units.h"
#include "spank-plugin/plugin_args.h"
#include "spank-plugin/spank_api.h"

namespace atlas::spank {

/// What happens in slurmstepd: one object per step, copied by fork into each task. What goes wrong leaves the job on
/// the origin, with the reason in its stderr and in the log of slurmd; nothing here fails a job but its user's own
/// wish.
class NodeSide {
 public:
  explicit NodeSide(PluginArgs args) : args_(std::move(args)) {}

  /// init_post_opt, root: asks the node's agent what the job will find here. Returns at once when the job carries no
  /// request; else within agent.attach_timeout.
  void prepare(spank_t spank);
  /// task_init_privileged, root, in the task: enters the job's namespace. A job at the origin gets its links to it.
  void join(spank_t spank);
  /// task_init, the user, in the task: the line on the job's stderr. Ends the task, with the reason there, when the
  /// user does not want the job to start (--on-change=fail).
  void announce(spank_t spank) const;

 private:
  [[nodiscard]] Status ask(spank_t spank, const std::string& encoded);
  [[nodiscard]] Status enter(spank_t spank);
  [[noreturn]] void refuse(spank_t spank) const;
  void give_up(const Error& why);
  void show_state(spank_t spank);
  void show_tree(spank_t spank);

  PluginArgs args_;
  std::optional<Config> config_;
  std::string encoded_;               ///< the request, a claim
  std::chrono::milliseconds left_{};  ///< of agent.attach_timeout, after prepare
  bool carries_request_ = false;
  bool mounts_ = false;
  bool speaks_ = false;  ///< this step is the one that tells the user
  std::string cache_state_;
  std::string announcement_;
  std::string refused_;
};

}  // namespace atlas::spank
