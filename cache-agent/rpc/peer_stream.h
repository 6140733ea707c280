#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "cache-agent/rpc/peer_client.h"

namespace atlas::agent {

/// One call to one peer, with its asks. gRPC's reactions and the writers' tasks take turns: there is never more than
/// one of them. Private to the client; keeps itself alive until OnDone().
class PeerClient::Stream final : public grpc::ClientReadReactor<v1::FetchReply> {
 public:
  Stream(PeerClient& owner, GroupKey key, Peer peer, bool for_readers, std::vector<AskedPtr> asks)
      : owner_(owner),
        key_(std::move(key)),
        peer_(std::move(peer)),
        for_readers_(for_readers),
        asks_(std::move(asks)) {}

  /// An error: the call was not made, and nothing will be called.
  [[nodiscard]] Status start(v1::Agent::Stub& stub, std::shared_ptr<Stream> self);
  void cancel() { context_.TryCancel(); }
  [[nodiscard]] const GroupKey& key() const { return key_; }
  [[nodiscard]] const Peer& peer() const { return peer_; }
  [[nodiscard]] bool for_readers() const { return for_readers_; }
  /// Those that have not ended. Only when the stream has.
  [[nodiscard]] std::vector<AskedPtr> unfinished() const;

 private:
  void OnReadInitialMetadataDone(bool ok) override;
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  void handle();
  [[nodiscard]] Status take(const v1::FetchPiece& piece);
  void settle(std::size_t which);
  void give_up(const Status& why);
  void watch();

  PeerClient& owner_;
  const GroupKey key_;
  const Peer peer_;
  const bool for_readers_;
  std::vector<AskedPtr> asks_;  ///< null: ended, or asked for elsewhere
  grpc::ClientContext context_;
  v1::FetchRequest request_;
  v1::FetchReply reply_;
  Status verdict_;  ///< what we found wrong
  std::shared_ptr<Stream> self_;

  std::mutex mutex_;  ///< guards what follows
  bool reading_ = true;
  SteadyTime heard_{}, brought_{};
  Status too_late_;
  TimerHandle timer_;
};

}  // namespace atlas::agent
