#include "cache-agent/agent.h"

#include <spdlog/spdlog.h>

#include <filesystem>

#include "cache-agent/rpc/metrics.h"
#include "proto/server.h"

namespace atlas::agent {
namespace {

/// Writing small files is bound by the file system's journal, not by threads.
constexpr unsigned kWriters = 4;
constexpr std::chrono::seconds kFlushPeriod{5};
/// A disk that others fill at 3 GB/s has gained less than a thousandth of a common one meanwhile.
constexpr std::chrono::seconds kGiveWayPeriod{1};
constexpr unsigned kWorkers = 8;
/// A survey lists a whole tree, or hangs with it: none of the workers that plan and release jobs shall wait for it.
constexpr unsigned kSurveyors = 4;
/// Reading for other nodes: from a local disk, mostly from memory.
constexpr unsigned kPeerReaders = 4;

std::vector<Origin*> pointers(const std::vector<std::unique_ptr<PosixOrigin>>& origins) {
  std::vector<Origin*> out;
  for (const auto& origin : origins) out.push_back(origin.get());
  return out;
}

JobIo::Options job_io_options(const Config& config, const Agent::Options& options, const Fetcher& fetcher) {
  JobIo::Options out;
  out.run_dir = expand_node(config.agent.run_dir, options.node);
  out.disks.node = options.node;
  out.disks.rates = {config.disk.read, config.disk.write, config.disk.operations};
  for (const auto& tier : config.tiers) out.disks.directories.push_back(expand_node(tier.path, options.node));
  for (const auto& directory : config.disk.scratch)
    out.disks.directories.push_back(expand_node(directory, options.node));
  if (!config.agent.count_bypass) return out;
  auto& bypass = out.bypass.emplace();
  for (const auto& origin : config.origins) bypass.origins.push_back({origin.name, origin.root});
  bypass.caches = out.disks.directories;
  bypass.through = [&fetcher](const std::string& origin) { return fetcher.counters_of_origin(origin).bytes; };
  return out;
}

}  // namespace

Result<std::unique_ptr<Agent>> Agent::start(const Config& config, Options options) {
  std::unique_ptr<Agent> agent(new Agent());
  ATLAS_ASSIGN(auto auth, Authenticator::from_config(config));
  agent->auth_ = std::make_unique<Authenticator>(std::move(auth));
  for (const auto& origin : config.origins)
    agent->origins_.push_back(
        std::make_unique<PosixOrigin>(origin.name, origin.root, std::min(origin.operations, config.agent.operations)));
  ATLAS_TRY(agent->open_store(config, options));
  agent->make_parts(config, options);
  ATLAS_TRY(agent->jobs_->recover());
  // Jobs may be waiting for it.
  const auto taken = agent->partial_views_->take_over([jobs = agent->jobs_.get()](const view::KeptView& was) {
    return jobs->reading(was.job, was.dataset, was.generation);
  });
  if (taken != 0) spdlog::info("took over {} connections of running jobs", taken);
  ATLAS_TRY(agent->serve(config, options));
  return agent;
}

Status Agent::open_store(const Config& config, const Options& options) {
  StoreOptions store;
  for (const auto& tier : config.tiers)
    store.tiers.push_back(
        {tier.name, expand_node(tier.path, options.node), tier.quota, tier.inodes, tier.low, tier.high});
  store.boot = options.boot;
  store.absolute = [origins = config.origins](const DatasetId& dataset) {
    for (const auto& origin : origins)
      if (origin.name == dataset.origin) return dataset.path.empty() ? origin.root : origin.root + "/" + dataset.path;
    return dataset.path;
  };
  ATLAS_ASSIGN(store_, Store::open(std::move(store), clock_));
  store_->on_giving_way([](const std::string& what) { spdlog::warn("{}", what); });
  for (const auto& tier : store_->tiers())
    if (tier.state == "ok") {
      spdlog::info("tier {}: {} of {} in use", tier.name, format_size(tier.used), format_size(tier.quota));
    } else {
      spdlog::error("tier {}: out of use; check its disk and restart the agent", tier.name);
    }
  return {};
}

void Agent::make_parts(const Config& config, const Options& options) {
  writers_ = std::make_unique<ThreadExecutor>(kWriters);
  FetcherOptions fetch;
  fetch.chunk = config.warm.chunk;
  limit_timer_ = std::make_unique<ThreadExecutor>(1);
  governor_ = std::make_unique<LimitGovernor>(options.node, clock_, *limit_timer_);
  governor_->on_newcomer([this] { reporter_->usage_changed(); });
  fetcher_ = std::make_unique<Fetcher>(pointers(origins_), *governor_, *writers_, fetch);
  WarmOptions warm;
  warm.node = options.node;
  warm.revalidate = config.warm.revalidate;
  warm.settle = config.warm.settle;
  for (const auto& origin : config.origins)
    if (!origin.exclude.empty()) warm.exclude[origin.name] = origin.exclude;
  warm.access_limit = config.agent.origin_silence;
  // With others to wait for, more is asked ahead, so that this node's own share keeps the origin's pool busy.
  warm.window = (config.warm.peers ? 4 : 2) * config.agent.operations;
  warm.divide = config.warm.peers;
  warm_ = std::make_unique<WarmEngine>(pointers(origins_), *store_, *fetcher_, clock_, warm);

  const std::string controller = config.controller.host + ":" + std::to_string(config.controller.port);
  const std::string peer = "the controller at " + controller;
  if (config.warm.peers) {
    peer_finder_ = std::make_unique<ControllerPeers>(*auth_, make_channel(controller), peer);
    PeerClientOptions ask;
    ask.node = options.node;
    ask.wait = config.warm.peer_wait;
    ask.reader_limited = config.agent.read_deadline / 2;  // the origin needs time, too
    peers_ = std::make_unique<PeerClient>(*auth_, *peer_finder_, *writers_, std::move(ask));
    fetcher_->ask_first(*peers_);
    peer_readers_ = std::make_unique<ThreadExecutor>(kPeerReaders);
    peer_service_ = std::make_unique<PeerService>(
        *auth_, *store_,
        [this](const DatasetId& dataset, const GenerationId& generation) {
          return warm_->expects(dataset, generation);
        },
        *peer_readers_);
    peer_service_->bring_with(
        [this](std::uint32_t job_id, const std::shared_ptr<Replica>& replica, const Extent& want,
               std::function<void()> failed) {
          return warm_->shares().bring(job_id, replica, want, std::move(failed));
        },
        [this](std::uint32_t job_id, const DatasetId& dataset) { return warm_->shares().parked(job_id, dataset); });
  }
  space_ = std::make_unique<SpaceClient>(*auth_, make_channel(controller), peer, options.node);
  warm_->stay_within(*space_);
  plans_ = std::make_unique<PlanClient>(*auth_, make_channel(controller), peer, options.node);
  std::map<std::string, JobTable::OriginPlace> places;
  for (const auto& origin : config.origins) places[origin.name] = {origin.root, mounted_noexec(origin.root)};
  jobs_ = std::make_unique<JobTable>(*store_, plans_.get(), std::move(places));
  view::PartialViews::Options through;
  through.deadline = config.agent.read_deadline;
  through.holder = view::holder_socket(expand_node(config.agent.run_dir, options.node));
  through.takeover_deadline = config.agent.takeover_deadline;
  through.slots = options.slots;
  through.passthrough = config.agent.passthrough;
  through.alive = options.alive;
  through.share = [this](const JobKey& job, const Principal& as, const Replica& replica) {
    return jobs_->share_of(job, as, replica);
  };
  through.warn = [](const std::string& message) { spdlog::warn("{}", message); };
  through.inform = [](const std::string& message) { spdlog::info("{}", message); };
  if (const auto why = view::why_no_passthrough(); config.agent.passthrough && !why.empty())
    spdlog::info("files of partial replicas are read through this agent, not by the kernel itself: {}", why);
  partial_views_ = std::make_unique<view::PartialViews>(pointers(origins_), *fetcher_, clock_, through);
  jobs_->look_first(*warm_, clock_);
  jobs_->stay_within(*governor_);
  jobs_->read_through(*partial_views_);
  node_ = std::make_unique<LocalNode>(*store_, *warm_, *fetcher_, *jobs_, *partial_views_, *governor_, clock_);
  workers_ = std::make_unique<ThreadExecutor>(kWorkers);
  surveyors_ = std::make_unique<ThreadExecutor>(kSurveyors);
  reporter_ = std::make_unique<Reporter>(
      *auth_, make_channel(controller), peer,
      Reporter::Identity{options.node, options.host + ":" + std::to_string(options.port),
                         expand_node(config.agent.run_dir, options.node) + "/limits." + options.node},
      *node_, *governor_);
}

Status Agent::serve(const Config& config, const Options& options) {
  view::ViewServer::Options local;
  local.socket = expand_node(config.agent.socket, options.node);
  local.run_dir = expand_node(config.agent.run_dir, options.node);
  local.limit = config.agent.attach_timeout * 4 / 5;
  local.warn = [](const std::string& message) { spdlog::warn("{}", message); };
  for (const auto& directory : {local.run_dir, std::filesystem::path(local.socket).parent_path()}) {
    std::error_code error;
    const bool made = std::filesystem::create_directories(directory, error);
    if (error) return fail_errno(error.value(), "cannot make " + directory.string());
    if (made) std::filesystem::permissions(directory, std::filesystem::perms(0755), error);  // jobs pass to $ATLAS_ROOT
  }
  job_io_ = std::make_unique<JobIo>(clock_, *governor_, job_io_options(config, options, *fetcher_));
  job_io_->only(jobs_->jobs());
  local.attached = [this](std::uint32_t job_id, const Principal& as, pid_t process) {
    job_io_->attached(job_id, as, process);
  };
  node_->tell_of(*job_io_);
  node_->on_change([this](const ReplicaInfo& replica) { reporter_->replica_changed(replica); });  // jobs attach at once
  ATLAS_ASSIGN(views_, view::ViewServer::start(*jobs_, clock_, local));
  node_->on_release([this](std::uint32_t job_id) {  // called by the RPCs below
    views_->release(job_id);
    job_io_->released(job_id);
  });
  for (const auto& attempt : views_->held())
    if (!jobs_->knows(attempt.job_id)) views_->release(attempt.job_id);

  service_ = std::make_unique<AgentService>(*auth_, *node_, *workers_, *surveyors_, peer_service_.get());
  grpc::ServerBuilder builder;
  const std::string address = config.agent.listen + ":" + std::to_string(options.port);
  int bound = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &bound);
  tune_server(builder);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  if (!server_ || bound == 0)
    return fail(Code::unavailable, "cannot listen on " + address + ": is another agent running, or is the port taken?");
  reporter_->start();
  scrubber_ =
      std::make_unique<Scrubber>(*store_, clock_, ScrubOptions{config.agent.scrub_period, config.agent.scrub_rate},
                                 [](const std::string& what) { spdlog::warn("{}", what); });
  flusher_ = std::make_unique<ThreadExecutor>(2);  // a flush may hang with a disk, to tell of that must not
  flusher_->post([this] { flush_later(); });
  flusher_->post([this] { tell_of_tiers(); });
  caretaker_ = std::make_unique<ThreadExecutor>(2);  // room must be made while a million files are being deleted
  caretaker_->post([this] { give_way_later(); });
  caretaker_->post([this] { store_->empty_trash(stop_.get_token()); });
  if (!config.agent.metrics.empty()) {
    ATLAS_ASSIGN(metrics_, MetricsServer::start(config.agent.metrics, [this] { return metrics_of(*node_); }));
  }
  spdlog::info("node {} serves on {} and {}", options.node, address, local.socket);
  return {};
}

