// atlas-attach prepare|join: what the plugin runs at a step's and at a task's start. It answers its parent with one
// packet (common/attach_report.h) on descriptor 3 and never touches an origin itself, only in children it can kill.
#include <fcntl.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "atlas/v1/local.pb.h"
#include "common/attach_report.h"
#include "common/identity.h"
#include "common/job_tree.h"
#include "common/packet.h"
#include "common/request.h"
#include "launcher/atlas_attach_client.h"
#include "launcher/atlas_attach_mounts.h"

namespace atlas::launcher {
namespace {

constexpr int kAnswerFd = 3;

struct Arguments {
  std::string verb;
  std::string socket;
  std::uint32_t job = 0, step = 0;
  Principal as;
  std::chrono::milliseconds silence{2000};
  std::chrono::milliseconds limit{5000};
  std::string directory;
  std::string tree;  ///< where to make $ATLAS_ROOT; "" = nowhere
  Request request;
};

template <class Number>
bool parse_number(std::string_view text, Number& into) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse_milliseconds(std::string_view text, std::chrono::milliseconds& into) {
  std::int64_t count = 0;
  if (!parse_number(text, count) || count < 0) return false;
  into = std::chrono::milliseconds(count);
  return true;
}

bool parse_groups(std::string_view text, std::vector<std::uint32_t>& into) {
  while (!text.empty()) {
    const auto word = text.substr(0, text.find(','));
    if (!parse_number(word, into.emplace_back())) return false;
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  return true;
}

/// Only names are taken from it. One that cannot be read leaves those of the paths.
bool parse_request(std::string_view text, Request& into) {
  if (auto request = decode_request(text)) into = std::move(*request);
  return true;
}

bool take(Arguments& out, std::string_view word) {
  const auto equals = word.find('=');
  const auto name = word.substr(0, equals);
  const auto value = equals == std::string_view::npos ? std::string_view() : word.substr(equals + 1);
  if (name == "--socket") return out.socket = value, true;
  if (name == "--directory") return out.directory = value, true;
  if (name == "--tree") return out.tree = value, true;
  if (name == "--request") return parse_request(value, out.request);
  if (name == "--job") return parse_number(value, out.job);
  if (name == "--step") return parse_number(value, out.step);
  if (name == "--uid") return parse_number(value, out.as.uid);
  if (name == "--gid") return parse_number(value, out.as.gid);
  if (name == "--groups") return parse_groups(value, out.as.groups);
  if (name == "--silence-ms") return parse_milliseconds(value, out.silence);
  if (name == "--limit-ms") return parse_milliseconds(value, out.limit);
  return false;
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments out;
  if (argc < 2) return std::nullopt;
  out.verb = argv[1];
  for (int i = 2; i < argc; ++i)
    if (!take(out, argv[i])) return std::nullopt;
  if (out.socket.empty() || out.job == 0 || (out.verb != "prepare" && out.verb != "join")) return std::nullopt;
  return out;
}

void fill(const Principal& from, v1::Principal& to) {
  to.set_uid(from.uid);
  to.set_gid(from.gid);
  for (const auto group : from.groups) to.add_groups(group);
}

struct Outcome {
  AttachReport report;
  UniqueFd ns;
};

Result<Outcome> prepare(const Arguments& args, SteadyTime deadline) {
  ATLAS_ASSIGN(auto agent, AgentConnection::open(args.socket));
  v1::LocalRequest request;
  request.mutable_prepare()->set_job_id(args.job);
  request.mutable_prepare()->set_step_id(args.step);
  fill(args.as, *request.mutable_prepare()->mutable_as());
  ATLAS_ASSIGN(auto answer, agent.call(std::move(request), {}, deadline));
  Outcome out;
  out.report.known = answer.reply.known();
  out.report.mounts = answer.reply.has_mounts();
  out.report.cache_state = answer.reply.cache_state();
  out.report.announcement = answer.reply.announcement();
  out.report.refused = answer.reply.refused();
  return out;
}

/// All views of the job; what has no descriptor stays at the origin.
Result<std::vector<PlannedMount>> planned_mounts(const Arguments& args, AgentAnswer& answer) {
  std::vector<PlannedMount> mounts;
  std::vector<std::string> paths;
  std::size_t next = 0;
  for (const auto& view : answer.reply.views()) {
    PlannedMount planned{{view.dataset().origin(), view.dataset().path()}, view.origin_root(), {}, {}, {}, {}};
    paths.push_back(full_path(planned));
    if (view.has_mount()) {
      if (next == answer.fds.size()) return fail(Code::internal, "the cache agent sent too few mounts");
      planned.mount = std::move(answer.fds[next++]);
      planned.lock_files.assign(view.lock_files().begin(), view.lock_files().end());
      planned.windows.assign(view.windows().begin(), view.windows().end());
      planned.granted = view.granted();
      planned.seen_lately = view.seen_lately();
    }
    mounts.push_back(std::move(planned));
  }
  const auto names = job_tree_names(args.request.datasets, paths);
  for (std::size_t i = 0; i < mounts.size(); ++i) mounts[i].name = names[i];
  return mounts;
}

/// A job can do without $ATLAS_ROOT: what fails here is nobody's failure.
std::optional<JobTree> make_tree(const std::string& directory) {
  if (directory.empty()) return std::nullopt;
  auto tree = JobTree::make(directory);
  return tree ? std::optional(std::move(*tree)) : std::nullopt;
}

/// The last part of the time is the agent's, to keep the namespace.
Patience patience_of(const Arguments& args, SteadyTime deadline) {
  return {args.silence, deadline - args.limit / 10};
}

/// Makes the job's namespace out of the one this process is in and has the agent keep it.
Result<AgentAnswer> make_namespace(const Arguments& args, AgentConnection& agent, AgentAnswer& views,
                                   SteadyTime deadline) {
  ATLAS_ASSIGN(const auto mounts, planned_mounts(args, views));
  ATLAS_TRY(enter_private_namespace(views.reply.pin_above()));
  auto tree = make_tree(args.tree);
  const auto outcomes = attach_mounts(mounts, args.as, patience_of(args, deadline), tree ? &*tree : nullptr);
  v1::LocalRequest request;
  request.mutable_hold()->set_job_id(args.job);
  for (std::size_t i = 0; i < mounts.size(); ++i) {
    if (!mounts[i].mount) continue;  // the agent knows why
    auto& attached = *request.mutable_hold()->add_attached();
    attached.mutable_dataset()->set_origin(mounts[i].dataset.origin);
    attached.mutable_dataset()->set_path(mounts[i].dataset.path);
    attached.set_mounted(outcomes[i].mounted);
    attached.set_reason(outcomes[i].reason);
  }
  std::vector<UniqueFd> ours;
  if (std::any_of(outcomes.begin(), outcomes.end(), [](const auto& one) { return one.mounted || one.in_tree; })) {
    ours.emplace_back(::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
    if (!ours.front()) return fail_errno(errno, "cannot open this process's mount namespace");
  }
  ATLAS_ASSIGN(auto held, agent.call(std::move(request), ours, deadline));
  if (held.fds.empty()) held.fds = std::move(ours);
  return held;
}

Result<Outcome> join(const Arguments& args, SteadyTime deadline) {
  ATLAS_ASSIGN(auto agent, AgentConnection::open(args.socket));
  v1::LocalRequest request;
  request.mutable_attach()->set_job_id(args.job);
  fill(args.as, *request.mutable_attach()->mutable_as());
  ATLAS_ASSIGN(auto answer, agent.call(std::move(request), {}, deadline));
  if (!answer.reply.namespace_held() && !answer.fds.empty()) {
    ATLAS_ASSIGN(answer, make_namespace(args, agent, answer, deadline));
  }
  Outcome out;
  out.report.known = answer.reply.known();
  out.report.cache_state = answer.reply.cache_state();
  out.report.announcement = answer.reply.announcement();
  out.report.refused = answer.reply.refused();
  if (answer.fds.empty()) return out;
  out.ns = std::move(answer.fds.front());
  out.report.mounts = true;
  if (!args.directory.empty()) {
    if (::setns(out.ns.get(), CLONE_NEWNS) != 0) return fail_errno(errno, "cannot enter the job's mount namespace");
    out.report.directory_ok = can_enter(args.directory, args.as, patience_of(args, deadline));
  }
  return out;
}

int run(const Arguments& args) {
  // What is left of the limit is for telling the parent.
  const auto deadline = std::chrono::steady_clock::now() + args.limit * 9 / 10;
  auto outcome = args.verb == "prepare" ? prepare(args, deadline) : join(args, deadline);
  if (!outcome) {
    Outcome origin;
    origin.report.known = true;
    origin.report.announcement = "atlas: the job reads from the origin: " + outcome.error().message;
    outcome = std::move(origin);
  }
  std::vector<UniqueFd> fds;
  if (outcome->ns) fds.push_back(std::move(outcome->ns));
  const auto sent = send_packet(kAnswerFd, encode(outcome->report), fds);
  return sent ? 0 : 1;
}

}  // namespace
}  // namespace atlas::launcher

int main(int argc, char** argv) {
  try {
    const auto args = atlas::launcher::parse(argc, argv);
    if (!args) {
      std::fprintf(stderr,
                   "atlas-attach is run by Slurm's plugin spank_atlas; for a shell in a job use atlas-enter JOBID\n");
      return 2;
    }
    return atlas::launcher::run(*args);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "atlas-attach: %s\n", error.what());
    return 1;
  }
}
