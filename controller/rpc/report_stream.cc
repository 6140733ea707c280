#include "controller/rpc/report_stream.h"

#include <atomic>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "proto/convert.h"

namespace atlas {
namespace {

std::vector<TierInfo> tiers_of(const google::protobuf::RepeatedPtrField<v1::TierState>& in) {
  std::vector<TierInfo> out;
  for (const auto& tier : in) out.push_back({tier.name(), Bytes{tier.quota()}, Bytes{tier.used()}, tier.state()});
  return out;
}

/// gRPC runs its reactions one at a time. Tasks posted to the strand hold copies only, never the stream itself.
class ReportStream final : public grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote> {
 public:
  ReportStream(const ReportSink& sink, grpc::CallbackServerContext* ctx) : sink_(sink), ctx_(ctx), id_(++last_id_) {
    StartRead(&report_);
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return finish(grpc::Status::OK);
    if (node_.empty()) {
      if (auto welcome = greet(); !welcome) return finish(to_status(welcome.error()));
    } else {
      take();
    }
    StartRead(&report_);
  }

  /// The first message: who is it? The credential is bound to it.
  Status greet() {
    ATLAS_ASSIGN(const Caller caller, sink_.auth.check_request(*ctx_, "Controller.Report", report_));
    if (caller.uid != 0) return fail(Code::permission_denied, "only root may report as a node's agent");
    if (!report_.has_hello() || report_.hello().node().empty())
      return fail(Code::invalid_argument, "the first report must be a hello");
    ATLAS_TRY(sink_.auth.sign_stream(*ctx_, "Controller.Report", report_));
    const auto& hello = report_.hello();
    node_ = hello.node();
    Registry::Greeting greeting{node_, hello.address(), hello.version(), tiers_of(hello.tiers())};
    std::vector<JobKey> jobs;
    for (const auto& job : hello.jobs()) jobs.push_back(from_wire(job));
    sink_.strand.post([sink = sink_, id = id_, greeting = std::move(greeting), jobs = std::move(jobs)] {
      sink.registry.hello(id, greeting);
      sink.staging.agent_came(greeting.node, jobs);
    });
    sink_.log("node " + node_ + ": its agent (" + hello.version() + ", " + hello.address() + ") has connected");
    note_.mutable_welcome();
    StartWrite(&note_);
    return {};
  }

  void take() {
    switch (report_.body_case()) {
      case v1::AgentReport::kInventory: {
        std::vector<ReplicaInfo> replicas;
        for (const auto& replica : report_.inventory().replicas()) replicas.push_back(from_wire(replica));
        return sink_.strand.post([sink = sink_, id = id_, node = node_, replicas = std::move(replicas)] {
          sink.registry.inventory(id, node, replicas);
        });
      }
      case v1::AgentReport::kChange:
        return sink_.strand.post(
            [sink = sink_, id = id_, node = node_, replica = from_wire(report_.change().replica())] {
              sink.registry.change(id, node, replica);
            });
      case v1::AgentReport::kHeartbeat: {
        const auto& beat = report_.heartbeat();
        return sink_.strand.post(
            [sink = sink_, id = id_, node = node_, tiers = tiers_of(beat.tiers()), warming = beat.warming(),
             in_flight = beat.in_flight()] { sink.registry.heartbeat(id, node, tiers, warming, in_flight); });
      }
      default:
        if (!std::exchange(complained_, true))
          sink_.log("node " + node_ + ": its agent sends reports that this version does not know; they are ignored");
    }
  }

  void OnWriteDone(bool ok) override {
    if (!ok) finish({grpc::StatusCode::UNAVAILABLE, "the agent has gone"});
  }
  void OnCancel() override { finish(grpc::Status::CANCELLED); }
  void finish(const grpc::Status& status) {
    if (!finished_.exchange(true)) Finish(status);
  }
  void OnDone() override {
    if (!node_.empty()) {
      sink_.strand.post([sink = sink_, id = id_, node = node_] {
        if (!sink.registry.lost(id, node)) return;
        sink.log("node " + node + ": its agent is lost; jobs there go on, new ones are planned elsewhere");
        sink.staging.agent_lost(node);
      });
    }
    delete this;
  }

  static inline std::atomic<std::uint64_t> last_id_{0};
  const ReportSink sink_;
  grpc::CallbackServerContext* const ctx_;
  const std::uint64_t id_;
  v1::AgentReport report_;
  v1::ControllerNote note_;
  std::string node_;  ///< empty until greeted
  bool complained_ = false;
  std::atomic<bool> finished_{false};
};

}  // namespace

grpc::ServerBidiReactor<v1::AgentReport, v1::ControllerNote>* serve_reports(const ReportSink& sink,
                                                                            grpc::CallbackServerContext* ctx) {
  return new ReportStream(sink, ctx);
}

}  // namespace atlas