/// Administrators learn from the log when a disk has to be looked at.
void Agent::tell_of_tiers() {
  for (const auto& tier : store_->tiers()) {
    const std::string state = tier.state == "crowded" ? "ok" : tier.state;  // the disk itself works
    auto& told = tier_states_.try_emplace(tier.name, "ok").first->second;
    if (told == state) continue;
    told = state;
    if (state == "ok")
      spdlog::info("tier {}: its disk works again", tier.name);
    else if (state == "out")
      spdlog::error("tier {} is out of use until the agent is started anew: {}", tier.name, tier.why);
    else
      spdlog::error("tier {}: its disk errs or does not answer; nothing new goes there until it works", tier.name);
  }
  next_look_ = flusher_->post_at(clock_.now() + kFlushPeriod, [this] { tell_of_tiers(); });
}

/// What views read is compared with its checksums until it is known to be on the disk: that shall not last.
void Agent::flush_later() {
  next_flush_ = flusher_->post_at(clock_.now() + kFlushPeriod, [this] {
    store_->flush_what_is_read();
    flush_later();
  });
}

/// On a thread of its own: a flush may take as long as the disk.
void Agent::give_way_later() {
  next_care_ = caretaker_->post_at(clock_.now() + kGiveWayPeriod, [this] {
    store_->give_way();
    give_way_later();
  });
}

Agent::~Agent() {
  metrics_.reset();
  if (peer_service_) peer_service_->stop();
  if (server_) server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  server_.reset();
  scrubber_.reset();
  flusher_.reset();
  stop_.request_stop();
  caretaker_.reset();
  // What still calls goes before what is called.
  workers_.reset();
  surveyors_.reset();
  peer_readers_.reset();
  views_.reset();
  if (job_io_) job_io_->stop();
  // Without a holder their jobs get errors now, and do not wait for a process that is gone.
  if (partial_views_) partial_views_->close();
  if (peers_) peers_->stop();
  if (governor_) governor_->open();  // what is parked ends sooner than its limits allow
  warm_.reset();
  fetcher_.reset();
  reporter_.reset();
  limit_timer_.reset();  // joined before the governor goes
}

}  // namespace atlas::agent
