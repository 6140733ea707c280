#pragma once
#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "common/config.h"
#include "common/result.h"
#include "proto/munge.h"

namespace atlas {

/// Error <-> gRPC status; the only translation in the tree.
[[nodiscard]] grpc::Status to_status(const Error& error);
/// `peer` names who was called ("the controller at host:817") for the message.
[[nodiscard]] Error from_status(const grpc::Status& status, std::string_view peer);

/// How long a connection may take to be made; then calls that wait for it fail as if nobody were there.
constexpr std::chrono::milliseconds kConnectPatience{1000};
/// A channel with retries off (a retry would resend a used credential), no HTTP proxy, quick reconnects, 64 MiB
/// messages.
[[nodiscard]] std::shared_ptr<grpc::Channel> make_channel(const std::string& address,
                                                          std::chrono::milliseconds patience = kConnectPatience);

/// Every RPC carries a munge credential over SHA-256 of (direction, method, request); every reply one over (direction,
/// method, request, reply); a stream's reply one over (direction, method, request) in its initial metadata. So no
/// message can be swapped, moved to another method, or replayed, and both sides know the other's uid. Thread-safe;
/// blocks ~0.1 ms per call.
class Authenticator {
 public:
  /// `trusted` = uids a server may have (root and SlurmUser).
  Authenticator(Munge munge, std::set<uid_t> trusted) : munge_(std::move(munge)), trusted_(std::move(trusted)) {}
  /// With the config's munge socket and {root, site.slurm_user}. not_found when that account does not exist.
  [[nodiscard]] static Result<Authenticator> from_config(const Config& config);

  [[nodiscard]] bool trusts(uid_t uid) const { return trusted_.contains(uid); }

  /// Client: adds the credential for this request.
  [[nodiscard]] Status sign_request(grpc::ClientContext& ctx, std::string_view method,
                                    const google::protobuf::Message& request) const;
  /// Client: the reply came from a trusted server and is the one to this request. Call after the RPC has finished.
  [[nodiscard]] Status check_reply(const grpc::ClientContext& ctx, std::string_view method,
                                   const google::protobuf::Message& request,
                                   const google::protobuf::Message& reply) const;
  /// Client of a stream: the server is trusted and saw this request. Call once initial metadata has arrived.
  [[nodiscard]] Status check_stream(const grpc::ClientContext& ctx, std::string_view method,
                                    const google::protobuf::Message& request) const;

  /// Server: who calls. unauthenticated when there is no valid credential for exactly this method and request.
  [[nodiscard]] Result<Caller> check_request(const grpc::ServerContextBase& ctx, std::string_view method,
                                             const google::protobuf::Message& request) const;
  /// Server, unary: adds the reply's credential to the trailing metadata. Before Finish().
  [[nodiscard]] Status sign_reply(grpc::ServerContextBase& ctx, std::string_view method,
                                  const google::protobuf::Message& request,
                                  const google::protobuf::Message& reply) const;
  /// Server, stream: adds the credential to the initial metadata. Before the first write.
  [[nodiscard]] Status sign_stream(grpc::ServerContextBase& ctx, std::string_view method,
                                   const google::protobuf::Message& request) const;

 private:
  [[nodiscard]] Status check_server(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
                                    std::string_view digest) const;

  Munge munge_;
  std::set<uid_t> trusted_;
};

}  // namespace atlas
