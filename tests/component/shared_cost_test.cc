// Who pays for what several wait for, when some come and others go between its pieces; and what cannot be had at all.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "tests/support/eventually.h"
#include "tests/support/limits_on_node.h"

namespace {
std::atomic<std::size_t> too_large{SIZE_MAX};
}

// As on a node without memory: what is as large as that is refused.
void* operator new(std::size_t size, std::align_val_t alignment) {
  void* memory = size < too_large ? std::aligned_alloc(static_cast<std::size_t>(alignment), size) : nullptr;
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

/// An origin whose files are read when the test says so.
class GatedOrigin final : public Origin {
 public:
  explicit GatedOrigin(Origin& origin) : origin_(origin) {}
  [[nodiscard]] const std::string& name() const override { return origin_.name(); }
  [[nodiscard]] const std::string& root() const override { return origin_.root(); }
  Status walk(const Principal& as, const std::string& dataset, const Patterns& exclude, EntrySink& sink,
              std::stop_token stop) override {
    return origin_.walk(as, dataset, exclude, sink, std::move(stop));
  }
  Status check_access(const Principal& as, const std::string& dataset, std::chrono::milliseconds limit) override {
    return origin_.check_access(as, dataset, limit);
  }
  Result<std::unique_ptr<OriginFile>> open(const std::string& path, const EntryAttributes& expected) override {
    auto file = origin_.open(path, expected);
    if (!file) return file;
    return std::make_unique<File>(*this, std::move(*file));
  }
  Result<FileMeta> meta_of(const std::string& path, const EntryAttributes& expected) override {
    return origin_.meta_of(path, expected);
  }
  Result<UniqueFd> open_live(const std::string& path, int flags) override { return origin_.open_live(path, flags); }
  void count(Bytes read) override { origin_.count(read); }
  void run(const Principal& as, Urgency urgency, std::function<void(Status)> task) override {
    origin_.run(as, urgency, std::move(task));
  }
  void run_for(const std::string& path, const Principal& as, Urgency urgency,
               std::function<void(Status)> task) override {
    origin_.run_for(path, as, urgency, std::move(task));
  }
  [[nodiscard]] OriginCounters counters() const override { return origin_.counters(); }

  std::promise<void> gate;
  std::atomic<int> reading = 0;

 private:
  class File final : public OriginFile {
   public:
    File(GatedOrigin& home, std::unique_ptr<OriginFile> file) : home_(home), file_(std::move(file)) {}
    Result<Piece> read(Bytes offset, std::span<std::byte> into) override {
      ++home_.reading;
      home_.opened_.wait();
      return file_->read(offset, into);
    }
    void expect_pieces() override { file_->expect_pieces(); }
    void expect_no_second_read() override { file_->expect_no_second_read(); }
    Result<FileMeta> meta() override { return file_->meta(); }

   private:
    GatedOrigin& home_;
    std::unique_ptr<OriginFile> file_;
  };
  Origin& origin_;
  std::shared_future<void> opened_ = gate.get_future().share();
};

class SharedCost : public Limits {
 protected:
  /// May read a block, and then none for half a minute.
  static IoBudget next_to_nothing(std::uint32_t uid) {
    return {LimitKind::user, std::to_string(uid), uid, {1, kNoRate}, kDefaultBurst, 0};
  }
  [[nodiscard]] bool has_read(NodeParts& node, std::uint64_t mebibytes) {
    return test::eventually([&] { return node.origin.counters().bytes >= mebibytes * kMiB.count; });
  }
  [[nodiscard]] bool waits(std::uint32_t uid) {
    return test::eventually([&] {
      const auto demands = governor.demands();
      return std::any_of(demands.begin(), demands.end(),
                         [&](const IoDemand& demand) { return demand.flow.uid == uid && demand.waiting != 0; });
    });
  }
  [[nodiscard]] static bool is_over(NodeParts& node) {
    return test::eventually([&] { return node.fetcher->in_flight() == 0; });
  }
  NodeParts::Options noted() {
    auto out = limited();
    out.governor = &payments;
    return out;
  }
  [[nodiscard]] Waiter warm(NodeParts& node, const std::shared_ptr<Replica>& replica, std::uint32_t uid,
                            std::uint32_t job, std::promise<Status>& done) {
    return read(node, replica, uid, job, 0, done, Bytes{kMebibytes * kMiB.count}, Urgency::warm_queued);
  }
  static constexpr std::uint64_t kMebibytes = 12;
  Payments payments{governor};
};

TEST_F(SharedCost, WhoHasGoneAwayPaysForNoPieceThatComesLater) {
  big_file(kMebibytes);
  governor.set_budgets({next_to_nothing(kAlice), next_to_nothing(kBob)}, 1);
  NodeParts node(noted());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  std::promise<Status> hers, his;
  auto one = warm(node, replica, kAlice, kAlicesJob, hers);
  ASSERT_TRUE(has_read(node, 1));
  ASSERT_TRUE(waits(kAlice));
  const auto two = warm(node, replica, kBob, kBobsJob, his);  // he may, and then neither of them
  ASSERT_TRUE(has_read(node, 2));
  ASSERT_TRUE(waits(kBob));
  one.cancel();
  governor.set_budgets({next_to_nothing(kBob)}, 1);  // she could pay now, but wants nothing
  ASSERT_TRUE(waits(kBob));
  EXPECT_LE(node.origin.counters().bytes, 3 * kMiB.count) << "what she had bid for came; then he waits for himself";
  governor.set_budgets({}, 1);
  EXPECT_EQ(why(his), "");
  ASSERT_TRUE(is_over(node));
  EXPECT_EQ(payments.paid(kAlice), kMiB.count + kMiB.count / 2) << "one alone, and half of one";
  EXPECT_EQ(payments.paid(kBob), (kMebibytes - 1) * kMiB.count - kMiB.count / 2);
}

TEST_F(SharedCost, WhoLedAndComesBackBidsAgain) {
  big_file(kMebibytes);
  governor.set_budgets({next_to_nothing(kAlice), next_to_nothing(kBob)}, 1);
  NodeParts node(noted());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  std::promise<Status> first, his, again;
  auto one = warm(node, replica, kAlice, kAlicesJob, first);
  ASSERT_TRUE(has_read(node, 1));
  ASSERT_TRUE(waits(kAlice));
  const auto two = warm(node, replica, kBob, kBobsJob, his);
  ASSERT_TRUE(has_read(node, 2));
  ASSERT_TRUE(waits(kBob));
  one.cancel();
  governor.set_budgets({next_to_nothing(kBob)}, 1);
  ASSERT_TRUE(has_read(node, 3));
  ASSERT_TRUE(waits(kBob));
  const auto began = std::chrono::steady_clock::now();
  const auto three = warm(node, replica, kAlice, kAlicesJob, again);
  EXPECT_EQ(why(again), "");
  EXPECT_EQ(why(his), "");
  EXPECT_LT(std::chrono::steady_clock::now() - began, TokenBucket::kLongestDebt * 2) << "she may";
  ASSERT_TRUE(is_over(node));
  EXPECT_EQ(payments.paid(kAlice) + payments.paid(kBob), kMebibytes * kMiB.count);
}

TEST_F(SharedCost, APieceThatAWarmUpAndAReaderWaitForIsPaidForOnce) {
  big_file(kMebibytes);
  NodeParts node(noted());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  GatedOrigin origin(node.origin);
  auto gated = std::make_unique<Fetcher>(std::vector<Origin*>{&origin}, payments, node.writers, FetcherOptions{});
  node.fetcher.swap(gated);
  std::promise<Status> hers, his, carols;
  const auto one = warm(node, replica, kAlice, kAlicesJob, hers);
  const auto two = warm(node, replica, kBob, kBobsJob, his);
  while (origin.reading == 0) std::this_thread::yield();
  const auto three = read(node, replica, kCarol, kCarolsJob, 0, carols);
  origin.gate.set_value();
  EXPECT_EQ(why(hers) + why(his) + why(carols), "");
  ASSERT_TRUE(is_over(node));
  node.fetcher.swap(gated);
  const auto third = static_cast<double>(4 * kMiB.count) / 3, rest = static_cast<double>(8 * kMiB.count) / 2;
  EXPECT_NEAR(static_cast<double>(payments.paid(kCarol)), third, 1) << "of the piece that she waited for";
  EXPECT_NEAR(static_cast<double>(payments.paid(kAlice)), third + rest, 3);
  EXPECT_NEAR(static_cast<double>(payments.paid(kBob)), third + rest, 3);
  EXPECT_EQ(payments.paid(kAlice) + payments.paid(kBob) + payments.paid(kCarol), kMebibytes * kMiB.count);
}

TEST_F(SharedCost, AReadForWhichThereIsNoMemoryFailsAlone) {
  big_file(kMebibytes);
  NodeParts node(limited());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  const auto pass = [&](Bytes length) {
    FetchRequest request;
    request.into = replica;
    request.want = {*replica->manifest().value()->find("big"), Bytes{}, length};
    request.as = user(kAlice);
    request.payer.job_id = kAlicesJob;
    request.urgency = Urgency::fault;
    std::promise<Status> done;
    const auto waiter = node.fetcher->read_through(
        std::move(request), [&](const auto& bytes) { done.set_value(bytes ? Status() : Status(fail(bytes.error()))); });
    return why(done);
  };
  too_large = kMebibytes * kMiB.count;
  EXPECT_NE(pass(Bytes{kMebibytes * kMiB.count}), "");
  EXPECT_EQ(pass(kMiB), "") << "who asks for less, or later, gets it";
  too_large = SIZE_MAX;
  EXPECT_EQ(pass(Bytes{kMebibytes * kMiB.count}), "");
}

}  // namespace
}  // namespace atlas::agent
