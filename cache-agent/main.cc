// atlas-cache-agent: holds a node's replicas, warms them, and gives them to its jobs. See atlas-cache-agent(8).
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "cache-agent/agent.h"
#include "common/config.h"
#include "common/daemon.h"
#include "common/memory.h"

namespace atlas::agent {
namespace {

struct Arguments {
  std::string config = "/etc/atlas/atlas.toml";
  std::string node;
  std::uint16_t port = 0;
  bool check_config = false, show_config = false;
};

std::string host_name() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0) return "localhost";
  return name;
}

std::string boot_id() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  in >> id;
  return id;
}

/// Directories being walked, files being written, one descriptor for each mount handed out.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void set_up_log(const std::string& level) {
  auto log = spdlog::stderr_logger_mt("agent");
  log->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  log->set_level(spdlog::level::from_str(level));
  log->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(log));
}

int serve(const Config& config, const Arguments& arguments) {
  set_up_log(config.agent.log_level);
  umask(0077);
  raise_descriptor_limit();
  block_stop_signals();

  Agent::Options options{arguments.node.empty() ? host_name() : arguments.node,
                         arguments.port != 0 ? arguments.port : config.agent.port,
                         boot_id(),
                         "",
                         std::getenv("ATLAS_TEST_SLOTS") != nullptr,
                         [] { notify_service_manager("WATCHDOG=1"); }};
  const bool anywhere =
      config.agent.listen == "0.0.0.0" || config.agent.listen == "::" || config.agent.listen == "[::]";
  options.host = anywhere ? host_name() : config.agent.listen;
  auto agent = Agent::start(config, options);
  if (!agent) {
    spdlog::error("{}", agent.error().message);
    return 1;
  }
  notify_service_manager("READY=1");
  const int signal = wait_for_stop_signal();
  spdlog::info("{}: stopping", strsignal(signal));  // NOLINT(concurrency-mt-unsafe)
  notify_service_manager("STOPPING=1");
  // A thread that hangs in a storage cannot be joined; what is on disk needs no farewell.
  std::thread([] {
    std::this_thread::sleep_for(std::chrono::seconds(3));
    _exit(0);
  }).detach();
  agent->reset();
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app("Holds this node's share of Atlas: replicas, their warm-up, and what jobs see of them.",
               "atlas-cache-agent");
  Arguments arguments;
  app.add_option("--config", arguments.config, "configuration file")->capture_default_str();
  app.add_option("--node", arguments.node, "the node's name in Slurm (default: the host name)");
  app.add_option("--port", arguments.port, "listen here instead of at agent.port");
  app.add_flag("--check-config", arguments.check_config, "check the configuration and exit");
  app.add_flag("--show-config", arguments.show_config, "print every value with its origin and exit");
  app.set_version_flag("--version", "atlas-cache-agent " ATLAS_VERSION);
  CLI11_PARSE(app, argc, argv);

  const auto config = load_config(arguments.config);
  if (!config) {
    std::fprintf(stderr, "atlas-cache-agent: %s\n", config.error().message.c_str());
    return 2;
  }
  if (arguments.show_config) std::fputs(show_config(*config).c_str(), stdout);
  if (arguments.check_config) std::printf("%s: ok\n", config->source.c_str());
  if (arguments.show_config || arguments.check_config) return 0;
  return serve(*config, arguments);
}

}  // namespace
}  // namespace atlas::agent

int main(int argc, char** argv) {
  try {
    atlas::settle_allocator();
    return atlas::agent::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "atlas-cache-agent: %s\n", error.what());
    return 1;
  }
}
