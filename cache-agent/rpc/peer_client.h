#pragma once
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "atlas/v1/agent.grpc.pb.h"
#include "atlas/v1/controller.grpc.pb.h"
#include "cache-agent/fetch/executor.h"
#include "cache-agent/fetch/peer_choice.h"
#include "cache-agent/fetch/peer_source.h"
#include "proto/auth.h"

namespace atlas::agent {

struct PeerClientOptions {
  std::string node;                        ///< this one
  std::chrono::milliseconds wait{60'000};  ///< the most a stream goes on without a piece
  /// A peer that sends nothing at all for so long is given up. A disk that writes out gigabytes may keep one waiting
  /// for some seconds; a process that has died is noticed at once.
  std::chrono::milliseconds silence{10'000};
  std::chrono::milliseconds refresh{1'000};  ///< how long the peers of a generation are taken for known
  std::chrono::milliseconds shun{10'000};    ///< how long a peer that failed is not asked again
  /// The same of a piece that a reader waits for: the origin is there, too.
  std::chrono::milliseconds reader_wait{5'000}, reader_silence{2'000};
  /// The most that a reader waits when his piece has to wait for a limit there.
  std::chrono::milliseconds reader_limited{15'000};
  unsigned streams = 2;     ///< to one peer, for one generation; for readers four times as many
  std::size_t batch = 128;  ///< pieces of files asked for in one stream
  unsigned attempts = 3;    ///< peers asked for one piece before the origin is
};

/// Reads from other nodes' agents. What is asked for while a stream is under way goes into the next one, so that many
/// small files share a call. A stream is read no faster than its pieces are written: nothing piles up but one message
/// each. A peer that is silent, gone, refuses, sends damaged data or keeps us waiting for too long is shunned for a
/// while, and what it owes is asked for elsewhere, in the end at the origin. Owns two threads; thread-safe.
class PeerClient final : public PeerSource {
 public:
  /// `writers` runs what takes pieces. Everything outlives it.
  PeerClient(const Authenticator& auth, PeerFinder& finder, Executor& writers, PeerClientOptions options);
  /// Needs stop() before, if anything is under way.
  ~PeerClient() override;
  PeerClient(const PeerClient&) = delete;
  PeerClient& operator=(const PeerClient&) = delete;

  [[nodiscard]] bool bring(PeerAsk ask) override;
  /// Ends what is under way: all of it goes to the origin. Nobody is asked any more. Waits for the streams to end.
  void stop();

 private:
  class Stream;
  friend class Stream;
  /// One ask on its way from peer to peer.
  struct Asked {
    PeerAsk ask;
    std::uint64_t at = 0;  ///< everything before has been taken
    bool got_any = false;  ///< also true for an empty file
    std::set<std::string> tried;
    [[nodiscard]] std::uint64_t end() const { return ask.want.offset.count + ask.want.length.count; }
    [[nodiscard]] bool whole() const { return got_any && at >= end(); }
  };
  using AskedPtr = std::shared_ptr<Asked>;
  using GroupKey = std::pair<DatasetId, GenerationId>;
  /// Readers do not queue behind warm-ups.
  using LinkKey = std::pair<std::string, bool>;  ///< node, for readers
  struct Link {
    std::deque<AskedPtr> queue;
    unsigned streams = 0;
  };
  /// What is known and asked of one generation.
  struct Group {
    std::vector<Peer> peers;
    bool known = false, finding = false;
    SteadyTime found{}, used{};
    std::vector<AskedPtr> early;  ///< wait for the peers to be known
    std::map<std::string, SteadyTime> shunned;
    std::map<LinkKey, Link> links;
  };

  void refresh(const GroupKey& key, Group& group);
  void found(const GroupKey& key, Result<std::vector<Peer>> peers);
  [[nodiscard]] std::optional<Peer> choose(Group& group, const Asked& asked) const;
  [[nodiscard]] bool assign(const GroupKey& key, Group& group, const AskedPtr& asked);
  [[nodiscard]] unsigned streams_for(bool readers) const { return readers ? 4 * options_.streams : options_.streams; }
  void pump(const GroupKey& key, const Peer& peer, bool readers);
  void again(const GroupKey& key, const std::string& node, const std::vector<AskedPtr>& asks);
  void shun(const GroupKey& key, const std::string& node, const std::string& why);
  void ended(const std::shared_ptr<Stream>& stream, const Status& status);
  void wait_for(const std::shared_ptr<Stream>& stream, const std::vector<AskedPtr>& asks);
  void end(const AskedPtr& asked);
  [[nodiscard]] v1::Agent::Stub& stub(const std::string& address);

  const Authenticator& auth_;
  PeerFinder& finder_;
  Executor& writers_;
  const PeerClientOptions options_;

  std::mutex mutex_;  ///< guards what follows
  std::condition_variable idle_;
  bool stopping_ = false;
  unsigned finding_ = 0;
  std::map<GroupKey, Group> groups_;
  std::set<std::shared_ptr<Stream>> streams_;
  std::map<std::string, std::unique_ptr<v1::Agent::Stub>> stubs_;

  ThreadExecutor front_;  ///< signs calls, which blocks for a moment, and watches the time
};

/// Asks the controller. Thread-safe; `auth` outlives it.
class ControllerPeers final : public PeerFinder {
 public:
  ControllerPeers(const Authenticator& auth, std::shared_ptr<grpc::Channel> channel, std::string peer)
      : auth_(auth), stub_(v1::Controller::NewStub(std::move(channel))), peer_(std::move(peer)) {}
  void find(const DatasetId& dataset, const GenerationId& generation,
            std::function<void(Result<std::vector<Peer>>)> done) override;

 private:
  const Authenticator& auth_;
  const std::unique_ptr<v1::Controller::Stub> stub_;
  const std::string peer_;
};

}  // namespace atlas::agent
