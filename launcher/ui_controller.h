#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "atlas/v1/controller.grpc.pb.h"
#include "common/config.h"
#include "common/unique_fd.h"
#include "launcher/ui.h"
#include "proto/client.h"

namespace atlas {

/// The controller as the command lines see it: signed calls, and errors that carry the next step.
class ControllerClient {
 public:
  using Stub = v1::Controller::Stub;
  using Async = class Stub::async;

  /// Makes the channel; nothing is sent yet. Fails when the config's accounts do not exist here.
  [[nodiscard]] static Result<std::unique_ptr<ControllerClient>> make(const Config& config);

  /// One call; blocks up to `timeout`. `name` is "Controller.Method".
  template <class Request, class Reply>
  [[nodiscard]] Result<Reply> call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                                   std::string_view name, const Request& request, milliseconds timeout = kPatience) {
    auto reply = atlas::call(auth_, *stub_, method, name, request, timeout, peer_);
    if (!reply) return fail(explain(std::move(reply).error()));
    return reply;
  }

  /// Reads a stream to its end; `on_message` runs on other threads, one at a time. SIGINT and SIGTERM end the waiting,
  /// not what is watched; hold_signals() must have been called before the client was made.
  struct StreamEnd {
    Status status;
    bool interrupted = false;
  };
  template <class Request, class Message>
  [[nodiscard]] StreamEnd watch(void (Async::*method)(grpc::ClientContext*, const Request*,
                                                      grpc::ClientReadReactor<Message>*),
                                std::string_view name, Request request,
                                std::type_identity_t<std::function<void(const Message&)>> on_message) {
    EndOfStream end;
    const auto handle = stream_async(auth_, stub_->async(), method, name, std::move(request), peer_,
                                     std::move(on_message), [&end](Status status) { end.set(std::move(status)); });
    StreamEnd out;
    out.interrupted = end.wait([&handle] { handle->cancel(); });
    out.status = end.take();
    if (!out.status) out.status = fail(explain(std::move(out.status).error()));
    return out;
  }

  [[nodiscard]] const std::string& peer() const { return peer_; }

  /// How long a command waits for an answer.
  static constexpr milliseconds kPatience{15000};

 private:
  /// The end of a stream, awaited together with signals.
  class EndOfStream {
   public:
    EndOfStream();
    void set(Status status);
    /// Blocks; true when a signal came first: `cancel` has been called then and the end has come.
    bool wait(const std::function<void()>& cancel);
    Status take() { return std::move(status_); }

   private:
    UniqueFd ended_;  ///< eventfd
    Status status_;   ///< written before ended_ is raised
  };

  ControllerClient(Authenticator auth, const std::string& address);
  [[nodiscard]] Error explain(Error error) const;

  Authenticator auth_;
  std::string peer_;
  std::unique_ptr<Stub> stub_;
};

/// Blocks SIGINT and SIGTERM in this thread and those it starts, so that watch() can wait for them.
void hold_signals();

}  // namespace atlas
