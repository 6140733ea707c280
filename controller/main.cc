// atlas-controller: one daemon beside slurmctld, as SlurmUser. Wires and owns; everything else is in the libraries.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "common/daemon.h"
#include "controller/rpc/agent_clients.h"
#include "controller/rpc/controller_service.h"
#include "controller/rpc/metrics.h"
#include "controller/slurm/libslurm_port.h"
#include "controller/staging/strand.h"
#include "proto/server.h"

namespace {

using namespace atlas;

void start_log(const std::string& level) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("atlas-controller"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %n[%P] %l: %v");
  spdlog::set_level(spdlog::level::from_str(level));
}

/// Owns the parts and serves until a signal ends it.
class Daemon {
 public:
  explicit Daemon(const Config& config) : config_(config), users_(config) {}

  Status run() {
    ATLAS_ASSIGN(const auto auth, Authenticator::from_config(config_));
    ATLAS_ASSIGN(const auto catalog, Catalog::open(config_.controller.database, config_.origins));
    const Log log{[](const std::string& text) { spdlog::info("{}", text); },
                  [](const std::string& text) { spdlog::warn("{}", text); }};
    const auto complain = [](const Error& error) { spdlog::error("{}", error.message); };
    const auto bug = [](const char* what) { spdlog::critical("a task failed, which is a bug: {}", what); };

    const auto slurm = LibslurmPort::create();
    AgentClients agents(auth);
    Registry registry(*catalog, clock_, complain);
    ATLAS_TRY(registry.load());
    Datasets datasets(*catalog, clock_, config_.origins);
    ATLAS_TRY(datasets.load());
    // The threads go before what their tasks use.
    Strand strand("atlas-strand", bug);
    Strand slurm_thread("atlas-slurm", bug);
    Staging staging({strand, slurm_thread, *slurm, agents, registry, datasets, *catalog, users_, clock_, config_, log});
    ATLAS_TRY(staging.load());
    const ControllerParts parts{strand, staging, registry, datasets, *catalog, users_, agents, clock_, config_, log};
    ControllerService service(auth, parts);
    ATLAS_ASSIGN(const auto server, serve(service));
    ATLAS_ASSIGN(const auto metrics, serve_metrics(parts));
    for (const auto& name : users_.unknown_operators())
      spdlog::warn("site.operators: there is no account '{}' on this host", name);
    if (config_.site.observe) spdlog::info("site.observe: jobs are only looked at (atlasctl observed)");
    strand.post([&staging] { staging.start(); });
    spdlog::info("version {} serves {}:{}, catalogue {}", ATLAS_VERSION, config_.controller.listen,
                 config_.controller.port, config_.controller.database);
    notify_service_manager("READY=1");

    const int signal = wait_for_stop_signal();
    spdlog::info("{}: stopping; what is staged goes on when the controller is back, or starts at its begin time",
                 strsignal(signal));
    notify_service_manager("STOPPING=1");
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
    strand.stop();
    // A call to a slurmctld that is gone takes its time, and agents may still answer into what would be destroyed here.
    // Everything that matters is in the catalogue, each change a transaction of its own: leave without unwinding.
    spdlog::shutdown();
    std::quick_exit(0);
  }

 private:
  Result<std::unique_ptr<grpc::Server>> serve(ControllerService& service) const {
    const std::string address = config_.controller.listen + ":" + std::to_string(config_.controller.port);
    grpc::ServerBuilder builder;
    tune_server(builder);
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    auto server = builder.BuildAndStart();
    if (!server || port == 0)
      return fail(Code::unavailable, "cannot listen on " + address +
                                         ": another process has it (ss -ltnp), or a port below 1024 needs "
                                         "CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit)");
    return server;
  }

  const Config& config_;
  Users users_;
  SystemClock clock_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Places, stages and accounts for the datasets of Slurm's jobs. See atlas-controller(8).",
               "atlas-controller");
  std::string file = default_config_path().string();
  bool check = false;
  bool show = false;
  app.add_option("--config", file, "Configuration file")->type_name("FILE")->capture_default_str();
  app.add_flag("--check-config", check, "Read the configuration, say what is wrong with it, and end");
  app.add_flag("--show-config", show, "Print every setting with where it comes from, and end");
  app.set_version_flag("--version", std::string("atlas-controller ") + ATLAS_VERSION);
  CLI11_PARSE(app, argc, argv);

  const auto config = load_config(file);
  if (!config) {
    std::cerr << "atlas-controller: " << config.error().message << '\n';
    return 2;
  }
  if (show) std::cout << show_config(*config);
  if (check) std::cout << file << ": in order\n";
  if (check || show) return 0;
  block_stop_signals();
  start_log(config->controller.log_level);
  if (auto ok = Daemon(*config).run(); !ok) {
    spdlog::error("{}", ok.error().message);
    return 1;
  }
  return 0;
}
