#pragma once
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include "atlas/v1/agent.grpc.pb.h"
#include "cache-agent/fetch/executor.h"
#include "cache-agent/store/store.h"
#include "proto/auth.h"

namespace atlas::agent {

struct PeerServiceOptions {
  std::chrono::milliseconds grace{3'000};  ///< an order to warm may come a little later than a peer's question
  /// How often what is missing is looked for; and for a reader's sake.
  std::chrono::milliseconds poll{10}, reader_poll{2};
  std::chrono::milliseconds heartbeat{500};    ///< between messages to who waits
  std::chrono::milliseconds longest{600'000};  ///< the most that anybody is waited for
  Bytes message{2 * kMiB.count};               ///< data in one message, roughly
  unsigned streams = 128;                      ///< served at a time; each holds a message or two
};

/// Gives what is here of a generation to agents of other nodes: resident blocks, each compared with its checksum before
/// it leaves. While the generation is being warmed here it waits for what is still missing. Who asks is root on a node
/// of this cluster, and asks only for users to whom the origin has shown the same generation; no user can ask.
class PeerService {
 public:
  /// Is that generation being warmed here, or a walk under way that may turn out to be of it? Must not block.
  using Expected = std::function<bool(const DatasetId&, const GenerationId&)>;
  /// A reader of that job waits for a piece on another of its nodes. If it belongs to the share of this one it is
  /// brought now, and `failed` is called if that does not succeed; false if it does not, or cannot be kept. Must not
  /// block.
  using Bring = std::function<bool(std::uint32_t job_id, const std::shared_ptr<Replica>&, const Extent&,
                                   std::function<void()> failed)>;
  /// `readers` read from the disk, and are told of the time; they go after the server this is registered with.
  PeerService(const Authenticator& auth, Store& store, Expected expected, Executor& readers,
              PeerServiceOptions options = {})
      : auth_(auth), store_(store), expected_(std::move(expected)), readers_(readers), options_(options) {}

  /// What is brought for a job waits for a limit here, now. Must not block.
  using Parked = std::function<bool(std::uint32_t job_id, const DatasetId&)>;

  /// Once, before use.
  void bring_with(Bring bring, Parked parked) {
    bring_ = std::move(bring);
    parked_ = std::move(parked);
  }
  grpc::ServerWriteReactor<v1::FetchReply>* fetch(grpc::CallbackServerContext* ctx, const v1::FetchRequest* request);
  /// Ends what is under way; before the server is shut down.
  void stop() { stopping_ = true; }
  /// Bytes of file data that have been sent.
  [[nodiscard]] std::uint64_t sent() const { return sent_.load(std::memory_order_relaxed); }

 private:
  class Sending;
  const Authenticator& auth_;
  Store& store_;
  const Expected expected_;
  Bring bring_ = [](std::uint32_t, const auto&, const Extent&, const auto&) { return false; };
  Parked parked_ = [](std::uint32_t, const DatasetId&) { return false; };
  Executor& readers_;
  const PeerServiceOptions options_;
  std::atomic<bool> stopping_{false};
  std::atomic<unsigned> streams_{0};
  std::atomic<std::uint64_t> sent_{0};
};

}  // namespace atlas::agent
