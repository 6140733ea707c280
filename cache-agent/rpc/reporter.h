#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "atlas/v1/controller.grpc.pb.h"
#include "cache-agent/limit/limit_governor.h"
#include "cache-agent/rpc/node.h"
#include "proto/auth.h"

namespace atlas::agent {

/// Keeps the controller informed over one long-lived stream: hello and inventory at each connect, every replica that
/// changes, a heartbeat every few seconds, what is read, and what would be under limits, every second. Hands limits and
/// shares to the governor. Reconnects for ever, with a short pause; logs once when the controller is lost and once when
/// it is back. Owns one thread.
class Reporter {
 public:
  struct Identity {
    std::string node;
    std::string address;  ///< host:port of our Agent service
    std::string limits;   ///< a file: what is read under when the next process cannot ask the controller yet
  };
  /// Does not start before start(). What it is given outlives it.
  Reporter(const Authenticator& auth, std::shared_ptr<grpc::Channel> channel, std::string peer, Identity identity,
           Node& node, LimitGovernor& limits);
  ~Reporter();
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;

  void start();
  /// A replica changed; never blocks. Forgotten while not connected: the next connect sends the inventory.
  void replica_changed(const ReplicaInfo& replica);
  /// Somebody waits for his share: the controller is told soon. Never blocks.
  void usage_changed();

 private:
  class Call;
  void run();
  /// Lives with one connection until it ends; true if the controller had welcomed us.
  bool serve(const std::shared_ptr<Call>& call);
  [[nodiscard]] v1::AgentReport hello();
  [[nodiscard]] v1::AgentReport inventory();
  [[nodiscard]] v1::AgentReport heartbeat();
  [[nodiscard]] v1::AgentReport usage();
  /// Of so much time.
  [[nodiscard]] v1::AgentReport reads(std::chrono::duration<double> time);
  void heed(const v1::ControllerNote& note);
  void keep_within(const v1::Budgets& budgets);
  [[nodiscard]] v1::AgentReport next();

  const Authenticator& auth_;
  const std::unique_ptr<v1::Controller::Stub> stub_;
  const std::string peer_;
  const Identity identity_;
  Node& node_;
  LimitGovernor& limits_;
  const std::uint64_t epoch_;

  std::mutex mutex_;  ///< guards what follows
  std::condition_variable wake_;
  std::shared_ptr<Call> call_;
  std::uint64_t seq_ = 0;
  bool stopping_ = false;
  bool usage_due_ = false;
  std::uint64_t shares_seen_ = 0;
  std::thread thread_;
};

}  // namespace atlas::agent
