#include "cache-agent/rpc/reporter.h"

#include <spdlog/spdlog.h>

#include <deque>
#include <random>
#include <utility>

#include "common/note.h"
#include "proto/convert_reads.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

constexpr auto kHeartbeat = 5s, kUsage = 1s;
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
    owner_.heed(note_);
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
                   Identity identity, Node& node, LimitGovernor& limits)
    : auth_(auth),
      stub_(v1::Controller::NewStub(std::move(channel))),
      peer_(std::move(peer)),
      identity_(std::move(identity)),
      node_(node),
      limits_(limits),
      epoch_(random_epoch()) {}

void Reporter::start() {
  // Nobody reads as he likes because the controller is away when an agent starts.
  if (v1::Budgets last; last.ParseFromString(read_note(identity_.limits))) keep_within(last);
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
  for (const auto& warning : node_.warnings()) hello->add_warnings(warning);
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
  for (const auto& warning : node_.warnings()) beat->add_warnings(warning);
  return report;
}

v1::AgentReport Reporter::usage() {
  v1::AgentReport report = next();
  auto* usage = report.mutable_usage();
  for (const auto& demand : limits_.demands()) {
    auto* flow = usage->add_flows();
    *flow->mutable_flow() = to_wire(demand.flow);
    *flow->mutable_foreground() = to_wire(demand.foreground);
    *flow->mutable_warm() = to_wire(demand.warm);
    *flow->mutable_used() = to_wire(demand.used);
    flow->set_waiting(demand.waiting);
    *flow->mutable_cap() = to_wire(demand.cap);
  }
  const std::lock_guard lock(mutex_);
  usage->set_seen(shares_seen_);
  return report;
}

v1::AgentReport Reporter::reads(std::chrono::duration<double> time) {
  v1::AgentReport report = next();
  auto* reads = report.mutable_reads();
  for (auto& of : node_.take_reads()) {
    of.rates.per(time);
    *reads->add_reads() = to_wire(of);
  }
  return report;
}

void Reporter::usage_changed() {
  {
    const std::lock_guard lock(mutex_);
    usage_due_ = true;
  }
  wake_.notify_all();
}

void Reporter::keep_within(const v1::Budgets& wire) {
  std::vector<IoBudget> budgets;
  for (const auto& budget : wire.budgets()) {
    const auto kind = limit_kind(budget.kind());
    if (!kind) continue;  // of a newer controller
    budgets.push_back({*kind, budget.name(), budget.id(), from_wire(budget.rate()),
                       std::chrono::milliseconds(budget.burst()), budget.weight()});
  }
  limits_.set_budgets(std::move(budgets), wire.nodes());
}

void Reporter::heed(const v1::ControllerNote& note) {
  if (note.has_budgets()) {
    keep_within(note.budgets());
    if (const auto kept = write_note(identity_.limits, note.budgets().SerializeAsString()); !kept)
      spdlog::warn("a restart will not know the limits until the controller answers: {}", kept.error().message);
  }
  if (note.has_wanted()) {
    std::vector<DatasetId> datasets;
    for (const auto& dataset : note.wanted().datasets()) datasets.push_back(from_wire(dataset));
    node_.want(datasets, note.wanted().held());
  }
  if (note.has_shares()) {
    std::vector<IoShare> shares;
    for (const auto& share : note.shares().shares())
      shares.push_back({from_wire(share.flow()), from_wire(share.rate())});
    limits_.set_shares(shares);
    const std::lock_guard lock(mutex_);
    shares_seen_ = note.shares().number();
  }
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
  // The controller has been told of something that would be read, that is read.
  bool used = false, read = false;
  static_cast<void>(node_.take_reads());  // of before
  auto counted = std::chrono::steady_clock::now();
  auto beat = counted + kHeartbeat, look = counted + kUsage, count = counted + kUsage;
  const auto tell = [&](v1::AgentReport report) { call->send(std::move(report)); };
  std::unique_lock lock(mutex_);
  shares_seen_ = 0;
  while (!call->done()) {
    if (stopping_) {
      call->cancel();
      wake_.wait(lock, [&] { return call->done(); });
      break;
    }
    wake_.wait_until(lock, std::min({beat, look, count}), [&] {
      return call->done() || stopping_ || (!greeted && call->welcomed()) || (greeted && usage_due_);
    });
    if (stopping_) continue;
    if (!greeted && call->welcomed()) {
      greeted = true;
      spdlog::info("connected to {}", peer_);
      limits_.set_connected(true);
    }
    const auto now = std::chrono::steady_clock::now();
    const bool asked = greeted && std::exchange(usage_due_, false);
    const bool look_now = asked || now >= look;
    const bool beat_now = now >= beat;
    lock.unlock();
    if (look_now) {
      look = now + kUsage;
      auto report = usage();
      const bool some = report.usage().flows_size() != 0;
      if (greeted && (some || used)) tell(std::move(report));
      used = some;
    }
    if (now >= count) {
      auto report = reads(now - std::exchange(counted, now));
      count = now + kUsage;
      const bool some = report.reads().reads_size() != 0;
      if (greeted && (some || read)) tell(std::move(report));
      read = some;
    }
    if (beat_now) {
      beat = now + kHeartbeat;
      tell(heartbeat());
    }
    lock.lock();
  }
  lock.unlock();
  limits_.set_connected(false);
  lock.lock();
  call_.reset();
  return greeted;
}

}  // namespace atlas::agent
