#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>

#include "atlas/v1/agent.grpc.pb.h"
#include "proto/client.h"
#include "proto/server.h"
#include "tests/support/private_munged.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

/// An agent that answers with who called, and streams a hundred states.
class EchoAgent final : public v1::Agent::CallbackService {
 public:
  explicit EchoAgent(const Authenticator& auth) : auth_(auth) {}
  grpc::ServerUnaryReactor* Pin(grpc::CallbackServerContext* ctx, const v1::PinRequest* request,
                                v1::PinReply* reply) override {
    return serve_unary(auth_, ctx, sign_as_, request, reply,
                       [](Caller caller, const v1::PinRequest&, Respond<v1::PinReply> respond) {
                         v1::PinReply out;
                         out.set_replicas(caller.uid + 7);
                         respond(out);
                       });
  }
  grpc::ServerWriteReactor<v1::Progress>* Warm(grpc::CallbackServerContext* ctx,
                                               const v1::WarmRequest* request) override {
    return serve_stream<v1::Progress>(
        auth_, ctx, "Agent.Warm", request,
        [](Caller, const v1::WarmRequest& r, std::shared_ptr<ServerStream<v1::Progress>> stream) {
          for (std::uint64_t i = 1; i <= r.cache_limit(); ++i) {
            v1::Progress p;
            p.set_bytes_done(i);
            stream->write(p);
          }
          stream->finish({});
        });
  }
  std::string sign_as_ = "Agent.Pin";

 private:
  const Authenticator& auth_;
};

class RpcAuth : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!munged_.running()) GTEST_SKIP() << "munged cannot be run here";
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    channel_ = make_channel("127.0.0.1:" + std::to_string(port));
    stub_ = v1::Agent::NewStub(channel_);
  }
  void TearDown() override {
    if (server_) server_->Shutdown(std::chrono::system_clock::now() + 1s);
  }

  test::PrivateMunged munged_;
  Authenticator auth_{Munge(munged_.socket()), {0, getuid()}};
  EchoAgent service_{auth_};
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Agent::Stub> stub_;
};

TEST_F(RpcAuth, ServerLearnsWhoCallsAndClientWhoAnswers) {
  const auto reply = call(auth_, *stub_, &v1::Agent::Stub::Pin, "Agent.Pin", v1::PinRequest(), 5s, "the agent");
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->replicas(), getuid() + 7);
}

TEST_F(RpcAuth, CallWithoutCredentialIsRefused) {
  grpc::ClientContext ctx;
  v1::PinReply reply;
  EXPECT_EQ(stub_->Pin(&ctx, v1::PinRequest(), &reply).error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(RpcAuth, CredentialForAnotherRequestOrMethodIsRefused) {
  v1::PinRequest signed_request, sent;
  sent.set_pinned(true);
  for (const auto& [name, request] : {std::pair{"Agent.Pin", signed_request}, {"Agent.Evict", sent}}) {
    grpc::ClientContext ctx;
    ASSERT_TRUE(auth_.sign_request(ctx, name, request));
    v1::PinReply reply;
    EXPECT_EQ(stub_->Pin(&ctx, sent, &reply).error_code(), grpc::StatusCode::UNAUTHENTICATED) << name;
  }
}

TEST_F(RpcAuth, ReplayedCredentialIsRefused) {
  const Munge munge(munged_.socket());
  const auto credential = munge.encode("once");
  ASSERT_TRUE(credential);
  EXPECT_TRUE(munge.decode(*credential));
  const auto again = munge.decode(*credential);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Code::unauthenticated);
}

TEST_F(RpcAuth, ReplyOfAServerThatIsNotTrustedIsRefused) {
  const Authenticator suspicious{Munge(munged_.socket()), {getuid() + 1}};
  const auto reply = call(suspicious, *stub_, &v1::Agent::Stub::Pin, "Agent.Pin", v1::PinRequest(), 5s, "the agent");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, Code::unauthenticated);
}

TEST_F(RpcAuth, StreamArrivesInOrderAndEndsWithTheLastState) {
  v1::WarmRequest request;
  request.set_cache_limit(1000);
  std::uint64_t last = 0;
  const auto done = read_stream<v1::Agent::Stub, v1::WarmRequest, v1::Progress>(
      auth_, *stub_, &v1::Agent::Stub::Warm, "Agent.Warm", request, "the agent", [&](const v1::Progress& p) {
        EXPECT_GT(p.bytes_done(), last);
        last = p.bytes_done();
        return true;
      });
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(last, 1000U);
}

TEST_F(RpcAuth, AsyncStreamAndCallReportOnce) {
  v1::WarmRequest request;
  request.set_cache_limit(10);
  std::promise<Status> stream_done;
  std::atomic<int> messages = 0;
  stream_async<v1::Agent::Stub::async_interface, v1::WarmRequest, v1::Progress>(
      auth_, stub_->async(), &v1::Agent::Stub::async_interface::Warm, "Agent.Warm", request, "the agent",
      [&](const v1::Progress&) { ++messages; }, [&](Status status) { stream_done.set_value(std::move(status)); });
  EXPECT_TRUE(stream_done.get_future().get());
  EXPECT_GE(messages, 1);
  std::promise<Result<v1::PinReply>> call_done;
  call_async<v1::Agent::Stub::async_interface, v1::PinRequest, v1::PinReply>(
      auth_, stub_->async(), &v1::Agent::Stub::async_interface::Pin, "Agent.Pin", v1::PinRequest(), 5s, "the agent",
      [&](Result<v1::PinReply> reply) { call_done.set_value(std::move(reply)); });
  EXPECT_TRUE(call_done.get_future().get());
}

TEST_F(RpcAuth, UnreachableServerIsNamed) {
  const auto channel = make_channel("127.0.0.1:1");
  const auto stub = v1::Agent::NewStub(channel);
  const auto reply =
      call(auth_, *stub, &v1::Agent::Stub::Pin, "Agent.Pin", v1::PinRequest(), 5s, "the agent at 127.0.0.1:1");
  ASSERT_FALSE(reply);
  EXPECT_NE(reply.error().message.find("127.0.0.1:1"), std::string::npos) << reply.error().message;
}

}  // namespace
}  // namespace atlas
