// The agent as a process: over the wire, with real munge, through restarts.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <fstream>
#include <thread>

#include "atlas/v1/agent.grpc.pb.h"
#include "atlas/v1/controller.grpc.pb.h"
#include "controller/limits/sharing.h"
#include "proto/client.h"
#include "proto/convert.h"
#include "proto/server.h"
#include "tests/support/eventually.h"
#include "tests/support/loop_disk.h"
#include "tests/support/node_parts.h"
#include "tests/support/private_munged.h"

namespace atlas::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

constexpr std::uint32_t kAlice = 30001;

/// The controller's end of the report stream: keeps what the agent says.
class Listener final : public v1::Controller::CallbackService {
 public:
  explicit Listener(const Authenticator& auth) : auth_(auth) {}

  grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>* Report(grpc::CallbackServerContext* ctx) override {
    class Stream final : public grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote> {
     public:
      Stream(Listener& owner, grpc::CallbackServerContext* ctx) : owner_(owner), ctx_(ctx) { StartRead(&report_); }
      void OnReadDone(bool ok) override {
        if (!ok) return finish(grpc::Status::OK);
        if (report_.has_hello()) {
          const auto caller = owner_.auth_.check_request(*ctx_, "Controller.Report", report_);
          if (!caller || !owner_.auth_.sign_stream(*ctx_, "Controller.Report", report_))
            return finish({grpc::StatusCode::UNAUTHENTICATED, "who?"});
          v1::ControllerNote welcome;
          welcome.mutable_welcome()->set_cluster("test");
          write(std::move(welcome));
          if (owner_.budgets_) {
            v1::ControllerNote limits;
            *limits.mutable_budgets() = *owner_.budgets_;
            write(std::move(limits));
          }
        }
        if (auto shares = owner_.divide(report_)) write(std::move(*shares));
        owner_.heard(report_);
        StartRead(&report_);
      }
      void OnWriteDone(bool ok) override {
        if (!ok) return;
        const std::lock_guard lock(mutex_);
        notes_.pop_front();
        if (!notes_.empty()) StartWrite(&notes_.front());
      }
      void OnCancel() override { finish(grpc::Status::CANCELLED); }
      void OnDone() override { delete this; }

     private:
      void finish(const grpc::Status& status) {
        if (!over_.exchange(true)) Finish(status);
      }
      void write(v1::ControllerNote note) {
        const std::lock_guard lock(mutex_);
        notes_.push_back(std::move(note));
        if (notes_.size() == 1) StartWrite(&notes_.front());
      }
      Listener& owner_;
      grpc::CallbackServerContext* ctx_;
      v1::AgentReport report_;
      std::mutex mutex_;                      ///< guards what follows
      std::deque<v1::ControllerNote> notes_;  ///< the first one is being written
      std::atomic<bool> over_{false};
    };
    return new Stream(*this, ctx);
  }

  void heard(const v1::AgentReport& report) {
    const std::lock_guard lock(mutex_);
    reports_.push_back(report);
    changed_.notify_all();
  }
  /// The first report, from the `from`th on, that passes; waits for it.
  v1::AgentReport wait_for(const std::function<bool(const v1::AgentReport&)>& wanted, std::size_t from = 0) {
    std::unique_lock lock(mutex_);
    v1::AgentReport found;
    const bool there = changed_.wait_for(lock, 10s, [&] {
      for (std::size_t i = from; i < reports_.size(); ++i)
        if (wanted(reports_[i])) {
          found = reports_[i];
          return true;
        }
      return false;
    });
    EXPECT_TRUE(there) << "the agent did not report it";
    return found;
  }
  /// What the controller itself would answer, if it is to divide limits.
  std::optional<v1::ControllerNote> divide(const v1::AgentReport& report) {
    if (!report.has_usage() || !sharing_) return std::nullopt;
    std::vector<IoDemand> demands;
    for (const auto& flow : report.usage().flows())
      demands.push_back({from_wire(flow.flow()), from_wire(flow.foreground()), from_wire(flow.warm()),
                         from_wire(flow.used()), flow.waiting(), from_wire(flow.cap())});
    const std::lock_guard lock(mutex_);
    sharing_->report("n1", report.usage().seen(), demands, clock_.now());
    v1::ControllerNote note;
    for (const auto& [node, message] : sharing_->divide(clock_.now())) {
      note.mutable_shares()->set_number(message.number);
      for (const auto& share : message.shares) {
        auto* to = note.mutable_shares()->add_shares();
        *to->mutable_flow() = to_wire(share.flow);
        *to->mutable_rate() = to_wire(share.rate);
      }
    }
    return note.has_shares() ? std::optional(note) : std::nullopt;
  }
  std::size_t count() {
    const std::lock_guard lock(mutex_);
    return reports_.size();
  }

