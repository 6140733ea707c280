#include "spank-plugin/node.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <vector>

#include "common/job_tree.h"
#include "common/percent.h"
#include "common/request.h"
#include "spank-plugin/helper.h"

namespace atlas::spank {
namespace {

constexpr std::uint32_t kBatchStep = 0xfffffffbU;
constexpr std::uint32_t kExternStep = 0xfffffffcU;
constexpr std::chrono::milliseconds kLeastForJoin{1000};  ///< even when the agent was slow to answer before
constexpr std::size_t kMostGroups = 8000;  ///< what fits in one argument and one packet; more lose the cache, no rights

struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

std::optional<std::uint32_t> number(spank_t spank, spank_item item) {
  std::uint32_t value = 0;
  if (spank_get_item(spank, item, &value) != ESPANK_SUCCESS) return std::nullopt;
  return value;
}

Result<Identity> identity_of(spank_t spank) {
  Identity who;
  gid_t* groups = nullptr;
  int count = 0;
  if (spank_get_item(spank, S_JOB_UID, &who.uid) != ESPANK_SUCCESS ||
      spank_get_item(spank, S_JOB_GID, &who.gid) != ESPANK_SUCCESS)
    return fail(Code::internal, "Slurm does not say who the job runs as");
  if (spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &groups, &count) == ESPANK_SUCCESS && groups != nullptr)
    who.groups.assign(groups, groups + std::max(0, count));
  if (who.groups.size() > kMostGroups) who.groups.resize(kMostGroups);
  return who;
}

std::string environment_of(spank_t spank, const char* name) {
  std::string value(kMaxEncodedRequest + 1, '\0');
  if (spank_getenv(spank, name, value.data(), static_cast<int>(value.size())) != ESPANK_SUCCESS) return "";
  value.resize(value.find('\0'));
  return value;
}

/// slurmd puts the name of its node into its own environment, which slurmstepd inherits and no user can reach.
std::string node_name() {
  const char* name = std::getenv("SLURMD_NODENAME");  // NOLINT(concurrency-mt-unsafe): slurmstepd does not change it
  if (name != nullptr && *name != '\0') return name;
  std::array<char, HOST_NAME_MAX + 1> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string full(host.data());
  return full.substr(0, full.find('.'));
}

std::vector<std::string> helper_arguments(std::string verb, std::uint32_t job, std::uint32_t step, const Identity& who,
                                          const Config& config, std::chrono::milliseconds limit) {
  std::string groups;
  for (const gid_t group : who.groups) groups += (groups.empty() ? "" : ",") + std::to_string(group);
  return {std::move(verb),
          "--socket=" + expand_node(config.agent.socket, node_name()),
          "--job=" + std::to_string(job),
          "--step=" + std::to_string(step),
          "--uid=" + std::to_string(who.uid),
          "--gid=" + std::to_string(who.gid),
          "--groups=" + groups,
          "--limit-ms=" + std::to_string(limit.count()),
          "--silence-ms=" + std::to_string(config.agent.origin_silence.count())};
}

/// Makes this single-threaded process look at files as the user, until destroyed.
class AsUser {
 public:
  explicit AsUser(const Identity& who) : groups_(static_cast<std::size_t>(std::max(0, ::getgroups(0, nullptr)))) {
    if (!groups_.empty() && ::getgroups(static_cast<int>(groups_.size()), groups_.data()) < 0) groups_.clear();
    ::setgroups(who.groups.size(), who.groups.data());
    gid_ = ::setfsgid(who.gid);
    uid_ = ::setfsuid(who.uid);
  }
  ~AsUser() {
    ::setfsuid(static_cast<uid_t>(uid_));
    ::setfsgid(static_cast<gid_t>(gid_));
    ::setgroups(groups_.size(), groups_.data());
  }
  AsUser(const AsUser&) = delete;
  AsUser& operator=(const AsUser&) = delete;

 private:
  std::vector<gid_t> groups_;
  int gid_ = 0, uid_ = 0;
};

}  // namespace

void NodeSide::prepare(spank_t spank) {
  const auto step = number(spank, S_JOB_STEPID);
  if (step == kExternStep) return;
  const std::string encoded = environment_of(spank, "SLURM_SPANK_ATLAS_REQ");
  if (encoded.empty()) return;
  carries_request_ = true;
  encoded_ = encoded;
  // A batch job speaks in its batch step, an allocation of srun or salloc in its first one.
  speaks_ = step == kBatchStep || (step == 0U && environment_of(spank, "ATLAS_CACHE_STATE").empty());
  if (environment_of(spank, "ATLAS_QUIET") == "1") speaks_ = false;
  if (auto done = ask(spank, encoded); !done) give_up(done.error());
  show_state(spank);
}

