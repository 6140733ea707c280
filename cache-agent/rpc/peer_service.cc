#include "cache-agent/rpc/peer_service.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "cache-agent/store/block_map.h"
#include "common/percent.h"
#include "proto/convert.h"

namespace atlas::agent {
namespace {

using std::chrono::steady_clock;
constexpr std::string_view kMethod = "Agent.Fetch";
/// Small files that go into one message.
constexpr std::uint64_t kMostBlocks = 512;

}  // namespace

/// One call being answered. Steps on the readers and gRPC's writes take turns: there is never more than one of them.
class PeerService::Sending final : public grpc::ServerWriteReactor<v1::FetchReply> {
 public:
  Sending(PeerService& owner, const v1::FetchRequest& request)
      : owner_(owner),
        dataset_(from_wire(request.dataset())),
        generation_(GenerationId::of(request.generation())),
        wait_(std::clamp(std::chrono::milliseconds(request.wait()), std::chrono::milliseconds(0),
                         owner.options_.longest)),
        began_(steady_clock::now()),
        news_(began_),
        wrote_(began_) {
    for (const auto& extent : request.extents()) {
      wanted_.push_back({extent.file(), extent.offset(), extent.offset() + extent.length(), extent.job()});
      readers_wait_ = readers_wait_ || extent.job() != 0;
    }
  }
  void refuse(const Status& why) { Finish(to_status(why.error())); }
  void begin() {
    counted_ = true;
    owner_.readers_.post([this] { step(); });
  }

 private:
  struct Wanted {
    FileIndex file = 0;
    std::uint64_t at = 0, end = 0;
    std::uint32_t job = 0;  ///< whose reader waits for it; 0 = nobody's
    bool checked = false, over = false;
    std::shared_ptr<std::atomic<bool>> lost{};  ///< it is being brought for that reader; true: in vain
  };

  void step();
  [[nodiscard]] bool look();
  [[nodiscard]] bool comes(Wanted& wanted);
  void add(std::uint32_t which);
  [[nodiscard]] Status add_block(std::uint32_t which, const Manifest::Entry& entry);
  [[nodiscard]] v1::FetchPiece& piece_at(std::uint32_t which, bool hole);
  void absent(std::uint32_t which);

  void OnWriteDone(bool ok) override {
    if (!ok) gone_ = true;
    owner_.readers_.post([this] { step(); });
  }
  void OnCancel() override { gone_ = true; }
  void OnDone() override {
    if (counted_) owner_.streams_.fetch_sub(1);
    delete this;
  }

