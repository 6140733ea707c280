#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cache-agent/rpc/peer_client.h"
#include "cache-agent/rpc/peer_service.h"
#include "proto/server.h"
#include "tests/support/node_parts.h"

namespace atlas::agent {

/// Tells everyone the same.
class FixedPeers final : public PeerFinder {
 public:
  void find(const DatasetId&, const GenerationId&, std::function<void(Result<std::vector<Peer>>)> done) override {
    const std::lock_guard lock(mutex_);
    done(peers_);
  }
  void set(std::vector<Peer> peers) {
    const std::lock_guard lock(mutex_);
    peers_ = std::move(peers);
  }

 private:
  std::mutex mutex_;
  std::vector<Peer> peers_;
};

/// The part of an agent's service that other nodes call.
class FetchService final : public v1::Agent::CallbackService {
 public:
  using Handler =
      std::function<grpc::ServerWriteReactor<v1::FetchReply>*(grpc::CallbackServerContext*, const v1::FetchRequest*)>;
  explicit FetchService(Handler handler) : handler_(std::move(handler)) {}
  grpc::ServerWriteReactor<v1::FetchReply>* Fetch(grpc::CallbackServerContext* ctx,
                                                  const v1::FetchRequest* request) override {
    return handler_(ctx, request);
  }

 private:
  const Handler handler_;
};

inline std::unique_ptr<grpc::Server> serve_on_loopback(grpc::Service& service, std::string& address) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  auto server = builder.BuildAndStart();
  address = "127.0.0.1:" + std::to_string(port);
  return server;
}

struct PeerNode {
  PeerNode(const std::string& node_name, const Authenticator& auth, PeerFinder& finder,
           const NodeParts::Options& options, PeerClientOptions ask)
      : name(node_name), parts(options), service(auth, *parts.store, expected(), readers), fetch(handler()) {
    ask.node = name;
    ask.wait = std::chrono::seconds(30);
    ask.refresh = std::chrono::milliseconds(50);
    client = std::make_unique<PeerClient>(auth, finder, parts.writers, ask);
    service.bring_with(
        [this](std::uint32_t job, const std::shared_ptr<Replica>& replica, const Extent& want,
               std::function<void()> failed) {
          return parts.engine->shares().bring(job, replica, want, std::move(failed));
        },
        [this](std::uint32_t job, const DatasetId& dataset) { return parts.engine->shares().parked(job, dataset); });
    parts.fetcher->ask_first(*client);
    server = serve_on_loopback(fetch, address);
  }
  ~PeerNode() {
    shut();
    client->stop();
    parts.engine.reset();
    parts.fetcher.reset();
  }
  PeerService::Expected expected() {
    return [this](const DatasetId& d, const GenerationId& g) { return parts.engine->expects(d, g); };
  }
  FetchService::Handler handler() {
    return [this](auto* ctx, const auto* request) { return service.fetch(ctx, request); };
  }
  /// As if the machine had gone.
  void shut() {
    service.stop();
    if (server) server->Shutdown(std::chrono::system_clock::now());
    server.reset();
  }
  [[nodiscard]] Peer as(PeerRole role) const { return {name, address, role}; }

  const std::string name;
  NodeParts parts;
  ThreadExecutor readers{2};
  PeerService service;
  FetchService fetch;
  std::string address;
  std::unique_ptr<PeerClient> client;
  std::unique_ptr<grpc::Server> server;
};

/// Holds a call open for ever.
class Silent final : public grpc::ServerWriteReactor<v1::FetchReply> {
 public:
  explicit Silent(const Status& greeted, std::atomic<int>& asked) {
    ++asked;
    if (greeted) {
      StartSendInitialMetadata();
    } else {
      Finish(to_status(greeted.error()));
    }
  }
  void OnCancel() override { Finish(grpc::Status::CANCELLED); }
  void OnDone() override { delete this; }
};

}  // namespace atlas::agent
