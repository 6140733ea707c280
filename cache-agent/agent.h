#pragma once
#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/job_io/job_io.h"
#include "cache-agent/jobs/job_table.h"
#include "cache-agent/jobs/local_node.h"
#include "cache-agent/limit/limit_governor.h"
#include "cache-agent/origin/posix_origin.h"
#include "cache-agent/rpc/agent_service.h"
#include "cache-agent/rpc/peer_client.h"
#include "cache-agent/rpc/peer_service.h"
#include "cache-agent/rpc/plan_client.h"
#include "cache-agent/rpc/reporter.h"
#include "cache-agent/rpc/space_client.h"
#include "cache-agent/store/scrubber.h"
#include "cache-agent/store/store.h"
#include "cache-agent/view/fuse/partial_views.h"
#include "cache-agent/view/local_handlers.h"
#include "cache-agent/warm/warm_engine.h"
#include "common/config.h"
#include "common/metrics/metrics_server.h"
#include "common/result.h"
#include "proto/auth.h"

namespace atlas::agent {

/// All parts of one node's agent, in the order in which they need each other. Owned by main().
class Agent {
 public:
  struct Options {
    std::string node;
    std::uint16_t port = 0;
    std::string boot;                     ///< this boot's id
    std::string host;                     ///< as the controller reaches us
    bool slots;                           ///< for tests: connections are taken over as on kernels before 6.9
    std::function<void()> alive = [] {};  ///< called every second while it gets on with its work
  };
  /// Takes the tiers, brings back replicas, jobs and leases, starts the services. Blocks.
  [[nodiscard]] static Result<std::unique_ptr<Agent>> start(const Config& config, Options options);
  /// Refuses new calls and ends what is under way.
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

 private:
  Agent() = default;
  [[nodiscard]] Status open_store(const Config& config, const Options& options);
  void make_parts(const Config& config, const Options& options);
  [[nodiscard]] Status serve(const Config& config, const Options& options);
  void flush_later();
  void tell_of_tiers();
  void give_way_later();

  SystemClock clock_;
  std::vector<std::unique_ptr<PosixOrigin>> origins_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Scrubber> scrubber_;
  std::unique_ptr<ThreadExecutor> flusher_;
  TimerHandle next_flush_, next_look_;              ///< the flusher's own
  std::map<std::string, std::string> tier_states_;  ///< the flusher's own: what was told
  std::unique_ptr<ThreadExecutor> caretaker_;
  std::stop_source stop_;  ///< the caretaker's long work
  TimerHandle next_care_;  ///< the caretaker's own
  std::unique_ptr<ThreadExecutor> limit_timer_;
  std::unique_ptr<LimitGovernor> governor_;
  std::unique_ptr<ThreadExecutor> writers_;
  std::unique_ptr<Fetcher> fetcher_;
  std::unique_ptr<JobIo> job_io_;
  std::unique_ptr<SpaceClient> space_;
  std::unique_ptr<WarmEngine> warm_;
  std::unique_ptr<Authenticator> auth_;
  std::unique_ptr<ControllerPeers> peer_finder_;
  std::unique_ptr<PeerClient> peers_;
  std::unique_ptr<ThreadExecutor> peer_readers_;
  std::unique_ptr<PeerService> peer_service_;
  std::unique_ptr<PlanClient> plans_;
  std::unique_ptr<view::PartialViews> partial_views_;
  std::unique_ptr<JobTable> jobs_;
  std::unique_ptr<LocalNode> node_;
  std::unique_ptr<ThreadExecutor> workers_, surveyors_;
  std::unique_ptr<view::ViewServer> views_;
  std::unique_ptr<Reporter> reporter_;
  std::unique_ptr<AgentService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<MetricsServer> metrics_;
};

}  // namespace atlas::agent
