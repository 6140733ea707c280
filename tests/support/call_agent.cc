// call-agent MUNGE_SOCKET PORT: pins a dataset at an agent as whoever runs this; exits with the error's code.
#include <cstdio>

#include "atlas/v1/agent.grpc.pb.h"
#include "proto/client.h"

int main(int argc, char** argv) {
  using namespace atlas;
  if (argc != 3) return 99;
  const Authenticator auth(Munge(argv[1]), {0});
  const auto stub = v1::Agent::NewStub(make_channel(std::string("127.0.0.1:") + argv[2]));
  v1::PinRequest request;
  request.mutable_dataset()->set_origin("o");
  request.set_pinned(true);
  const auto reply =
      call(auth, *stub, &v1::Agent::Stub::Pin, "Agent.Pin", request, std::chrono::seconds(5), "the agent");
  if (reply) return 0;
  std::fprintf(stderr, "%s\n", reply.error().message.c_str());
  return static_cast<int>(reply.error().code);
}
