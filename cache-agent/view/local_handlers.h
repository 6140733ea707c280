#pragma once
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "cache-agent/view/attach_service.h"
#include "cache-agent/view/local_server.h"
#include "cache-agent/view/namespace_holder.h"
#include "cache-agent/view/view_source.h"
#include "common/result.h"

namespace atlas::view {

/// The agent's local side, as main() wires it: socket, attach service and namespace holder in one.
class ViewServer {
 public:
  struct Options {
    std::string socket;                     ///< agent.socket, %n expanded
    std::filesystem::path run_dir;          ///< agent.run_dir, %n expanded; namespaces are pinned in run_dir/ns
    std::chrono::milliseconds limit{4000};  ///< the most a request waits for the controller; below agent.attach_timeout
    std::chrono::milliseconds patience{3000};
    std::function<void(const std::string&)> warn = [](const std::string&) {};
    /// A process of a job that is known is about to go on with what it was attached to.
    std::function<void(std::uint32_t job_id, const Principal& as, pid_t process)> attached =
        [](std::uint32_t, const Principal&, pid_t) {};
    bool any_user = false;  ///< for tests
  };
  /// `source` and `clock` outlive the server.
  [[nodiscard]] static Result<std::unique_ptr<ViewServer>> start(ViewSource& source, const Clock& clock,
                                                                 Options options);
  ~ViewServer();

  /// The job is over on this node.
  void release(std::uint32_t job_id) { service_->release(job_id); }
  /// Namespaces kept now, those of an earlier run of the agent included: whoever knows which jobs are over releases
  /// them.
  [[nodiscard]] std::vector<Attempt> held() const { return holder_->held(); }

 private:
  explicit ViewServer(Options options) : options_(std::move(options)) {}
  void on_packet(LocalServer::Connection connection, Packet packet);
  void answer(LocalServer::Connection connection, Result<AttachAnswer> answer);

  Options options_;
  const Clock* clock_ = nullptr;
  std::unique_ptr<NamespaceHolder> holder_;
  std::unique_ptr<AttachService> service_;
  std::unique_ptr<LocalServer> server_;  ///< last: its threads use the others
};

}  // namespace atlas::view
