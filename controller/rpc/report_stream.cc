#include "controller/rpc/report_stream.h"

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "controller/rpc/operations.h"
#include "proto/convert_reads.h"

namespace atlas {
namespace {

constexpr std::string_view kMethod = "Controller.Report";

std::vector<TierInfo> tiers_of(const google::protobuf::RepeatedPtrField<v1::TierState>& in) {
  std::vector<TierInfo> out;
  for (const auto& tier : in)
    out.push_back(
        {tier.name(), Bytes{tier.quota()}, Bytes{tier.used()}, tier.state(), tier.inodes(), tier.inodes_used()});
  return out;
}

std::vector<std::string> warnings_of(const google::protobuf::RepeatedPtrField<std::string>& in) {
  return {in.begin(), in.end()};
}

Registry::Heartbeat beat_of(const v1::Heartbeat& in) {
  return {tiers_of(in.tiers()), in.warming(), in.in_flight(), warnings_of(in.warnings())};
}

std::vector<IoDemand> demands_of(const v1::Usage& usage) {
  std::vector<IoDemand> out;
  for (const auto& flow : usage.flows())
    out.push_back({from_wire(flow.flow()), from_wire(flow.foreground()), from_wire(flow.warm()), from_wire(flow.used()),
                   flow.waiting(), from_wire(flow.cap())});
  return out;
}

/// What is to be written to a node. It outlives the stream that writes: others hold it, too. Thread-safe.
class Outbox {
 public:
  using Stream = grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>;
  explicit Outbox(Stream* stream) : stream_(stream) {}
  void send(v1::ControllerNote note) {
    const std::lock_guard lock(mutex_);
    if (stream_ == nullptr) return;
    // A node that reads slowly needs only the last of its shares, and of the limits.
    if (note.has_shares() || note.has_budgets())
      std::erase_if(queue_, [&](const v1::ControllerNote& queued) { return queued.body_case() == note.body_case(); });
    if (note.has_wanted()) std::erase_if(queue_, [](const v1::ControllerNote& queued) { return queued.has_wanted(); });
    queue_.push_back(std::move(note));
    pump();
  }
  void written() {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (stream_ != nullptr) pump();
  }
  void finish(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    if (auto* const stream = std::exchange(stream_, nullptr)) stream->Finish(status);
  }

