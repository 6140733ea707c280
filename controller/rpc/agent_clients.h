#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "controller/staging/agent_port.h"
#include "proto/auth.h"

namespace atlas {

/// Milliseconds since then, as they travel: the clocks of two machines need not agree.
[[nodiscard]] std::int64_t age_of(WallTime asked);

/// AgentPort over gRPC: one channel per address, kept. Thread-safe.
class AgentClients final : public AgentPort {
 public:
  explicit AgentClients(const Authenticator& auth);
  ~AgentClients() override;

  void warm(const std::string& address, WarmOrder order, std::function<void(WarmProgress)> progress,
            std::function<void(Status)> done) override;
  void survey(const std::string& address, const DatasetId& dataset, const Principal& as, const DatasetPolicy& policy,
              std::chrono::milliseconds limit, std::function<void(Result<WarmProgress>)> done) override;
  void cancel_warm(const std::string& address, const DatasetId& dataset, const Principal& as) override;
  void plan(const std::string& address, PlanOrder order,
            std::function<void(Result<std::vector<ReplicaInfo>>)> done) override;
  void release(const std::string& address, const JobKey& job,
               std::function<void(Result<ReleaseOutcome>)> done) override;
  void evict(const std::string& address, const DatasetId& dataset, const GenerationId& generation,
             std::function<void(Result<EvictOutcome>)> done) override;
  void pin(const std::string& address, const DatasetId& dataset, bool pinned,
           std::function<void(Result<std::uint32_t>)> done) override;

 private:
  struct Peer;
  [[nodiscard]] std::shared_ptr<Peer> peer(const std::string& address);

  const Authenticator& auth_;
  std::mutex mutex_;  ///< guards peers_
  std::map<std::string, std::shared_ptr<Peer>> peers_;
};

}  // namespace atlas
