#pragma once
#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "atlas/v1/agent.grpc.pb.h"
#include "common/identity.h"
#include "common/result.h"
#include "common/unique_fd.h"
#include "proto/auth.h"
#include "tests/support/private_munged.h"

namespace atlas::agent {

/// One node's programs as processes of their own, atlas-view-holder and atlas-cache-agent, with a munged and without a
/// controller. Everything is below one directory. As root. Throws where nothing can be tested.
class NodeProcesses {
 public:
  struct Options {
    std::string origin;       ///< its directory
    std::string agent_extra;  ///< more lines of [agent]
    bool slots = false;       ///< takeover as on kernels before 6.9
  };
  NodeProcesses(std::string directory, Options options);
  ~NodeProcesses();
  NodeProcesses(const NodeProcesses&) = delete;
  NodeProcesses& operator=(const NodeProcesses&) = delete;

  void start_holder();
  /// Returns when it answers tasks.
  void start_agent();
  void signal_agent(int number) const;
  /// Waits for the end; how it ended, as of wait().
  int end_agent(int number);
  int end_holder(int number);
  [[nodiscard]] pid_t agent() const { return agent_; }
  [[nodiscard]] bool munge_works() const { return munged_.running(); }

  /// As the controller does it.
  [[nodiscard]] Status plan(std::uint32_t job, const Principal& as, const std::string& dataset, std::uint64_t limit = 0,
                            bool read_write = false);
  [[nodiscard]] Status release(std::uint32_t job);
  /// As a task does it: a detached mount of the job's only dataset.
  [[nodiscard]] Result<UniqueFd> attach(std::uint32_t job, const Principal& as) const;
  /// Lines of what the holder keeps.
  [[nodiscard]] std::vector<std::string> kept() const;
  [[nodiscard]] std::string log(const std::string& program) const;

 private:
  [[nodiscard]] pid_t start(const char* program, const std::string& log, const std::vector<std::string>& more) const;
  [[nodiscard]] bool answers(const std::string& socket) const;
  [[nodiscard]] static JobKey key(std::uint32_t job) { return {"test", job, 0, {}}; }

  const std::string directory_;
  const Options options_;
  test::PrivateMunged munged_;
  std::unique_ptr<Authenticator> auth_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Agent::Stub> stub_;
  int port_ = 0;
  pid_t holder_ = -1, agent_ = -1;
};

/// The kernel's count of requests without an answer, of the FUSE mount that a descriptor is on.
class WaitingRequests {
 public:
  explicit WaitingRequests(int mount);
  [[nodiscard]] unsigned count() const;

 private:
  UniqueFd control_;
};

}  // namespace atlas::agent
