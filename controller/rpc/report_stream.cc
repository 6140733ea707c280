#include "controller/rpc/report_stream.h"

#include <atomic>
#include <mutex>

#include "controller/rpc/operations.h"
#include "proto/convert.h"

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

class ReportStream final : public grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote> {
 public:
  ReportStream(const Authenticator& auth, const ControllerParts& parts, grpc::CallbackServerContext* ctx)
      : auth_(auth), parts_(parts), ctx_(ctx), id_(next_id_++) {
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
    if (!ok) end(grpc::Status::CANCELLED);
  }
  void OnCancel() override { end(grpc::Status::CANCELLED); }
  void OnDone() override {
    if (!node_.empty())
      parts_.strand.post([parts = parts_, id = id_, node = node_] {
        if (parts.registry.lost(id, node)) parts.staging.agent_lost(node);
      });
    delete this;
  }

  void end(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(over_, true)) Finish(status);
  }

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
    Registry::Greeting greeting{hello.node(), hello.address(), hello.version(), tiers_of(hello.tiers())};
    std::vector<JobKey> jobs;
    for (const auto& job : hello.jobs()) jobs.push_back(from_wire(job));
    parts_.strand.post([parts = parts_, id = id_, greeting = std::move(greeting), jobs = std::move(jobs)] {
      parts.log.info("the cache agent of " + greeting.node + " is here, at " + greeting.address);
      parts.registry.hello(id, greeting);
      parts.staging.agent_came(greeting.node, jobs);
    });
    note_.mutable_welcome()->set_version(ATLAS_VERSION);
    const std::lock_guard lock(mutex_);
    if (!over_) StartWrite(&note_);
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
        parts_.strand.post([parts = parts_, id = id_, node = node_, tiers = tiers_of(report_.heartbeat().tiers()),
                            warming = report_.heartbeat().warming(), in_flight = report_.heartbeat().in_flight()] {
          parts.registry.heartbeat(id, node, tiers, warming, in_flight);
        });
        return;
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
  v1::ControllerNote note_;
  std::mutex mutex_;  ///< guards over_: OnCancel() may come beside a read
  bool over_ = false;
};

}  // namespace

grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>* serve_report(const Authenticator& auth,
                                                                           const ControllerParts& parts,
                                                                           grpc::CallbackServerContext* ctx) {
  return new ReportStream(auth, parts, ctx);  // deletes itself in OnDone()
}

}  // namespace atlas
