#include "cache-agent/rpc/peer_stream.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "common/percent.h"
#include "proto/convert.h"

namespace atlas::agent {
namespace {

using std::chrono::steady_clock;
constexpr std::string_view kMethod = "Agent.Fetch";

FileMeta meta_of(const v1::FileMeta& in) {
  FileMeta meta;
  for (const auto& one : in.xattrs()) meta.xattrs.emplace_back(one.name(), one.value());
  return meta;
}

}  // namespace

Status PeerClient::Stream::start(v1::Agent::Stub& stub, std::shared_ptr<Stream> self) {
  *request_.mutable_dataset() = to_wire(key_.first);
  request_.set_generation(key_.second.bytes());
  request_.set_wait((for_readers_ ? owner_.options_.reader_wait : owner_.options_.wait).count());
  for (const auto& asked : asks_) {
    auto* extent = request_.add_extents();
    extent->set_file(asked->ask.want.file);
    extent->set_offset(asked->at);
    extent->set_length(asked->end() - asked->at);
    extent->set_job(asked->ask.job);
  }
  ATLAS_TRY(owner_.auth_.sign_request(context_, kMethod, request_));
  self_ = std::move(self);
  heard_ = brought_ = steady_clock::now();
  stub.async()->Fetch(&context_, &request_, this);
  AddHold();  // reads are started by writers, too
  StartCall();
  watch();
  return {};
}

/// Looks at the clock now and then, until the stream is over.
void PeerClient::Stream::watch() {
  const auto& options = owner_.options_;
  const auto silence = for_readers_ ? std::min(options.silence, options.reader_silence) : options.silence;
  // For a shorter time a peer knows by itself when to give up: only it sees what a reader's piece waits for.
  const auto wait = for_readers_ ? std::min(options.wait, options.reader_limited) : options.wait;
  const auto now = steady_clock::now();
  const std::lock_guard lock(mutex_);
  if (!self_) return;
  if (reading_ && too_late_) {
    if (now - heard_ > silence)
      too_late_ = fail(Code::deadline_exceeded, "it has said nothing for " + format_duration(silence));
    else if (now - brought_ > wait)
      too_late_ = fail(Code::aborted, "it has brought nothing for " + format_duration(wait));
    if (!too_late_) context_.TryCancel();
  }
  timer_ = owner_.front_.post_at(now + silence / 4, [weak = std::weak_ptr(self_)] {
    if (const auto stream = weak.lock()) stream->watch();
  });
}

void PeerClient::Stream::OnReadInitialMetadataDone(bool ok) {
  if (ok && (verdict_ = owner_.auth_.check_stream(context_, kMethod, request_))) return StartRead(&reply_);
  context_.TryCancel();
  RemoveHold();
}

void PeerClient::Stream::OnReadDone(bool ok) {
  if (!ok) return RemoveHold();
  {
    const std::lock_guard lock(mutex_);
    reading_ = false;
  }
  owner_.writers_.post([this] { handle(); });
}

/// On a writer's thread: takes one message, then asks for the next.
void PeerClient::Stream::handle() {
  for (const auto& piece : reply_.pieces()) {
    verdict_ = take(piece);
    if (!verdict_) break;
  }
  std::vector<AskedPtr> absent;
  for (const auto which : reply_.absent())
    if (which < asks_.size() && asks_[which]) absent.push_back(std::exchange(asks_[which], nullptr));
  // Who fills its cache and yet will not have it is filling it with something else, or has stopped.
  if (!absent.empty() && peer_.role != PeerRole::holds && peer_.role != PeerRole::shares)
    owner_.shun(key_, peer_.node, "it does not have what it was to read");
  if (!absent.empty()) owner_.again(key_, peer_.node, absent);
  {
    const std::lock_guard lock(mutex_);
    reading_ = true;
    heard_ = steady_clock::now();
    if (reply_.pieces_size() != 0) brought_ = heard_;
  }
  if (!verdict_) {
    context_.TryCancel();
    return RemoveHold();
  }
  StartRead(&reply_);
}

Status PeerClient::Stream::take(const v1::FetchPiece& piece) {
  if (piece.extent() >= asks_.size()) return fail(Code::data_loss, "it sent what it was not asked for");
  const auto asked = asks_[piece.extent()];
  if (!asked) return {};  // ended by an error of ours
  const std::uint64_t length = piece.length();
  if (piece.offset() != asked->at || length > asked->end() - asked->at)
    return fail(Code::data_loss, "it sent what it was not asked for");
  const FileMeta meta = meta_of(piece.meta());
  const auto status = asked->ask.take({Bytes{piece.offset()},
                                       Bytes{length},
                                       std::as_bytes(std::span(piece.data().data(), piece.data().size())),
                                       {piece.sums().begin(), piece.sums().end()},
                                       piece.has_meta() ? &meta : nullptr});
  if (!status && status.error().code == Code::data_loss) return status;
  asked->at += length;
  asked->got_any = true;
  if (!status || asked->whole()) {
    asks_[piece.extent()] = nullptr;
    asked->ask.done();
  }
  return {};
}

std::vector<PeerClient::AskedPtr> PeerClient::Stream::unfinished() const {
  std::vector<AskedPtr> out;
  for (const auto& asked : asks_)
    if (asked) out.push_back(asked);
  return out;
}

void PeerClient::Stream::OnDone(const grpc::Status& status) {
  Status over = verdict_;
  {
    const std::lock_guard lock(mutex_);
    if (over && !too_late_) over = too_late_;
    timer_.cancel();
  }
  if (over && !status.ok()) over = fail(from_status(status, "its agent"));
  if (over && !unfinished().empty()) over = fail(Code::aborted, "it ended before it had sent everything");
  // Not here: what follows signs calls.
  owner_.front_.post([this, over] {
    std::shared_ptr<Stream> self;
    {
      const std::lock_guard lock(mutex_);
      self = std::move(self_);
    }
    owner_.ended(self, over);
  });
}

}  // namespace atlas::agent
