#include "proto/auth.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <openssl/evp.h>
#include <pwd.h>

#include <array>
#include <memory>
#include <vector>

namespace atlas {
namespace {

constexpr const char* kRequestKey = "atlas-credential";
constexpr const char* kReplyKey = "atlas-reply-credential";

/// SHA-256, as lower-case hex, of length-prefixed parts: no two different lists of parts hash the same text.
Result<std::string> digest_of(std::initializer_list<std::string_view> parts) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> ctx(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  bool ok = ctx && EVP_DigestInit_ex(ctx.get(), EVP_sha256(), nullptr) == 1;
  for (const auto part : parts) {
    const std::uint64_t size = part.size();
    ok = ok && EVP_DigestUpdate(ctx.get(), &size, sizeof size) == 1 &&
         EVP_DigestUpdate(ctx.get(), part.data(), part.size()) == 1;
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
  unsigned int n = 0;
  if (!ok || EVP_DigestFinal_ex(ctx.get(), raw.data(), &n) != 1) return fail(Code::internal, "SHA-256 failed");
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < n; ++i) (hex += kHex[raw[i] >> 4]) += kHex[raw[i] & 15];
  return hex;
}

std::string_view find(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata, const char* key) {
  const auto it = metadata.find(key);
  return it == metadata.end() ? std::string_view() : std::string_view(it->second.data(), it->second.size());
}

Result<std::string> request_digest(std::string_view method, const google::protobuf::Message& request) {
  return digest_of({"request", method, request.SerializeAsString()});
}
Result<std::string> reply_digest(std::string_view method, const google::protobuf::Message& request,
                                 const google::protobuf::Message& reply) {
  return digest_of({"reply", method, request.SerializeAsString(), reply.SerializeAsString()});
}
Result<std::string> stream_digest(std::string_view method, const google::protobuf::Message& request) {
  return digest_of({"stream", method, request.SerializeAsString()});
}

}  // namespace

grpc::Status to_status(const Error& error) {
  return {static_cast<grpc::StatusCode>(error.code), error.message};
}

Error from_status(const grpc::Status& status, std::string_view peer) {
  const auto code = static_cast<Code>(status.error_code());
  const std::string name(peer);
  if (code == Code::unavailable && status.error_message().find("failed to connect") != std::string::npos)
    return {code, "cannot reach " + name + ": is it running?", 0};
  if (code == Code::deadline_exceeded && status.error_message() == "Deadline Exceeded")
    return {code, "no answer in time from " + name, 0};
  return {code, status.error_message().empty() ? name + ": " + std::string(name_of(code)) : status.error_message(), 0};
}

namespace {

/// gRPC 1.51 ends the threads that run callbacks with the last channel that uses them, by joining them. A call's
/// context holds its channel and goes after the call's callback, on such a thread: one that holds the last channel
/// joins itself, and the process aborts. This call never starts and never ends: it keeps them.
struct EndlessCall {
  std::shared_ptr<grpc::Channel> channel = grpc::CreateChannel("unix:/", grpc::InsecureChannelCredentials());
  grpc::GenericStub stub{channel};
  grpc::ClientContext ctx;
  grpc::ByteBuffer request, reply;
  grpc::ClientUnaryReactor reactor;
  EndlessCall() { stub.PrepareUnaryCall(&ctx, "/", {}, &request, &reply, &reactor); }
};

}  // namespace

std::shared_ptr<grpc::Channel> make_channel(const std::string& address, std::chrono::milliseconds patience) {
  static const auto* const endless = new EndlessCall;
  static_cast<void>(endless);
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(patience.count()));
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetMaxReceiveMessageSize(64 * 1024 * 1024);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), args);
}

Result<Authenticator> Authenticator::from_config(const Config& config) {
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  getpwnam_r(config.site.slurm_user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr)
    return fail(Code::not_found, "site.slurm_user: there is no account '" + config.site.slurm_user +
                                     "' on this host (slurm.conf: SlurmUser)");
  return Authenticator(Munge(config.site.munge_socket), {0, found->pw_uid});
}

Status Authenticator::sign_request(grpc::ClientContext& ctx, std::string_view method,
                                   const google::protobuf::Message& request) const {
  ATLAS_ASSIGN(const std::string digest, request_digest(method, request));
  ATLAS_ASSIGN(const std::string credential, munge_.encode(digest));
  ctx.AddMetadata(kRequestKey, credential);
  return {};
}

Result<Caller> Authenticator::check_request(const grpc::ServerContextBase& ctx, std::string_view method,
                                            const google::protobuf::Message& request) const {
  const auto credential = find(ctx.client_metadata(), kRequestKey);
  if (credential.empty()) return fail(Code::unauthenticated, "the call carries no munge credential");
  ATLAS_ASSIGN(const std::string digest, request_digest(method, request));
  ATLAS_ASSIGN(const Munge::Decoded decoded, munge_.decode(credential));
  if (decoded.payload != digest) return fail(Code::unauthenticated, "the credential was made for another call");
  return decoded.caller;
}

Status Authenticator::sign_reply(grpc::ServerContextBase& ctx, std::string_view method,
                                 const google::protobuf::Message& request,
                                 const google::protobuf::Message& reply) const {
  ATLAS_ASSIGN(const std::string digest, reply_digest(method, request, reply));
  ATLAS_ASSIGN(const std::string credential, munge_.encode(digest));
  ctx.AddTrailingMetadata(kReplyKey, credential);
  return {};
}

Status Authenticator::sign_stream(grpc::ServerContextBase& ctx, std::string_view method,
                                  const google::protobuf::Message& request) const {
  ATLAS_ASSIGN(const std::string digest, stream_digest(method, request));
  ATLAS_ASSIGN(const std::string credential, munge_.encode(digest));
  ctx.AddInitialMetadata(kReplyKey, credential);
  return {};
}

Status Authenticator::check_server(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
                                   std::string_view digest) const {
  const auto credential = find(metadata, kReplyKey);
  if (credential.empty()) return fail(Code::unauthenticated, "the reply carries no munge credential");
  ATLAS_ASSIGN(const Munge::Decoded decoded, munge_.decode(credential));
  if (decoded.payload != digest) return fail(Code::unauthenticated, "the reply belongs to another call");
  if (!trusts(decoded.caller.uid))
    return fail(Code::unauthenticated, "the reply comes from uid " + std::to_string(decoded.caller.uid) +
                                           ", which is neither root nor SlurmUser");
  return {};
}

Status Authenticator::check_reply(const grpc::ClientContext& ctx, std::string_view method,
                                  const google::protobuf::Message& request,
                                  const google::protobuf::Message& reply) const {
  ATLAS_ASSIGN(const std::string digest, reply_digest(method, request, reply));
  return check_server(ctx.GetServerTrailingMetadata(), digest);
}

Status Authenticator::check_stream(const grpc::ClientContext& ctx, std::string_view method,
                                   const google::protobuf::Message& request) const {
  ATLAS_ASSIGN(const std::string digest, stream_digest(method, request));
  return check_server(ctx.GetServerInitialMetadata(), digest);
}

}  // namespace atlas
