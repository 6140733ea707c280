#include "cache-agent/view/local_handlers.h"

#include <exception>

#include "atlas/v1/local.pb.h"
#include "common/mount_id.h"
#include "common/percent.h"

namespace atlas::view {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kLockFileBytes = std::size_t{32} * 1024;  ///< of a packet; a request's paths need less than half

Principal principal_of(const v1::Principal& wire) {
  return {wire.uid(), wire.gid(), {wire.groups().begin(), wire.groups().end()}};
}

v1::ReplicaState state_of(ReplicaState state) {
  switch (state) {
    case ReplicaState::complete:
      return v1::REPLICA_STATE_COMPLETE;
    case ReplicaState::partial:
      return v1::REPLICA_STATE_PARTIAL;
    default:
      return v1::REPLICA_STATE_ABSENT;
  }
}

std::vector<AttachedView> results_of(const v1::HoldNamespace& wire) {
  std::vector<AttachedView> out;
  for (const auto& one : wire.attached())
    out.push_back({{one.dataset().origin(), one.dataset().path()}, one.mounted(), one.reason()});
  return out;
}

/// What does not fit into a packet stays as it is on the replica: readers of such a database need its owner's rights.
void add_lock_files(const std::vector<std::string>& files, std::size_t& room, v1::View& wire) {
  for (const auto& file : files) {
    if (file.size() + 8 > room) return;
    room -= file.size() + 8;
    wire.add_lock_files(file);
  }
}

v1::LocalReply reply_of(const AttachAnswer& answer) {
  v1::LocalReply reply;
  reply.set_known(answer.known);
  reply.set_cache_state(answer.cache_state);
  reply.set_announcement(answer.announcement);
  reply.set_refused(printable(answer.refused));
  reply.set_namespace_held(bool(answer.ns));
  std::size_t room = kLockFileBytes;
  for (const auto& view : answer.views) {
    auto& wire = *reply.add_views();
    wire.mutable_dataset()->set_origin(view.dataset.origin);
    wire.mutable_dataset()->set_path(view.dataset.path);
    wire.set_origin_root(view.origin_root);
    wire.set_state(state_of(view.state));
    wire.set_has_mount(bool(view.mount));
    if (view.mount) add_lock_files(view.lock_files, room, wire);
    wire.set_granted(view.granted);
    wire.set_seen_lately(view.seen_lately);
    for (const auto& window : view.windows) wire.add_windows(window);
  }
  reply.set_has_mounts(answer.has_mounts || !answer.mounts.empty());
  return reply;
}

v1::LocalReply reply_of(const Error& error) {
  v1::LocalReply reply;
  reply.set_code(static_cast<int>(error.code));
  reply.set_message(printable(error.message));
  return reply;
}

}  // namespace

Result<std::unique_ptr<ViewServer>> ViewServer::start(ViewSource& source, const Clock& clock, Options options) {
  std::unique_ptr<ViewServer> self(new ViewServer(std::move(options)));
  self->clock_ = &clock;
  ATLAS_ASSIGN(self->holder_, NamespaceHolder::open(self->options_.run_dir / "ns"));
  self->service_ = std::make_unique<AttachService>(
      source, *self->holder_, clock, AttachService::Options{self->options_.patience, self->options_.warn});
  LocalServer::Options server;
  server.path = self->options_.socket;
  server.any_user = self->options_.any_user;
  LocalServer::Handlers handlers;
  handlers.packet = [raw = self.get()](auto connection, Packet packet) {
    try {
      raw->on_packet(connection, std::move(packet));
    } catch (const std::exception& error) {  // no exception passes a thread's entry, and each request gets its reply
      raw->answer(connection, fail(Code::internal, error.what()));
    }
  };
  handlers.closed = [raw = self.get()](auto connection) { raw->service_->gone(connection); };
  handlers.tick = [raw = self.get()] { raw->service_->expire(); };
  ATLAS_ASSIGN(self->server_, LocalServer::listen(std::move(server)));
  self->server_->serve(std::move(handlers));  // only now: a handler replies through server_
  return self;
}

ViewServer::~ViewServer() = default;

void ViewServer::answer(LocalServer::Connection connection, Result<AttachAnswer> result) {
  v1::LocalReply reply = result ? reply_of(*result) : reply_of(result.error());
  reply.set_version(kVersion);
  std::vector<UniqueFd> fds;
  if (result && !result->mounts.empty()) reply.set_pin_above(own_mount_namespace_id());
  if (result) fds = std::move(result->mounts);
  if (result && result->ns) fds.push_back(std::move(result->ns));
  server_->reply(connection, reply.SerializeAsString(), fds);
}

void ViewServer::on_packet(LocalServer::Connection connection, Packet packet) {
  v1::LocalRequest request;
  if (!request.ParseFromString(packet.bytes))
    return answer(connection, fail(Code::invalid_argument, "malformed request"));
  const auto deadline = clock_->now() + options_.limit;
  const auto reply = [this, connection](Result<AttachAnswer> result) { answer(connection, std::move(result)); };
  if (request.version() != kVersion)
    return reply(
        fail(Code::unimplemented, "the cache agent speaks version 1 of its local protocol; upgrade both together"));
  switch (request.body_case()) {
    case v1::LocalRequest::kPrepare:
      return reply(service_->prepare(request.prepare().job_id(), principal_of(request.prepare().as()), deadline));
    case v1::LocalRequest::kAttach: {
      const auto job_id = request.attach().job_id();
      const auto as = principal_of(request.attach().as());
      return service_->attach(connection, job_id, as, deadline, [this, connection, job_id, as](auto result) {
        if (result && result->known) options_.attached(job_id, as, server_->process_of(connection));
        answer(connection, std::move(result));
      });
    }
    case v1::LocalRequest::kHold:
      return reply(service_->hold(connection, request.hold().job_id(), results_of(request.hold()),
                                  packet.fds.empty() ? UniqueFd() : std::move(packet.fds.front())));
    case v1::LocalRequest::kEnter:
      return reply(service_->enter(request.enter().job_id()));
    default:
      return reply(fail(Code::unimplemented, "the cache agent does not know this request; upgrade it"));
  }
}

}  // namespace atlas::view