  std::optional<v1::Budgets> budgets_;  ///< sent to who is welcomed; not to be changed while an agent runs
  std::optional<Sharing> sharing_;      ///< divides them; same

 private:
  const Authenticator& auth_;
  SystemClock clock_;
  std::mutex mutex_;  ///< guards reports_ and sharing_
  std::condition_variable changed_;
  std::vector<v1::AgentReport> reports_;
};

class AgentProcess : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: agents run as root";
    if (!munged_.running()) GTEST_SKIP() << "no munged";
    std::filesystem::create_directories(temp_.path("origin/ds"));
    for (int i = 0; i < 20; ++i)
      write_file(temp_.path("origin/ds/" + std::to_string(i)), random_bytes(100'000, static_cast<unsigned>(i)));
    auth_ = std::make_unique<Authenticator>(Munge(munged_.socket()), std::set<uid_t>{0});
    listener_ = std::make_unique<Listener>(*auth_);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &controller_port_);
    builder.RegisterService(listener_.get());
    controller_ = builder.BuildAndStart();
    port_ = free_port();
    std::ofstream(temp_.path("atlas.toml"))
        << "[site]\nslurm_user = \"root\"\nmunge_socket = \"" << munged_.socket()
        << "\"\n[controller]\nhost = \"127.0.0.1\"\nport = " << controller_port_
        << "\n[agent]\nlisten = \"127.0.0.1\"\nport = " << port_ << "\nsocket = \"" << temp_.path("run/%n.sock")
        << "\"\nrun_dir = \"" << temp_.path("run") << "\"\n[[origin]]\nname = \"o\"\nroot = \"" << temp_.path("origin")
        << "\"\n[[tier]]\nname = \"nvme\"\npath = \"" << temp_.path("tier/%n") << "\"\nquota = \"1G\"\n";
  }
  void TearDown() override {
    if (pid_ > 0) stop(SIGKILL);
    if (controller_) controller_->Shutdown(std::chrono::system_clock::now() + 1s);
    umount2(temp_.path("run/ns").c_str(), MNT_DETACH);
  }
  static int free_port() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    v1::Agent::CallbackService nothing;
    builder.RegisterService(&nothing);
    builder.BuildAndStart()->Shutdown();
    return port;
  }
  /// Returns what it says hello with.
  v1::AgentReport start() {
    const std::size_t from = listener_->count();
    pid_ = fork();
    if (pid_ == 0) {
      const int log = open(temp_.path("agent.log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      dup2(log, STDERR_FILENO);
      execl(ATLAS_AGENT, ATLAS_AGENT, "--config", temp_.path("atlas.toml").c_str(), "--node", "n1", nullptr);
      _exit(127);
    }
    auto hello = listener_->wait_for([](const auto& r) { return r.has_hello(); }, from);
    channel_ = make_channel("127.0.0.1:" + std::to_string(port_));
    stub_ = v1::Agent::NewStub(channel_);
    return hello;
  }
  /// Starts an agent that is told of a limit, and has noted it where this says.
  std::string start_under(const std::string& kind, const std::string& name, std::uint32_t id, double bytes) {
    auto& limit = *listener_->budgets_.emplace().add_budgets();
    limit.set_kind(kind);
    limit.set_name(name);
    limit.set_id(id);
    *limit.mutable_rate() = to_wire(IoRate{bytes, kNoRate});
    limit.set_burst(100);
    listener_->budgets_->set_nodes(1);
    start();
    std::string note = temp_.path("run/limits.n1");
    EXPECT_TRUE(test::eventually([&] { return std::filesystem::exists(note); }));
    return note;
  }
  int stop(int signal) {
    kill(pid_, signal);
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }
  [[nodiscard]] std::string log() const {
    std::ifstream in(temp_.path("agent.log"));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::vector<v1::Progress> warm(Status& status, const std::string& account = "") {
    return warm(status, account, {kAlice, kAlice, {}}, job(), "ds");
  }
  std::vector<v1::Progress> warm(Status& status, const std::string& account, const Principal& as, const JobKey& payer,
                                 const std::string& dataset) {
    v1::WarmRequest request;
    request.set_account(account);
    *request.mutable_dataset() = to_wire(DatasetId{"o", dataset});
    *request.mutable_as() = to_wire(as);
    *request.mutable_payer() = to_wire(payer);
    std::vector<v1::Progress> all;
    status = read_stream<v1::Agent::Stub, v1::WarmRequest, v1::Progress>(
        *auth_, *stub_, &v1::Agent::Stub::Warm, "Agent.Warm", request, "the agent", [&](const v1::Progress& p) {
          all.push_back(p);
          return true;
        });
    return all;
  }
  static JobKey job() { return {"test", 42, 0, std::chrono::sys_seconds(1000s)}; }
  Result<v1::PlanReply> plan() {
    v1::PlanRequest request;
    *request.mutable_job() = to_wire(job());
    *request.mutable_as() = to_wire(Principal{kAlice, kAlice, {}});
    *request.add_datasets()->mutable_dataset() = to_wire(DatasetId{"o", "ds"});
    return call(*auth_, *stub_, &v1::Agent::Stub::Plan, "Agent.Plan", request, 5s, "the agent");
  }
  Result<v1::EvictReply> evict() {
    v1::EvictRequest request;
    *request.mutable_dataset() = to_wire(DatasetId{"o", "ds"});
    return call(*auth_, *stub_, &v1::Agent::Stub::Evict, "Agent.Evict", request, 5s, "the agent");
  }
  Result<v1::ReleaseReply> release() {
    v1::ReleaseRequest request;
    *request.mutable_job() = to_wire(job());
    return call(*auth_, *stub_, &v1::Agent::Stub::Release, "Agent.Release", request, 5s, "the agent");
  }

  TempDir temp_;
  test::PrivateMunged munged_;
  std::unique_ptr<Authenticator> auth_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<grpc::Server> controller_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Agent::Stub> stub_;
  int controller_port_ = 0, port_ = 0;
  pid_t pid_ = -1;
};

TEST_F(AgentProcess, GivesWayByItselfToOthersWhoFillItsDisk) {
  std::filesystem::create_directory(temp_.path("tier"));
  const LoopDisk disk(temp_.path("image"), 64 << 20, temp_.path("tier"));
  std::ofstream(temp_.path("atlas.toml"), std::ios::app) << "low_mark = \"60%\"\nhigh_mark = \"80%\"\n";
  start();
  Status status;
  static_cast<void>(warm(status));
  ASSERT_TRUE(status) << status.error().message << log();
  const auto from = listener_->count();
  {
    const UniqueFd others(open(temp_.path("tier/others").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(fallocate(others.get(), 0, 0, 52 << 20), 0) << strerror(errno);
  }
  const auto gone = listener_->wait_for(
      [](const auto& r) { return r.has_change() && r.change().replica().state() == v1::REPLICA_STATE_ABSENT; }, from);
  EXPECT_EQ(gone.change().replica().dataset().path(), "ds");
  static_cast<void>(test::eventually(
      [&] { return log().find("others fill the disk of tier nvme: 1 replicas") != std::string::npos; }, 10s));
  EXPECT_THAT(log(), HasSubstr("others fill the disk of tier nvme: 1 replicas, "));
  EXPECT_EQ(stop(SIGTERM), 0) << log();
}

TEST_F(AgentProcess, WarmsReportsLeasesAndReleases) {
  const auto hello = start().hello();
  EXPECT_EQ(hello.node(), "n1");
  EXPECT_EQ(hello.address(), "127.0.0.1:" + std::to_string(port_));
  ASSERT_EQ(hello.tiers_size(), 1);
  EXPECT_EQ(hello.tiers(0).state(), "ok");

  Status status;
  const auto progress = warm(status);
  ASSERT_TRUE(status) << status.error().message;
  ASSERT_FALSE(progress.empty());
  EXPECT_EQ(progress.back().phase(), v1::Progress::PHASE_COMPLETE);
  EXPECT_EQ(progress.back().bytes_done(), 2'000'000U);
  EXPECT_EQ(progress.back().origin_bytes(), 2'000'000U);
  const auto change = listener_->wait_for(
      [](const auto& r) { return r.has_change() && r.change().replica().state() == v1::REPLICA_STATE_COMPLETE; });
  EXPECT_EQ(change.change().replica().generation().id(), progress.back().generation().id());

  const auto planned = plan();
  ASSERT_TRUE(planned) << planned.error().message;
  ASSERT_EQ(planned->replicas_size(), 1);
  EXPECT_EQ(planned->replicas(0).state(), v1::REPLICA_STATE_COMPLETE);
  EXPECT_THAT(planned->replicas(0).leases(), ElementsAre(42U));
  const auto kept = evict();
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_EQ(kept->replicas(), 0U);

  const auto released = release();
  ASSERT_TRUE(released) << released.error().message;
  EXPECT_TRUE(released->known());
  ASSERT_EQ(released->datasets_size(), 1);
  EXPECT_EQ(released->datasets(0).origin_bytes(), 2'000'000U);
  EXPECT_EQ(released->datasets(0).attached(), v1::REPLICA_STATE_ABSENT) << "nothing was mounted";
  EXPECT_FALSE(release()->known()) << "once";
  EXPECT_EQ(evict()->replicas(), 1U);
  listener_->wait_for(
      [](const auto& r) { return r.has_change() && r.change().replica().state() == v1::REPLICA_STATE_ABSENT; });
  EXPECT_EQ(stop(SIGTERM), 0) << log();
}

TEST_F(AgentProcess, KilledAndStartedAgainItHasItsReplicasJobsAndLeases) {
  start();
  Status status;
  const auto first = warm(status);
  ASSERT_TRUE(status) << status.error().message;
  ASSERT_TRUE(plan());
  stop(SIGKILL);
  const std::size_t from = listener_->count();
  const auto hello = start().hello();
  ASSERT_EQ(hello.jobs_size(), 1);
  EXPECT_EQ(hello.jobs(0).job_id(), 42U);
  const auto inventory = listener_->wait_for([](const auto& r) { return r.has_inventory(); }, from).inventory();
  ASSERT_EQ(inventory.replicas_size(), 1);
  EXPECT_EQ(inventory.replicas(0).state(), v1::REPLICA_STATE_COMPLETE);
  EXPECT_THAT(inventory.replicas(0).leases(), ElementsAre(42U));
  EXPECT_EQ(evict()->replicas(), 0U) << "the lease holds";
  const auto again = warm(status);
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(again.back().generation().id(), first.back().generation().id());
  EXPECT_EQ(again.back().origin_bytes(), 0U);
  EXPECT_TRUE(release()->known());
  EXPECT_EQ(stop(SIGTERM), 0) << log();
}

TEST_F(AgentProcess, WhatIsReadForAJobThatHasEndedStaysUnderItsLimits) {
  start_under("account", "speech", 0, 20e3);
  std::thread warming([&] {
    Status status;
    static_cast<void>(warm(status, "speech"));
  });
  const auto read_under_it = [](const auto& r) {
    return std::any_of(r.usage().flows().begin(), r.usage().flows().end(),
                       [](const auto& flow) { return flow.flow().account() == "speech" && flow.waiting() != 0; });
  };
  listener_->wait_for(read_under_it);
  EXPECT_TRUE(release());
  for (int i = 0; i < 2; ++i) listener_->wait_for(read_under_it, listener_->count());
  stop(SIGKILL);
  warming.join();
}

struct LimitOfTwo {
  std::string kind, name;
  std::uint32_t id = 0;
};

class AgentProcessUnder : public AgentProcess, public ::testing::WithParamInterface<LimitOfTwo> {};

TEST_P(AgentProcessUnder, ALimitHoldsForTwoUsersTogether) {
  constexpr double kRate = 1e6;
  constexpr std::uint32_t kStaff = 30010, kBob = 30002;
  std::filesystem::copy(temp_.path("origin/ds"), temp_.path("origin/his"));
  const auto& limit = GetParam();
  IoBudget budget{limit_kind(limit.kind).value(), limit.name, limit.id, {kRate, kNoRate}, 100ms, 0};
  listener_->sharing_.emplace().set_budgets({budget});
  start_under(limit.kind, limit.name, limit.id, kRate);
  Status hers, his;
  const auto began = std::chrono::steady_clock::now();
  std::thread bob([&] { static_cast<void>(warm(his, "speech", {kBob, kStaff, {}}, {"test", 43, 0, {}}, "his")); });
  static_cast<void>(warm(hers, "speech", {kAlice, kStaff, {}}, {"test", 42, 0, {}}, "ds"));
  bob.join();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  ASSERT_TRUE(hers) << hers.error().message;
  ASSERT_TRUE(his) << his.error().message;
  EXPECT_GE(took.count(), 4e6 / kRate - 0.6) << "4 MB; a burst of each, and what each owes at the end";
  EXPECT_EQ(stop(SIGTERM), 0) << log();
}

INSTANTIATE_TEST_SUITE_P(Limits, AgentProcessUnder,
                         ::testing::Values(LimitOfTwo{"group", "staff", 30010}, LimitOfTwo{"node", "n1"},
                                           LimitOfTwo{"account", "speech"}),
                         [](const auto& one) { return one.param.kind; });

TEST_F(AgentProcess, ItsLimitsHoldBeforeTheControllerNamesThem) {
  const std::string note = start_under("user", "alice", kAlice, 20e6);
  stop(SIGKILL);
  listener_->budgets_.reset();
  start();
  Status status;
  static_cast<void>(warm(status));
  ASSERT_TRUE(status) << status.error().message;
  ASSERT_TRUE(plan());
  const auto released = release();
  ASSERT_TRUE(released) << released.error().message;
  EXPECT_GT(released->throttled_bytes(), 0U);
  EXPECT_EQ(stop(SIGTERM), 0) << log();
  std::ofstream(note) << "no limits";
  start();
  EXPECT_EQ(stop(SIGTERM), 0) << log();
}

TEST_F(AgentProcess, WhatItCannotDoOfItsConfigurationIsReported) {
  std::ofstream(temp_.path("atlas.toml"), std::ios::app) << "[disk]\nread = \"1G\"\nscratch = [\"/proc\"]\n";
  start();
  const auto beat = listener_->wait_for([](const auto& r) { return r.heartbeat().warnings_size() != 0; });
  EXPECT_THAT(beat.heartbeat().warnings(), ElementsAre("[disk] cannot be kept: /proc is on no disk of the node"));
}

TEST_F(AgentProcess, ASecondAgentOnTheNodeIsRefused) {
  start();
  const pid_t second = fork();
  if (second == 0) {
    const int sink = open(temp_.path("second.log").c_str(), O_WRONLY | O_CREAT, 0600);
    dup2(sink, STDERR_FILENO);
    execl(ATLAS_AGENT, ATLAS_AGENT, "--config", temp_.path("atlas.toml").c_str(), "--node", "n1", nullptr);
    _exit(127);
  }
  int result = 0;
  waitpid(second, &result, 0);
  EXPECT_EQ(WEXITSTATUS(result), 1);
  std::ifstream in(temp_.path("second.log"));
  EXPECT_THAT(std::string(std::istreambuf_iterator<char>(in), {}), HasSubstr("tier nvme"));
  Status status;
  warm(status);
  EXPECT_TRUE(status) << "the first one is not disturbed";
}

TEST_F(AgentProcess, AnyoneElseIsTurnedAway) {
  start();
  // The same key, but another user: a child that makes the call as alice.
  // Opened before: the way to the program may be closed to her.
  const UniqueFd program(open(CALL_AGENT, O_PATH));
  ASSERT_TRUE(program);
  std::string socket = munged_.socket(), port = std::to_string(port_), name = "call-agent";
  char* const argv[] = {name.data(), socket.data(), port.data(), nullptr};
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(kAlice) != 0 || setuid(kAlice) != 0) _exit(3);
    syscall(SYS_execveat, program.get(), "", argv, environ, AT_EMPTY_PATH);
    _exit(127);
  }
  int result = 0;
  waitpid(child, &result, 0);
  EXPECT_EQ(WEXITSTATUS(result), static_cast<int>(Code::permission_denied));
}

}  // namespace
}  // namespace atlas::agent