  PeerService& owner_;
  const DatasetId dataset_;
  const GenerationId generation_;
  const std::chrono::milliseconds wait_;
  const SteadyTime began_;
  SteadyTime news_, wrote_;
  std::uint64_t resident_ = 0;
  std::vector<Wanted> wanted_;
  std::size_t first_ = 0;  ///< everything before is over
  std::shared_ptr<Replica> replica_;
  std::shared_ptr<const Manifest> manifest_;
  v1::FetchReply reply_;
  std::uint64_t bytes_ = 0, blocks_ = 0;  ///< of reply_
  std::vector<std::byte> block_;
  std::atomic<bool> gone_{false};
  bool counted_ = false;
  bool readers_wait_ = false;
};

/// Sends what is here, waits a little, or ends.
void PeerService::Sending::step() {
  if (gone_ || owner_.stopping_) return Finish({grpc::StatusCode::CANCELLED, "the agent is stopping"});
  reply_.Clear();
  bytes_ = blocks_ = 0;
  const bool may_come = look();
  const auto now = steady_clock::now();
  for (std::size_t i = first_; i < wanted_.size(); ++i) {
    const auto which = static_cast<std::uint32_t>(i);
    if (bytes_ >= owner_.options_.message.count || blocks_ >= kMostBlocks) break;
    if (!wanted_[i].over && manifest_) add(which);
    if (!wanted_[i].over && !(wanted_[i].job == 0 ? may_come : comes(wanted_[i])) && blocks_ < kMostBlocks &&
        bytes_ < owner_.options_.message.count)
      absent(which);
    if (wanted_[i].over && i == first_) ++first_;
  }
  const bool more = reply_.pieces_size() != 0 || reply_.absent_size() != 0;
  if (!more && first_ == wanted_.size()) return Finish(grpc::Status::OK);
  if (more || now - wrote_ >= owner_.options_.heartbeat) {
    wrote_ = now;
    owner_.sent_.fetch_add(bytes_, std::memory_order_relaxed);
    return StartWrite(&reply_);
  }
  // The task keeps its own handle: by the time post_at() returns, the next step may be under way on another thread, and
  // must not find its timer called off by a late assignment of this one.
  const auto handle = std::make_shared<TimerHandle>();
  const auto poll = readers_wait_ ? owner_.options_.reader_poll : owner_.options_.poll;
  *handle = owner_.readers_.post_at(now + poll, [this, handle] { step(); });
}

/// Finds the replica; true while what is missing of it may still come.
bool PeerService::Sending::look() {
  const auto now = steady_clock::now();
  const bool expected = owner_.expected_(dataset_, generation_);
  if (!replica_) {
    replica_ = owner_.store_.find(dataset_, generation_);
    if (replica_) {
      if (auto manifest = replica_->manifest()) manifest_ = *manifest;
      news_ = now;
    }
  }
  if (replica_ && replica_->bytes_resident().count != resident_) {
    resident_ = replica_->bytes_resident().count;
    news_ = now;
  }
  if (now - news_ >= wait_) return false;
  return expected || (!replica_ && now - began_ < owner_.options_.grace);
}

/// Of a piece that a reader waits for and that is not here: has it brought, once.
bool PeerService::Sending::comes(Wanted& wanted) {
  if (!replica_ || !manifest_) return false;
  const auto now = steady_clock::now();
  // As long as it waits for a limit, who asked waits, too: the origin would cost him the same again.
  if (wanted.lost && now - news_ >= std::min(owner_.options_.heartbeat, wait_ / 2) &&
      owner_.parked_(wanted.job, dataset_))
    news_ = now;
  if (now - news_ >= wait_) return false;
  if (!wanted.lost) {
    wanted.lost = std::make_shared<std::atomic<bool>>(false);
    const Extent rest{wanted.file, Bytes{wanted.at}, Bytes{wanted.end - wanted.at}};
    if (!owner_.bring_(wanted.job, replica_, rest, [lost = wanted.lost] { *lost = true; })) *wanted.lost = true;
  }
  return !*wanted.lost;
}

void PeerService::Sending::absent(std::uint32_t which) {
  wanted_[which].over = true;
  reply_.add_absent(which);
}

/// As much of one piece as is here and fits.
void PeerService::Sending::add(std::uint32_t which) {
  auto& wanted = wanted_[which];
  if (wanted.file >= manifest_->size()) return absent(which);
  const auto entry = manifest_->at(wanted.file);
  if (!std::exchange(wanted.checked, true)) {
    const bool begins = wanted.job != 0 || wanted.at % kMiB.count == 0;
    const bool sane = entry.blocks != 0 && begins && wanted.at <= wanted.end && wanted.end <= entry.attributes.size &&
                      (wanted.at < wanted.end || entry.attributes.size == 0);
    if (!sane) return absent(which);
  }
  do {
    const std::uint64_t length = std::min(kMiB.count - wanted.at % kMiB.count, wanted.end - wanted.at);
    if (!replica_->resident(*manifest_, {wanted.file, Bytes{wanted.at}, Bytes{length}})) return;
    if (const auto ok = add_block(which, entry); !ok) {
      // A bad block's bit is cleared by now: the next who warms the dataset here fetches it again.
      if (ok.error().code == Code::data_loss) spdlog::warn("{}", ok.error().message);
      return absent(which);
    }
    wanted.at += length;
  } while (wanted.at < wanted.end && bytes_ < owner_.options_.message.count && blocks_ < kMostBlocks);
  wanted.over = wanted.at >= wanted.end;
}

/// The piece that the next block belongs to: the last one, if it goes on.
v1::FetchPiece& PeerService::Sending::piece_at(std::uint32_t which, bool hole) {
  const std::uint64_t at = wanted_[which].at;
  if (const int n = reply_.pieces_size(); n != 0) {
    auto& last = *reply_.mutable_pieces(n - 1);
    if (last.extent() == which && last.offset() + last.length() == at && last.data().empty() == hole) return last;
  }
  auto& piece = *reply_.add_pieces();
  piece.set_extent(which);
  piece.set_offset(at);
  return piece;
}

Status PeerService::Sending::add_block(std::uint32_t which, const Manifest::Entry& entry) {
  const auto& wanted = wanted_[which];
  // To the block's end even if less is asked for, as only whole blocks have checksums; but a reader gets what he wants.
  const std::uint64_t to_end = std::min(kMiB.count - wanted.at % kMiB.count, entry.attributes.size - wanted.at);
  const std::uint64_t length = wanted.job == 0 ? to_end : std::min(to_end, wanted.end - wanted.at);
  const bool hole = replica_->zeros(*manifest_, wanted.file, Bytes{wanted.at});
  if (!hole && block_.size() < length) block_.resize(length);
  FileMeta meta;
  const bool with_meta = wanted.at == 0 && wanted.job == 0;
  if (with_meta) {
    ATLAS_ASSIGN(meta, replica_->meta_of(*manifest_, wanted.file));
  }
  const auto block = std::span(block_).first(hole ? 0 : length);
  if (!hole) {
    ATLAS_ASSIGN(const Bytes got, replica_->read({wanted.file, Bytes{wanted.at}, Bytes{length}}, block, Verify::yes));
    if (got.count != length) return fail(Code::data_loss, printable(manifest_->path(wanted.file)) + ": too short");
  }
  auto& piece = piece_at(which, hole);
  piece.set_length(piece.length() + length);
  if (!hole) {
    piece.mutable_data()->append(reinterpret_cast<const char*>(block.data()), length);
    piece.add_sums(sum_of(block));
    bytes_ += length;
    ++blocks_;
  }
  if (with_meta) {
    auto* out = piece.mutable_meta();
    for (const auto& [name, value] : meta.xattrs) {
      auto* one = out->add_xattrs();
      one->set_name(name);
      one->set_value(value);
    }
  }
  return {};
}

grpc::ServerWriteReactor<v1::FetchReply>* PeerService::fetch(grpc::CallbackServerContext* ctx,
                                                             const v1::FetchRequest* request) {
  auto* sending = new Sending(*this, *request);  // deletes itself in OnDone()
  const auto caller = auth_.check_request(*ctx, kMethod, *request);
  Status ok;
  if (!caller) {
    ok = fail(caller.error());
  } else if (caller->uid != 0 && caller->uid != geteuid()) {
    ok = fail(Code::permission_denied, "only the agents of other nodes may read a node's cache");
  } else {
    ok = auth_.sign_stream(*ctx, kMethod, *request);
  }
  if (ok && streams_.fetch_add(1) >= options_.streams) {
    streams_.fetch_sub(1);
    ok = fail(Code::resource_exhausted, "it serves too many nodes already");
  }
  if (ok) {
    sending->begin();
  } else {
    sending->refuse(ok);
  }
  return sending;
}

}  // namespace atlas::agent
