// atlas-stage HOOK JOBID: what burst_buffer.lua runs, as SlurmUser, for a hook of a job. Exits 0 whatever happens (a
// hook's failure must never hold a job or drain a node) and before long whatever hangs; its lines go to slurmctld's
// log.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <thread>

#include "atlas/v1/controller.grpc.pb.h"
#include "controller/slurm/libslurm_port.h"
#include "launcher/atlas_stage.h"
#include "proto/client.h"

namespace {

using namespace atlas;

void on_alarm(int) {
  static constexpr char kText[] = "atlas-stage: out of time; the job goes on without it\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kText, sizeof kText - 1);
  ::_exit(0);
}

v1::HookRequest::Hook to_wire(Hook hook) {
  switch (hook) {
    case Hook::data_in:
      return v1::HookRequest::HOOK_DATA_IN;
    case Hook::pre_run:
      return v1::HookRequest::HOOK_PRE_RUN;
    default:
      return v1::HookRequest::HOOK_TEARDOWN;
  }
}

/// Asks the controller over the network.
class ControllerClient {
 public:
  ControllerClient(const Config& config, Authenticator auth)
      : auth_(std::move(auth)),
        address_(config.controller.host + ":" + std::to_string(config.controller.port)),
        stub_(v1::Controller::NewStub(make_channel(address_))) {}

  Result<HookAnswer> ask(Hook hook, std::uint32_t job_id, milliseconds timeout) {
    v1::HookRequest request;
    request.set_hook(to_wire(hook));
    request.set_job_id(job_id);
    ATLAS_ASSIGN(const auto reply, (call<v1::Controller::Stub, v1::HookRequest, v1::HookReply>(
                                       auth_, *stub_, &v1::Controller::Stub::Hook, "Controller.Hook", request, timeout,
                                       "the controller at " + address_)));
    return HookAnswer{reply.ready(), reply.message()};
  }

 private:
  Authenticator auth_;
  std::string address_;
  std::unique_ptr<v1::Controller::Stub> stub_;
};

void stage(Hook hook, std::uint32_t job_id, const std::string& config_file) {
  const auto log = [&](const std::string& line) {
    std::cerr << "atlas-stage: " << name_of(hook) << " of job " << job_id << ": " << line << std::endl;
  };
  const auto config = load_config(config_file);
  if (!config) return log(config.error().message);
  const SystemClock clock;
  const auto slurm = LibslurmPort::create();
  std::optional<ControllerClient> client;
  const auto ask = [&](Hook which, std::uint32_t id, milliseconds timeout) -> Result<HookAnswer> {
    if (!client) {
      ATLAS_ASSIGN(auto auth, Authenticator::from_config(*config));
      client.emplace(*config, std::move(auth));
    }
    return client->ask(which, id, timeout);
  };
  const auto pause = [](milliseconds time) { std::this_thread::sleep_for(time); };
  run_hook({*slurm, *config, clock, ask, log, pause}, hook, job_id);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Runs a hook of Slurm's burst buffer stages for Atlas. burst_buffer.lua calls it; see atlas-controller(8).",
      "atlas-stage");
  std::string hook_name;
  std::uint32_t job_id = 0;
  std::string config_file = default_config_path();
  app.add_option("HOOK", hook_name, "data_in, pre_run or teardown; others do nothing")->required();
  app.add_option("JOBID", job_id, "Slurm's job id")->required();
  app.add_option("--config", config_file, "Configuration file")->type_name("FILE")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto hook = parse_hook(hook_name);
  if (!hook) return 0;
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGALRM, on_alarm);
  ::alarm(static_cast<unsigned>(life_time(*hook).count()));
  try {
    stage(*hook, job_id, config_file);
  } catch (const std::exception& error) {
    std::cerr << "atlas-stage: " << error.what() << std::endl;
  }
  // Not through the libraries' destructors: with nothing left to do, nothing may hang.
  ::_exit(0);
}
