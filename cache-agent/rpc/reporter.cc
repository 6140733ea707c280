#include "cache-agent/rpc/reporter.h"

#include <spdlog/spdlog.h>

#include <deque>
#include <random>
#include <utility>

#include "proto/convert.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

constexpr auto kHeartbeat = 5s;
constexpr std::chrono::milliseconds kFirstPause = 200ms, kLongestPause = 2s;
constexpr std::size_t kMaxQueued = 4096;  ///< beyond this a fresh inventory is shorter

void add_tiers(const Node& node, google::protobuf::RepeatedPtrField<v1::TierState>* out) {
  for (const auto& tier : node.tiers()) {
    auto* t = out->Add();
    t->set_name(tier.name);
    t->set_quota(tier.quota.count);
    t->set_used(tier.used.count);
    t->set_state(tier.state);
    t->set_inodes(tier.inodes);
    t->set_inodes_used(tier.inodes_used);
  }
}

std::uint64_t random_epoch() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace

/// One connection. gRPC calls its reactions one at a time; send() comes from any thread. Keeps itself alive until
/// OnDone().
class Reporter::Call final : public grpc::ClientBidiReactor<v1::AgentReport, v1::ControllerNote> {
 public:
  Call(Reporter& owner, v1::AgentReport hello) : owner_(owner), first_(std::move(hello)) { queue_.push_back(first_); }

  Status start(std::shared_ptr<Call> self) {
    ATLAS_TRY(owner_.auth_.sign_request(ctx_, "Controller.Report", first_));
    self_ = std::move(self);
    owner_.stub_->async()->Report(&ctx_, this);
    AddHold();  // writes are started from outside of reactions
    {
      const std::lock_guard lock(mutex_);
      pump();
    }
    StartCall();
    return {};
  }
  void send(v1::AgentReport report) {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    if (queue_.size() >= kMaxQueued) return cancel_locked();
    queue_.push_back(std::move(report));
    pump();
  }
  void cancel() {
    const std::lock_guard lock(mutex_);
    cancel_locked();
  }
  [[nodiscard]] bool done() const {
    const std::lock_guard lock(mutex_);
    return done_;
  }
  [[nodiscard]] bool welcomed() const {
    const std::lock_guard lock(mutex_);
    return welcomed_;
  }
  [[nodiscard]] Status result() const {
    const std::lock_guard lock(mutex_);
    return result_;
  }

 private:
  void pump() {  // mutex_ held
    if (writing_ || queue_.empty() || over_) return;
    writing_ = true;
    current_ = std::move(queue_.front());
    queue_.pop_front();
    StartWrite(&current_);
  }
  void cancel_locked() {
    ctx_.TryCancel();
    end_locked();
  }
  void end_locked() {
    if (std::exchange(over_, true)) return;
    RemoveHold();
  }
  void OnReadInitialMetadataDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    if (ok) {
      result_ = owner_.auth_.check_stream(ctx_, "Controller.Report", first_);
      if (result_) return StartRead(&note_);
    }
    cancel_locked();
  }
  void OnReadDone(bool ok) override {
    bool wants_inventory = false;
    {
      const std::lock_guard lock(mutex_);
      if (!ok) return end_locked();
      welcomed_ = welcomed_ || note_.has_welcome();
      wants_inventory = note_.has_send_inventory();
    }
    owner_.wake_.notify_all();
    if (wants_inventory) send(owner_.inventory());
    const std::lock_guard lock(mutex_);
    StartRead(&note_);
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) return cancel_locked();
    pump();
  }
  void OnDone(const grpc::Status& status) override {
    const auto keep = std::move(self_);
    const std::lock_guard owner_lock(owner_.mutex_);  // all of it: once done() is seen under this lock the owner may go
    const std::lock_guard lock(mutex_);
    if (result_) result_ = fail(from_status(status, owner_.peer_));
    over_ = done_ = true;
    owner_.wake_.notify_all();
  }

  Reporter& owner_;
  grpc::ClientContext ctx_;
  const v1::AgentReport first_;
  v1::ControllerNote note_;

  mutable std::mutex mutex_;  ///< guards what follows; taken after the owner's, never before
  std::deque<v1::AgentReport> queue_;
  v1::AgentReport current_;
  bool writing_ = false, over_ = false, done_ = false, welcomed_ = false;
  Status result_;
  std::shared_ptr<Call> self_;
};

