// atlas-view-holder: keeps the FUSE connections of jobs while the agent restarts. See atlas-view-holder(8).
#include <getopt.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <exception>
#include <string>

#include "cache-agent/view/holder/client.h"
#include "cache-agent/view/holder/keeper.h"
#include "common/config.h"
#include "common/daemon.h"
#include "common/percent.h"

namespace atlas::view {
namespace {

constexpr const char* kHelp =
    "Keeps the connections of this node's read-through views while its cache agent restarts.\n"
    "Usage: atlas-view-holder [OPTIONS]\n\n"
    "  --config FILE  configuration file (default: /etc/atlas/atlas.toml)\n"
    "  --node NAME    the node's name in Slurm (default: the host name)\n"
    "  --list         print what the holder of this node keeps and exit\n"
    "  --help         print this and exit\n"
    "  --version      print the version and exit\n";

struct Arguments {
  std::string config = "/etc/atlas/atlas.toml", node;
  bool list = false;
};

void log(const std::string& message) {
  const auto seconds = std::time(nullptr);
  tm local{};
  char when[32] = {};
  if (localtime_r(&seconds, &local) != nullptr) std::strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &local);
  std::fprintf(stderr, "%s %s\n", when, printable(message).c_str());
}

int complain(const Error& error, int code) {
  std::fprintf(stderr, "atlas-view-holder: %s\n", error.message.c_str());
  return code;
}

int list(const std::string& socket) {
  HolderChannel channel;
  if (const auto connected = channel.connect(socket); !connected) return complain(connected.error(), 1);
  const auto all = channel.kept();
  if (!all) return complain(all.error(), 1);
  for (const auto& kept : *all)
    std::printf("%llu %llu %s\n", static_cast<unsigned long long>(kept.id),
                static_cast<unsigned long long>(waiting_requests(kept.control.get())),
                printable(kept.about.substr(0, kept.about.find('\n'))).c_str());
  return 0;
}

int serve(const Config& config, const std::string& socket) {
  block_stop_signals();
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGTERM);
  sigaddset(&stops, SIGINT);
  const UniqueFd stop(signalfd(-1, &stops, SFD_CLOEXEC));
  Keeper::Options options;
  options.socket = socket;
  options.deadline = config.agent.takeover_deadline;
  options.log = log;
  auto keeper = Keeper::listen(std::move(options));
  if (!keeper) return complain(keeper.error(), 1);
  notify_service_manager("READY=1");
  (*keeper)->run(stop.get());
  return 0;
}

int run(int argc, char** argv) {
  Arguments arguments;
  const option options[] = {{"config", required_argument, nullptr, 'c'}, {"node", required_argument, nullptr, 'n'},
                            {"list", no_argument, nullptr, 'l'},         {"help", no_argument, nullptr, 'h'},
                            {"version", no_argument, nullptr, 'v'},      {nullptr, 0, nullptr, 0}};
  for (int given = 0; (given = getopt_long(argc, argv, "h", options, nullptr)) != -1;) {  // NOLINT: one thread
    if (given == 'c') arguments.config = optarg;
    if (given == 'n') arguments.node = optarg;
    if (given == 'l') arguments.list = true;
    if (given == 'h') return std::fputs(kHelp, stdout) < 0 ? 1 : 0;
    if (given == 'v') return std::puts("atlas-view-holder " ATLAS_VERSION) < 0 ? 1 : 0;
    if (given == '?') return 2;
  }
  const auto config = load_config(arguments.config);
  if (!config) return complain(config.error(), 2);
  char host[256] = {};
  if (arguments.node.empty() && gethostname(host, sizeof host - 1) == 0) arguments.node = host;
  const std::string socket = holder_socket(expand_node(config->agent.run_dir, arguments.node));
  return arguments.list ? list(socket) : serve(*config, socket);
}

}  // namespace
}  // namespace atlas::view

int main(int argc, char** argv) {
  try {
    return atlas::view::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "atlas-view-holder: %s\n", error.what());
    return 1;
  }
}