 private:
  void pump() {
    if (writing_ || queue_.empty()) return;
    writing_ = true;
    current_ = std::move(queue_.front());
    queue_.pop_front();
    stream_->StartWrite(&current_);  // gRPC calls back on a thread of its own
  }
  std::mutex mutex_;  ///< guards what follows
  Stream* stream_;    ///< null: it ends
  std::deque<v1::ControllerNote> queue_;
  v1::ControllerNote current_;
  bool writing_ = false;
};

/// Everything of a node that limits need to tell it.
IoLimits::Outlet outlet_to(const std::shared_ptr<Outbox>& outbox) {
  return {[outbox](const std::vector<IoBudget>& budgets, std::uint32_t nodes) {
            v1::ControllerNote note;
            auto* out = note.mutable_budgets();
            out->set_nodes(nodes);
            for (const auto& budget : budgets) {
              auto* to = out->add_budgets();
              to->set_kind(std::string(name_of(budget.kind)));
              to->set_name(budget.name);
              to->set_id(budget.id);
              *to->mutable_rate() = to_wire(budget.rate);
              to->set_burst(budget.burst.count());
              to->set_weight(budget.weight);
            }
            outbox->send(std::move(note));
          },
          [outbox](const Sharing::Message& shares) {
            v1::ControllerNote note;
            note.mutable_shares()->set_number(shares.number);
            for (const auto& share : shares.shares) {
              auto* to = note.mutable_shares()->add_shares();
              *to->mutable_flow() = to_wire(share.flow);
              *to->mutable_rate() = to_wire(share.rate);
            }
            outbox->send(std::move(note));
          }};
}

WantedNotes::Outlet wanted_to(const std::shared_ptr<Outbox>& outbox) {
  return [outbox](const std::vector<DatasetId>& datasets, std::size_t held) {
    v1::ControllerNote note;
    note.mutable_wanted()->set_held(static_cast<std::uint32_t>(held));
    for (const auto& dataset : datasets) *note.mutable_wanted()->add_datasets() = to_wire(dataset);
    outbox->send(std::move(note));
  };
}

class ReportStream final : public grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote> {
 public:
  ReportStream(const Authenticator& auth, const ControllerParts& parts, grpc::CallbackServerContext* ctx)
      : auth_(auth), parts_(parts), ctx_(ctx), id_(next_id_++), outbox_(std::make_shared<Outbox>(this)) {
    StartRead(&report_);
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return end(grpc::Status::OK);
    if (node_.empty()) {
      if (auto greeted = greet(); !greeted) return end(to_status(greeted.error()));
    } else {
      hear();
    }
    StartRead(&report_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return end(grpc::Status::CANCELLED);
    outbox_->written();
  }
  void OnCancel() override { end(grpc::Status::CANCELLED); }
  void OnDone() override {
    if (!node_.empty())
      parts_.strand.post([parts = parts_, id = id_, node = node_] {
        parts.staging.io_limits().lost(node, id);
        parts.staging.wanted_notes().lost(node, id);
        if (parts.registry.lost(id, node)) parts.staging.agent_lost(node);
      });
    delete this;
  }

  void end(const grpc::Status& status) { outbox_->finish(status); }

  /// The first message: who it is. It is what both sides have signed.
  Status greet() {
    ATLAS_ASSIGN(const Caller caller, auth_.check_request(*ctx_, kMethod, report_));
    if (!auth_.trusts(caller.uid))
      return fail(Code::permission_denied,
                  "a node's agent runs as root; this one is uid " + std::to_string(caller.uid));
    if (!report_.has_hello() || report_.hello().node().empty() || report_.hello().address().empty())
      return fail(Code::invalid_argument, "the first message of an agent is Hello, with its node and address");
    ATLAS_TRY(auth_.sign_stream(*ctx_, kMethod, report_));
    const auto& hello = report_.hello();
    node_ = hello.node();
    Registry::Greeting greeting{hello.node(), hello.address(), hello.version(), tiers_of(hello.tiers()),
                                warnings_of(hello.warnings())};
    std::vector<JobKey> jobs;
    for (const auto& job : hello.jobs()) jobs.push_back(from_wire(job));
    v1::ControllerNote welcome;
    welcome.mutable_welcome()->set_version(ATLAS_VERSION);
    outbox_->send(std::move(welcome));
    parts_.strand.post(
        [parts = parts_, id = id_, greeting = std::move(greeting), jobs = std::move(jobs), outbox = outbox_] {
          parts.log.info("the cache agent of " + greeting.node + " is here, at " + greeting.address);
          parts.registry.hello(id, greeting);
          parts.staging.agent_came(greeting.node, jobs);
          parts.staging.io_limits().came(greeting.node, id, outlet_to(outbox));
          parts.staging.wanted_notes().came(greeting.node, id, wanted_to(outbox));
        });
    return {};
  }

  void hear() {
    switch (report_.body_case()) {
      case v1::AgentReport::kInventory: {
        std::vector<ReplicaInfo> replicas;
        for (const auto& replica : report_.inventory().replicas()) replicas.push_back(from_wire(replica));
        parts_.strand.post([parts = parts_, id = id_, node = node_, replicas = std::move(replicas)] {
          parts.registry.inventory(id, node, replicas);
          if (const auto* agent = parts.registry.find(node); agent != nullptr)
            for (const auto& replica : replicas) pin_new_replica(parts, *agent, replica);
        });
        return;
      }
      case v1::AgentReport::kChange:
        parts_.strand.post([parts = parts_, id = id_, node = node_, replica = from_wire(report_.change().replica())] {
          parts.registry.change(id, node, replica);
          if (const auto* agent = parts.registry.find(node); agent != nullptr) pin_new_replica(parts, *agent, replica);
        });
        return;
      case v1::AgentReport::kHeartbeat:
        parts_.strand.post([parts = parts_, id = id_, node = node_, beat = beat_of(report_.heartbeat())] {
          parts.registry.heartbeat(id, node, beat);
        });
        return;
      case v1::AgentReport::kUsage:
        parts_.strand.post(
            [parts = parts_, id = id_, node = node_, seen = report_.usage().seen(),
             demands = demands_of(report_.usage())] { parts.staging.io_limits().report(node, id, seen, demands); });
        return;
      case v1::AgentReport::kReads: {
        std::vector<DatasetReads> reads;
        for (const auto& of : report_.reads().reads()) reads.push_back(from_wire(of));
        parts_.strand.post([parts = parts_, id = id_, node = node_, reads = std::move(reads)] {
          parts.registry.note_reads(id, node, reads);
        });
        return;
      }
      default:
        return;  // an arm of a newer agent
    }
  }

  static inline std::atomic<std::uint64_t> next_id_{1};

  const Authenticator& auth_;
  const ControllerParts parts_;
  grpc::CallbackServerContext* ctx_;
  const std::uint64_t id_;
  std::string node_;
  v1::AgentReport report_;
  const std::shared_ptr<Outbox> outbox_;
};

}  // namespace

grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>* serve_report(const Authenticator& auth,
                                                                           const ControllerParts& parts,
                                                                           grpc::CallbackServerContext* ctx) {
  return new ReportStream(auth, parts, ctx);  // deletes itself in OnDone()
}

}  // namespace atlas