Status NodeSide::ask(spank_t spank, const std::string& encoded) {
  if (auto request = decode_request(encoded)) cache_state_ = cache_state_of_origin(*request);
  ATLAS_ASSIGN(config_, load_config(args_.config));
  if (config_->site.observe) {
    carries_request_ = false;
    cache_state_.clear();
    return {};
  }
  const auto begin = std::chrono::steady_clock::now();
  ATLAS_ASSIGN(const auto who, identity_of(spank));
  const auto job = number(spank, S_JOB_ID);
  const auto step = number(spank, S_JOB_STEPID);
  if (!job || !step) return fail(Code::internal, "Slurm does not say which job this is");
  ATLAS_ASSIGN(auto answer,
               run_helper(args_.libexec + "/atlas-attach",
                          helper_arguments("prepare", *job, *step, who, *config_, config_->agent.attach_timeout),
                          begin + config_->agent.attach_timeout));
  left_ = config_->agent.attach_timeout -
          std::chrono::ceil<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin);
  carries_request_ = answer.report.known;
  if (!answer.report.known) cache_state_.clear();
  mounts_ = answer.report.known && answer.report.mounts;
  if (!answer.report.cache_state.empty()) cache_state_ = std::move(answer.report.cache_state);
  announcement_ = std::move(answer.report.announcement);
  refused_ = std::move(answer.report.refused);
  return {};
}

void NodeSide::join(spank_t spank) {
  if (!carries_request_) return;
  if (mounts_ && refused_.empty()) {
    if (auto done = enter(spank); !done) give_up(done.error());
    show_state(spank);
  }
  if (refused_.empty()) show_tree(spank);
}

/// $ATLAS_ROOT, also for a job whose datasets are all at the origin: its script need not know the difference.
void NodeSide::show_tree(spank_t spank) {
  if (!config_) return;
  const auto tree = job_tree_path(*config_, node_name());
  if (!mounts_) {
    const auto request = decode_request(encoded_);
    const auto made = make_tree_of_links(tree, request ? request->datasets : std::vector<std::string>(), cache_state_);
    if (!made) slurm_info("atlas: no ATLAS_ROOT: %s", made.error().message.c_str());
  }
  if (has_job_tree(tree))
    spank_setenv(spank, "ATLAS_ROOT", tree.c_str(), 1);
  else
    spank_unsetenv(spank, "ATLAS_ROOT");
}

Status NodeSide::enter(spank_t spank) {
  std::array<char, PATH_MAX> directory{};
  if (::getcwd(directory.data(), directory.size()) == nullptr) directory[0] = '\0';
  const UniqueFd old_directory(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  ATLAS_ASSIGN(const auto who, identity_of(spank));
  const auto job = number(spank, S_JOB_ID);
  const auto step = number(spank, S_JOB_STEPID);
  if (!job || !step) return fail(Code::internal, "Slurm does not say which job this is");
  const auto limit = std::max(left_, kLeastForJoin);
  const auto deadline = std::chrono::steady_clock::now() + limit;
  auto arguments = helper_arguments("join", *job, *step, who, *config_, limit);
  arguments.push_back("--tree=" + job_tree_path(*config_, node_name()));
  arguments.push_back("--request=" + encoded_);
  if (directory[0] == '/') arguments.push_back("--directory=" + std::string(directory.data()));
  ATLAS_ASSIGN(auto answer, run_helper(args_.libexec + "/atlas-attach", arguments, deadline));
  cache_state_ = answer.report.cache_state.empty() ? cache_state_without_cache(cache_state_)
                                                   : std::move(answer.report.cache_state);
  if (!answer.report.announcement.empty()) announcement_ = std::move(answer.report.announcement);
  refused_ = std::move(answer.report.refused);
  if (!answer.ns) {
    mounts_ = false;
    return {};
  }
  if (::setns(answer.ns.get(), CLONE_NEWNS) != 0) return fail_errno(errno, "cannot enter the job's mount namespace");
  // setns leaves the process in "/". By path, so that relative names too go through the job's mounts.
  bool back = false;
  if (answer.report.directory_ok) {
    const AsUser user(who);
    back = ::chdir(directory.data()) == 0;
  }
  if (!back && old_directory) back = ::fchdir(old_directory.get()) == 0;
  if (!back) slurm_error("atlas: job %u: cannot return to its working directory; it starts in /", *job);
  return {};
}

void NodeSide::give_up(const Error& why) {
  mounts_ = false;
  cache_state_ = cache_state_without_cache(cache_state_);
  announcement_ = "atlas: the job reads from the origin: " + printable(why.message);
  slurm_info("%s", announcement_.c_str());
}

void NodeSide::show_state(spank_t spank) {
  if (!cache_state_.empty()) spank_setenv(spank, "ATLAS_CACHE_STATE", cache_state_.c_str(), 1);
}

/// As if the task's program had failed at once: an error of the hook would not keep the job from running where the
/// plugin is "optional" in plugstack.conf.
void NodeSide::refuse(spank_t spank) const {
  const std::string line = "atlas: the job does not start: " + refused_ + "\n";
  if (number(spank, S_TASK_GLOBAL_ID) == 0U && ::write(STDERR_FILENO, line.data(), line.size()) < 0)
    slurm_info("%s", line.c_str());
  ::_exit(1);
}

void NodeSide::announce(spank_t spank) const {
  if (!refused_.empty()) refuse(spank);
  if (!carries_request_ || !speaks_ || announcement_.empty() || number(spank, S_TASK_GLOBAL_ID) != 0U) return;
  const std::string line = announcement_ + "\n";
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) slurm_info("%s", announcement_.c_str());
}

}  // namespace atlas::spank