Reporter::Reporter(const Authenticator& auth, std::shared_ptr<grpc::Channel> channel, std::string peer,
                   Identity identity, const Node& node)
    : auth_(auth),
      stub_(v1::Controller::NewStub(std::move(channel))),
      peer_(std::move(peer)),
      identity_(std::move(identity)),
      node_(node),
      epoch_(random_epoch()) {}

void Reporter::start() {
  thread_ = std::thread([this] { run(); });
}

Reporter::~Reporter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

v1::AgentReport Reporter::next() {
  v1::AgentReport report;
  report.set_epoch(epoch_);
  const std::lock_guard lock(mutex_);
  report.set_seq(++seq_);
  return report;
}

v1::AgentReport Reporter::hello() {
  v1::AgentReport report = next();
  auto* hello = report.mutable_hello();
  hello->set_node(identity_.node);
  hello->set_address(identity_.address);
  hello->set_version(ATLAS_VERSION);
  add_tiers(node_, hello->mutable_tiers());
  for (const auto& job : node_.jobs()) *hello->add_jobs() = to_wire(job);
  return report;
}

v1::AgentReport Reporter::inventory() {
  v1::AgentReport report = next();
  auto* inventory = report.mutable_inventory();
  for (const auto& replica : node_.inventory()) *inventory->add_replicas() = to_wire(replica);
  return report;
}

v1::AgentReport Reporter::heartbeat() {
  v1::AgentReport report = next();
  auto* beat = report.mutable_heartbeat();
  add_tiers(node_, beat->mutable_tiers());
  const auto activity = node_.activity();
  beat->set_warming(activity.warming);
  beat->set_in_flight(activity.in_flight);
  return report;
}

void Reporter::replica_changed(const ReplicaInfo& replica) {
  v1::AgentReport report = next();
  *report.mutable_change()->mutable_replica() = to_wire(replica);
  std::shared_ptr<Call> call;
  {
    const std::lock_guard lock(mutex_);
    call = call_;
  }
  if (call) call->send(std::move(report));
}

void Reporter::run() {
  bool said_lost = false;
  auto pause = kFirstPause;
  while (true) {
    auto call = std::make_shared<Call>(*this, hello());
    Status ended = call->start(call);
    if (ended) {
      if (serve(call)) {
        said_lost = false;
        pause = kFirstPause;
      }
      ended = call->result();
    }
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    if (!std::exchange(said_lost, true))
      spdlog::warn("no connection to {}: {}; jobs go on with what is here, trying again", peer_,
                   ended ? "closed" : ended.error().message);
    wake_.wait_for(lock, pause, [this] { return stopping_; });
    if (stopping_) return;
    pause = std::min(pause * 2, kLongestPause);
  }
}

bool Reporter::serve(const std::shared_ptr<Call>& call) {
  {
    const std::lock_guard lock(mutex_);
    call_ = call;
  }
  call->send(inventory());  // after call_ is set: no change falls between
  bool greeted = false;
  bool cancelled = false;
  std::unique_lock lock(mutex_);
  while (!call->done()) {
    if (stopping_ && !std::exchange(cancelled, true)) call->cancel();
    const bool woken = wake_.wait_for(
        lock, kHeartbeat, [&] { return call->done() || (stopping_ && !cancelled) || (!greeted && call->welcomed()); });
    if (!greeted && call->welcomed()) {
      greeted = true;
      spdlog::info("connected to {}", peer_);
    }
    if (!woken && !stopping_) {
      lock.unlock();
      call->send(heartbeat());
      lock.lock();
    }
  }
  call_.reset();
  return greeted;
}

}  // namespace atlas::agent
