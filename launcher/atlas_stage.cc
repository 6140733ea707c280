#include "launcher/atlas_stage.h"

#include <algorithm>
#include <utility>

#include "common/percent.h"

namespace atlas {
namespace {

using std::chrono::ceil;
using std::chrono::seconds;

class DataIn {
 public:
  DataIn(const StageContext& context, JobRecord job)
      : context_(context), job_(std::move(job)), now_(std::chrono::floor<seconds>(context.clock.wall())) {}

  void run() {
    const auto text = find_request(job_.burst_buffer, job_.admin_comment);
    if (!text) return context_.log("no Atlas request in the job's record: nothing to do");
    const auto request = decode_request(*text);
    // The controller hears of a malformed one too: it keeps the reason for whoever asks.
    if (!request) context_.log(request.error().message + ": '" + printable(text->substr(0, 200)) + "'; not waiting");
    const auto wait = request && may_wait() ? longest_wait(*request, context_.config) : seconds(0);
    if (wait.count() == 0) return ask_only();
    park(wait);
    ask_and_settle();
  }

 private:
  /// A requeued job has waited before; components of a heterogeneous job would wait one after the other.
  [[nodiscard]] bool may_wait() const {
    return job_.state == JobState::pending && job_.restarts == 0 && job_.het_job_id == 0;
  }

  void ask_only() {
    const auto answer = context_.ask(Hook::data_in, job_.id, ask_timeout(Hook::data_in));
    if (!answer) return context_.log(answer.error().message + "; the job starts without the controller's advice");
    if (!answer->message.empty()) context_.log(answer->message);
  }

  /// Moves the begin time to the deadline, once: a repeated hook finds the mark of the first and does not prolong.
  void park(seconds wait) {
    own_ = job_.own_begin;
    begin_ = job_.begin;
    if (own_) return;
    own_ = job_.begin;
    JobPatch patch;
    patch.job_id = job_.id;
    patch.begin = begin_ = std::max(now_, *own_) + wait;
    patch.admin_comment = add_own_begin(job_.admin_comment, *own_);
    if (auto ok = context_.slurm.apply(patch); !ok) {
      // Then the job waits for nobody; if the answer is "not ready", the controller says so at its start.
      context_.log(ok.error().message + "; the job is not held back");
      begin_ = job_.begin;
    }
  }

  [[nodiscard]] Result<HookAnswer> ask_patiently() {
    const auto until = context_.clock.now() + kAskAgainFor;
    auto answer = context_.ask(Hook::data_in, job_.id, ask_timeout(Hook::data_in));
    while (!answer && answer.error().code == Code::unavailable && context_.clock.now() < until) {
      context_.pause(kAskPause);
      answer = context_.ask(Hook::data_in, job_.id, ask_timeout(Hook::data_in));
    }
    return answer;
  }

  void ask_and_settle() {
    const auto answer = ask_patiently();
    if (answer) {
      if (!answer->message.empty()) context_.log(answer->message);
      if (answer->ready) start_at(now_);
      return;
    }
    const Code code = answer.error().code;
    if (code == Code::unavailable || code == Code::deadline_exceeded) {
      const auto grace = ceil<seconds>(context_.config.warm.controller_grace);
      context_.log(answer.error().message + "; the job waits " + format_duration(grace) +
                   " for the controller (warm.controller_grace) and then starts without");
      return start_at(now_ + grace);
    }
    context_.log(answer.error().message + "; the job starts without waiting");
    start_at(now_);
  }

  /// Brings the begin time forward to `when`, never before the user's own.
  void start_at(WallSeconds when) {
    when = std::max(when, *own_);
    if (begin_ <= when) return;
    JobPatch patch;
    patch.job_id = job_.id;
    patch.begin = when;
    auto ok = context_.slurm.apply(patch);
    // The controller may have released it meanwhile, or the user cancelled it.
    if (!ok && ok.error().code != Code::failed_precondition && ok.error().code != Code::not_found)
      context_.log(ok.error().message + "; the job starts at its begin time unless the controller releases it before");
  }

  const StageContext& context_;
  const JobRecord job_;
  const WallSeconds now_;
  std::optional<WallSeconds> own_;  ///< the begin time the user gave; in the past if none
  WallSeconds begin_{};             ///< what Slurm's record says now
};

}  // namespace

std::string_view name_of(Hook hook) {
  switch (hook) {
    case Hook::data_in:
      return "data_in";
    case Hook::pre_run:
      return "pre_run";
    default:
      return "teardown";
  }
}

std::optional<Hook> parse_hook(std::string_view name) {
  for (const Hook hook : {Hook::data_in, Hook::pre_run, Hook::teardown})
    if (name == name_of(hook)) return hook;
  return std::nullopt;
}

milliseconds ask_timeout(Hook hook) {
  // data_in: a job that may start now is waiting for this. pre_run: nodes are already the job's. teardown: the
  // controller finds ended jobs by itself.
  switch (hook) {
    case Hook::data_in:
      return seconds(3);
    case Hook::pre_run:
      return seconds(8);
    default:
      return seconds(3);
  }
}

seconds life_time(Hook hook) {
  switch (hook) {
    case Hook::data_in:
      return seconds(20);
    case Hook::pre_run:
      return seconds(10);
    default:
      return seconds(5);
  }
}

seconds longest_wait(const Request& request, const Config& config) {
  const auto most = ceil<seconds>(config.warm.max_wait);
  if (request.warm == WarmMode::wait) return most;
  return request.locality ? std::min(request.locality->max_wait, most) : seconds(0);
}

void run_hook(const StageContext& context, Hook hook, std::uint32_t job_id) {
  if (hook == Hook::data_in && context.config.site.observe)  // a job from before it was set
    return context.log("nothing is done for jobs here (site.observe)");
  if (hook == Hook::data_in) {
    auto job = context.slurm.load_job(job_id);
    if (!job) return context.log(job.error().message + "; the job starts without waiting");
    return DataIn(context, std::move(*job)).run();
  }
  const auto answer = context.ask(hook, job_id, ask_timeout(hook));
  if (!answer) return context.log(answer.error().message);
  if (!answer->message.empty()) context.log(answer->message);
}

}  // namespace atlas
