#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "proto/auth.h"

namespace atlas {

inline std::chrono::system_clock::time_point rpc_deadline(milliseconds timeout) {
  return std::chrono::system_clock::now() + timeout;
}

/// One unary call, signed and checked both ways; blocks up to `timeout`. `peer` names the server in errors.
///   call(auth, *stub, &v1::Controller::Stub::Hook, "Controller.Hook", request, 3s, "the controller at host:817")
/// The method name is the text both sides sign; it must match the server's.
template <class Stub, class Request, class Reply>
Result<Reply> call(const Authenticator& auth, Stub& stub,
                   grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*), std::string_view name,
                   const Request& request, milliseconds timeout, std::string_view peer) {
  grpc::ClientContext ctx;
  ctx.set_deadline(rpc_deadline(timeout));
  ATLAS_TRY(auth.sign_request(ctx, name, request));
  Reply reply;
  const grpc::Status status = (stub.*method)(&ctx, request, &reply);
  if (!status.ok()) return fail(from_status(status, peer));
  ATLAS_TRY(auth.check_reply(ctx, name, request, reply));
  return reply;
}

/// One server stream read to its end; blocks. `on_message` returns false to stop early (the stream is then cancelled,
/// which is no error). No timeout: the stream lives as long as what it watches; keepalive notices a dead server.
template <class Stub, class Request, class Message>
Status read_stream(const Authenticator& auth, Stub& stub,
                   std::unique_ptr<grpc::ClientReader<Message>> (Stub::*method)(grpc::ClientContext*, const Request&),
                   std::string_view name, const Request& request, std::string_view peer,
                   const std::function<bool(const Message&)>& on_message) {
  grpc::ClientContext ctx;
  ATLAS_TRY(auth.sign_request(ctx, name, request));
  const auto reader = (stub.*method)(&ctx, request);
  Message message;
  bool checked = false;
  bool stopped = false;
  while (!stopped && reader->Read(&message)) {
    if (!std::exchange(checked, true)) {
      if (auto ok = auth.check_stream(ctx, name, request); !ok) {
        ctx.TryCancel();
        static_cast<void>(reader->Finish());
        return ok;
      }
    }
    stopped = !on_message(message);
  }
  if (stopped) ctx.TryCancel();
  const grpc::Status status = reader->Finish();
  if (!status.ok() && !stopped) return fail(from_status(status, peer));
  return {};
}

/// One unary call without blocking. `done` runs once on one of gRPC's threads.
///   call_async<v1::PlanReply>(auth, stub->async(), &Async::Plan, "Agent.Plan", request, 5s, peer, done)
template <class Async, class Request, class Reply>
void call_async(const Authenticator& auth, Async* async,
                void (Async::*method)(grpc::ClientContext*, const Request*, Reply*, std::function<void(grpc::Status)>),
                std::string_view name, Request request, milliseconds timeout, std::string peer,
                std::function<void(Result<Reply>)> done) {
  struct State {
    grpc::ClientContext ctx;
    Request request;
    Reply reply;
    std::string name, peer;
    std::function<void(Result<Reply>)> done;
  };
  auto state = std::make_shared<State>();
  state->request = std::move(request);
  state->name = name;
  state->peer = std::move(peer);
  state->done = std::move(done);
  state->ctx.set_deadline(rpc_deadline(timeout));
  if (auto ok = auth.sign_request(state->ctx, name, state->request); !ok) {
    state->done(fail(std::move(ok).error()));
    return;
  }
  (async->*method)(&state->ctx, &state->request, &state->reply, [state, &auth](grpc::Status status) {
    if (!status.ok()) return state->done(fail(from_status(status, state->peer)));
    if (auto ok = auth.check_reply(state->ctx, state->name, state->request, state->reply); !ok)
      return state->done(fail(std::move(ok).error()));
    state->done(std::move(state->reply));
  });
}

/// A running server stream read without blocking; dropping the handle does not end it, cancel() does.
class StreamHandle {
 public:
  virtual ~StreamHandle() = default;
  virtual void cancel() = 0;  ///< thread-safe; `done` still runs, once
};

/// Starts a server stream. `on_message` and `done` run one at a time on gRPC's threads; `auth` must outlive the call.
template <class Async, class Request, class Message>
std::shared_ptr<StreamHandle> stream_async(const Authenticator& auth, Async* async,
                                           void (Async::*method)(grpc::ClientContext*, const Request*,
                                                                 grpc::ClientReadReactor<Message>*),
                                           std::string_view name, Request request, std::string peer,
                                           std::function<void(const Message&)> on_message,
                                           std::function<void(Status)> done) {
  struct Call final : grpc::ClientReadReactor<Message>, StreamHandle {
    explicit Call(const Authenticator& a) : auth(a) {}
    void cancel() override { ctx.TryCancel(); }
    void OnReadInitialMetadataDone(bool ok) override {
      if (ok && (verdict = auth.check_stream(ctx, name, request))) return this->StartRead(&message);
      ctx.TryCancel();
    }
    void OnReadDone(bool ok) override {
      if (!ok) return;
      on_message(message);
      this->StartRead(&message);
    }
    void OnDone(const grpc::Status& status) override {
      const auto keep = std::move(self);
      if (!verdict) return done(verdict);
      done(status.ok() ? Status{} : Status(fail(from_status(status, peer))));
    }
    const Authenticator& auth;
    grpc::ClientContext ctx;
    Request request;
    Message message;
    std::string name, peer;
    std::function<void(const Message&)> on_message;
    std::function<void(Status)> done;
    Status verdict;
    std::shared_ptr<Call> self;
  };
  auto state = std::make_shared<Call>(auth);
  state->request = std::move(request);
  state->name = name;
  state->peer = std::move(peer);
  state->on_message = std::move(on_message);
  state->done = std::move(done);
  if (auto ok = auth.sign_request(state->ctx, name, state->request); !ok) {
    state->done(std::move(ok));
    return state;
  }
  state->self = state;
  (async->*method)(&state->ctx, &state->request, state.get());
  state->StartCall();
  return state;
}

}  // namespace atlas
