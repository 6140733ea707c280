#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "proto/auth.h"

namespace atlas {

/// Settings every server of Atlas needs: clients ping long quiet streams (make_channel), a dead client is noticed
/// within 30 s, a second process on the same port is refused.
inline void tune_server(grpc::ServerBuilder& builder) {
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.SetMaxReceiveMessageSize(64 * 1024 * 1024);
}

/// Answers exactly once, from any thread.
template <class Reply>
using Respond = std::function<void(Result<Reply>)>;

/// A unary handler of the callback API: checks who calls, then hands (caller, request, respond) to `work`, which must
/// post and return. The request stays valid until `respond` has run. Exceptions of `work` become an internal error.
template <class Request, class Reply, class Work>
grpc::ServerUnaryReactor* serve_unary(const Authenticator& auth, grpc::CallbackServerContext* ctx,
                                      std::string_view name, const Request* request, Reply* reply, Work&& work) {
  grpc::ServerUnaryReactor* reactor = ctx->DefaultReactor();
  const auto caller = auth.check_request(*ctx, name, *request);
  if (!caller) {
    reactor->Finish(to_status(caller.error()));
    return reactor;
  }
  Respond<Reply> respond = [&auth, ctx, reactor, request, reply, method = std::string(name)](Result<Reply> result) {
    if (!result) return reactor->Finish(to_status(result.error()));
    *reply = std::move(*result);
    if (auto ok = auth.sign_reply(*ctx, method, *request, *reply); !ok) return reactor->Finish(to_status(ok.error()));
    reactor->Finish(grpc::Status::OK);
  };
  try {
    std::forward<Work>(work)(*caller, *request, respond);
  } catch (const std::exception& error) {
    respond(fail(Code::internal, std::string(name) + ": " + error.what()));
  }
  return reactor;
}

/// The server's end of a server stream: messages queue here and go out one at a time. Thread-safe; nothing blocks.
/// Bounded: when a client reads slowly the oldest queued message is dropped (streams carry states, each newer one says
/// it all), never the last.
template <class Message>
class ServerStream final : public grpc::ServerWriteReactor<Message>,
                           public std::enable_shared_from_this<ServerStream<Message>> {
 public:
  /// False: the client has gone; what feeds the stream may stop.
  bool write(Message message) {
    const std::lock_guard lock(mutex_);
    if (gone_ || finishing_) return false;
    if (queue_.size() >= kMaxQueued) queue_.pop_front();
    queue_.push_back(std::move(message));
    pump();
    return true;
  }
  /// After what is queued has been written. Once; later calls do nothing.
  void finish(const Status& result) {
    const std::lock_guard lock(mutex_);
    if (finishing_) return;
    finishing_ = true;
    final_ = result ? grpc::Status::OK : to_status(result.error());
    pump();
  }
  [[nodiscard]] bool gone() const {
    const std::lock_guard lock(mutex_);
    return gone_;
  }

  /// Used by serve_stream().
  void hold(std::shared_ptr<ServerStream> self) { self_ = std::move(self); }

 private:
  static constexpr std::size_t kMaxQueued = 64;

  void pump() {  // mutex_ held
    if (writing_ || finished_) return;
    if (!queue_.empty() && !gone_) {
      writing_ = true;
      current_ = std::move(queue_.front());
      queue_.pop_front();
      this->StartWrite(&current_);
    } else if (finishing_ || gone_) {
      finished_ = true;
      this->Finish(gone_ ? grpc::Status::CANCELLED : final_);
    }
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) gone_ = true;
    pump();
  }
  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    pump();
  }
  void OnDone() override { const auto keep = std::move(self_); }

  mutable std::mutex mutex_;  ///< guards what follows; held while a gRPC start call is made, which never calls back
  std::deque<Message> queue_;
  Message current_;  ///< on its way out; must not move until OnWriteDone()
  bool writing_ = false, finishing_ = false, finished_ = false, gone_ = false;
  grpc::Status final_;
  std::shared_ptr<ServerStream> self_;
};

/// A server-stream handler: checks who calls, signs the stream, hands (caller, request, stream) to `work`, which must
/// post and return. The request is valid only during `work`: copy it. `work` must see to it that finish() is called in
/// the end.
template <class Message, class Request, class Work>
grpc::ServerWriteReactor<Message>* serve_stream(const Authenticator& auth, grpc::CallbackServerContext* ctx,
                                                std::string_view name, const Request* request, Work&& work) {
  auto stream = std::make_shared<ServerStream<Message>>();
  stream->hold(stream);
  const auto caller = auth.check_request(*ctx, name, *request);
  if (!caller) {
    stream->finish(fail(caller.error()));
  } else if (auto ok = auth.sign_stream(*ctx, name, *request); !ok) {
    stream->finish(ok);
  } else {
    try {
      std::forward<Work>(work)(*caller, *request, stream);
    } catch (const std::exception& error) {
      stream->finish(fail(Code::internal, std::string(name) + ": " + error.what()));
    }
  }
  return stream.get();
}

}  // namespace atlas
