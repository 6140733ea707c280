#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/config.h"
#include "common/request.h"
#include "common/result.h"
#include "common/units.h"
#include "controller/slurm/slurm_port.h"

namespace atlas {

/// The burst buffer hooks that Atlas acts in.
enum class Hook { data_in, pre_run, teardown };
[[nodiscard]] std::string_view name_of(Hook hook);
/// "data_in" -> Hook::data_in; nullopt for a hook that Atlas has nothing to do in.
[[nodiscard]] std::optional<Hook> parse_hook(std::string_view name);

/// What the controller said to a hook.
struct HookAnswer {
  bool ready = false;   ///< data_in: the job need not wait
  std::string message;  ///< for the log
};

/// How long a hook asks the controller, and how long it lives at most, whatever hangs.
[[nodiscard]] milliseconds ask_timeout(Hook hook);
[[nodiscard]] std::chrono::seconds life_time(Hook hook);

/// data_in asks a controller that is away again for so long, with pauses: one that restarts is back within seconds, and
/// a job that is let go meanwhile starts without data that is on its way.
inline constexpr milliseconds kAskAgainFor{3000}, kAskPause{500};

/// What a hook works with; references outlive it.
struct StageContext {
  SlurmPort& slurm;
  const Config& config;
  const Clock& clock;
  std::function<Result<HookAnswer>(Hook hook, std::uint32_t job_id, milliseconds timeout)> ask;
  std::function<void(const std::string& line)> log;
  std::function<void(milliseconds)> pause;
};

/// Runs one hook of one job. Whatever fails is logged and leaves the job free to start, at its begin time at the
/// latest: there is no outcome that a caller must act on. Idempotent: slurmctld repeats hooks after a restart.
///
/// data_in of a job that wants to wait moves its begin time to the deadline first and asks then, so that a release by
/// the controller in between is not overwritten. The user's own begin time is kept in admin_comment
/// (JobRecord::own_begin) and nothing here starts the job before it.
void run_hook(const StageContext& context, Hook hook, std::uint32_t job_id);

/// The most a job with this request waits for its data, from when it could have started; 0 = it does not wait.
[[nodiscard]] std::chrono::seconds longest_wait(const Request& request, const Config& config);

}  // namespace atlas
