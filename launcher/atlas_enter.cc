// atlas-enter [--node NAME] JOBID [COMMAND ...]: a shell, or a command, that sees what a job on this node sees.
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "launcher/atlas_attach_client.h"

namespace atlas::launcher {
namespace {

constexpr std::string_view kUsage =
    "usage: atlas-enter [--node NAME] JOBID [COMMAND [ARGUMENT ...]]\n"
    "Runs COMMAND (default: $SHELL) in the mount namespace that the job has on this node. For root only: a mount\n"
    "namespace cannot be entered without its rights. The command runs as root, the data is read-only all the same.\n"
    "--node: the node's name in Slurm, where it is not the host's (default: $SLURMD_NODENAME, else the short host "
    "name)\n";

struct Arguments {
  std::string node;
  std::uint32_t job = 0;
  std::vector<char*> command;  ///< ends with nullptr
};

std::string default_node() {
  const char* name = std::getenv("SLURMD_NODENAME");  // NOLINT(concurrency-mt-unsafe)
  if (name != nullptr && *name != '\0') return name;
  std::array<char, HOST_NAME_MAX + 1> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string full(host.data());
  return full.substr(0, full.find('.'));
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments out{default_node(), 0, {}};
  int next = 1;
  if (next + 1 < argc && std::string_view(argv[next]) == "--node") {
    out.node = argv[next + 1];
    next += 2;
  }
  if (next >= argc) return std::nullopt;
  const std::string_view id(argv[next++]);
  const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), out.job);
  if (error != std::errc() || end != id.data() + id.size() || out.job == 0) return std::nullopt;
  out.command.assign(argv + next, argv + argc);
  if (out.command.empty()) {
    char* shell = std::getenv("SHELL");  // NOLINT(concurrency-mt-unsafe)
    static char fallback[] = "/bin/sh";
    out.command.push_back(shell != nullptr && *shell == '/' ? shell : fallback);
  }
  out.command.push_back(nullptr);
  return out;
}

Result<UniqueFd> namespace_of(const Arguments& args) {
  ATLAS_ASSIGN(const auto config, load_config(default_config_path()));
  ATLAS_ASSIGN(auto agent, AgentConnection::open(expand_node(config.agent.socket, args.node)));
  v1::LocalRequest request;
  request.mutable_enter()->set_job_id(args.job);
  ATLAS_ASSIGN(auto answer,
               agent.call(std::move(request), {}, std::chrono::steady_clock::now() + config.agent.attach_timeout));
  if (answer.fds.empty()) return fail(Code::internal, "the cache agent sent no namespace");
  return std::move(answer.fds.front());
}

int run(const Arguments& args) {
  if (::geteuid() != 0) {
    std::fprintf(
        stderr,
        "atlas-enter: only root can enter a job's mount namespace; as the job's owner start a step from within "
        "job %u\n",
        args.job);
    return 1;
  }
  auto ns = namespace_of(args);
  if (!ns) {
    std::fprintf(stderr, "atlas-enter: %s\n", ns.error().message.c_str());
    return 1;
  }
  if (::setns(ns->get(), CLONE_NEWNS) != 0) {
    std::perror("atlas-enter: cannot enter the job's mount namespace");
    return 1;
  }
  ::execvp(args.command.front(), args.command.data());
  std::perror(args.command.front());
  return 127;
}

}  // namespace
}  // namespace atlas::launcher

int main(int argc, char** argv) {
  try {
    const auto args = atlas::launcher::parse(argc, argv);
    if (!args) {
      std::fputs(atlas::launcher::kUsage.data(), stderr);
      return 2;
    }
    return atlas::launcher::run(*args);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "atlas-enter: %s\n", error.what());
    return 1;
  }
}
