// atlas-controller: one daemon beside slurmctld, as SlurmUser. This file wires the parts and owns them.
#include <grpcpp/grpcpp.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>

#include "common/config.h"
#include "common/daemon.h"
#include "controller/rpc/controller_service.h"
#include "controller/rpc/grpc_agents.h"
#include "controller/slurm/libslurm_port.h"
#include "controller/staging/staging.h"
#include "controller/staging/strand.h"
#include "db/catalog.h"
#include "proto/auth.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

std::unique_ptr<grpc::Server> listen(grpc::Service& service, const std::string& address) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a second controller must not share the port
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  builder.SetMaxReceiveMessageSize(64 * 1024 * 1024);
  builder.RegisterService(&service);
  auto server = builder.BuildAndStart();
  return port == 0 ? nullptr : std::move(server);
}

Status serve(const Config& config) {
  ATLAS_ASSIGN(const Authenticator auth, Authenticator::from_config(config));
  ATLAS_ASSIGN(const auto catalog, Catalog::open(config.controller.database, config.origins));
  const auto slurm = LibslurmPort::create();
  const SystemClock clock;
  Users users(config);
  const auto complain = [](const Error& error) { spdlog::error("catalogue: {}", error.message); };
  const auto bug = [](const char* what) { spdlog::error("a task failed, which is a bug: {}", what); };

  Registry registry(*catalog, clock, complain);
  Datasets datasets(*catalog, clock, config.origins);
  ATLAS_TRY(registry.load());
  ATLAS_TRY(datasets.load());
  GrpcAgents agents(auth);
  Strand strand("atlas-core", bug);
  Strand slurm_thread("atlas-slurm", bug);
  const Log log{[](const std::string& line) { spdlog::info("{}", line); },
                [](const std::string& line) { spdlog::warn("{}", line); }};
  Staging staging({strand, slurm_thread, *slurm, agents, registry, datasets, *catalog, users, clock, config, log});
  ATLAS_TRY(staging.load());

  ControllerService service(auth, {strand, staging, registry, datasets, *catalog, users, agents, config},
                            {auth, strand, registry, staging, log.info});
  const std::string address = config.controller.listen + ":" + std::to_string(config.controller.port);
  const auto server = listen(service, address);
  if (!server)
    return fail(Code::unavailable,
                "cannot listen on " + address +
                    ": is the port taken (controller.port), or below 1024 without CAP_NET_BIND_SERVICE?");
  strand.post([&staging] { staging.start(); });
  spdlog::info("atlas-controller {} listens on {}, catalogue {}", ATLAS_VERSION, address, config.controller.database);
  notify_service_manager("READY=1");

  wait_for_stop_signal();
  spdlog::info("stopping; what is staged goes on when the controller is back, or starts at its begin time");
  notify_service_manager("STOPPING=1");
  server->Shutdown(std::chrono::system_clock::now() + 500ms);
  strand.stop();
  // A call to slurmctld, when that is gone, takes its time, and calls to agents may still be under way and return into
  // parts that are being destroyed. Everything that matters is in the catalogue (each change its own transaction), so
  // leave without unwinding.
  spdlog::shutdown();
  std::quick_exit(0);
}

}  // namespace
}  // namespace atlas

int main(int argc, char** argv) {
  CLI::App app(
      "Places jobs where their data is and warms caches before they start; runs beside slurmctld, as SlurmUser. See "
      "atlas-controller(8).",
      "atlas-controller");
  std::string file = atlas::default_config_path();
  bool check = false, show = false;
  app.add_option("--config", file, "Configuration file")->capture_default_str();
  app.add_flag("--check-config", check, "Check the configuration and exit");
  app.add_flag("--show-config", show, "Print every value and where it comes from, and exit");
  app.set_version_flag("--version", "atlas-controller " ATLAS_VERSION);
  CLI11_PARSE(app, argc, argv);

  const auto config = atlas::load_config(file);
  if (!config) {
    std::cerr << "atlas-controller: " << config.error().message << "\n";
    return 2;
  }
  if (show) std::cout << atlas::show_config(*config);
  if (check) std::cout << file << ": ok\n";
  if (show || check) return 0;

  atlas::block_stop_signals();
  spdlog::set_default_logger(spdlog::stderr_color_mt("atlas-controller"));
  spdlog::set_level(spdlog::level::from_str(config->controller.log_level));
  spdlog::flush_on(spdlog::level::info);
  if (auto ok = atlas::serve(*config); !ok) {
    spdlog::error("{}", ok.error().message);
    return 1;
  }
  return 0;
}
