#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cache-agent/limit/limit_governor.h"
#include "tests/support/origin_on_node.h"

namespace atlas::agent {

inline constexpr std::uint32_t kAlicesJob = 11, kBobsJob = 12, kCarolsJob = 13;

/// The reason of a failure; "" = none. Waits for the end.
inline std::string why(std::promise<Status>& done) {
  const Status status = done.get_future().get();
  return status ? "" : status.error().message;
}

/// Notes who has paid what in the end.
class Payments final : public Governor {
 public:
  explicit Payments(Governor& governor) : governor_(governor) {}
  std::optional<Grant> try_admit(const Charge& charge) override {
    auto grant = governor_.try_admit(charge);
    if (grant) note(*grant, charge.uid);
    return grant;
  }
  Ticket admit(const Charge& charge, std::function<void(Grant)> go) override {
    return governor_.admit(charge, [this, uid = charge.uid, go = std::move(go)](Grant grant) {
      note(grant, uid);
      go(grant);
    });
  }
  void charge(const Charge& charge) override {
    governor_.charge(charge);
    const std::lock_guard lock(mutex_);
    paid_[charge.uid] += charge.bytes.count;
  }
  Bytes at_a_time(const Charge& payer, Bytes least, Bytes most) override {
    return governor_.at_a_time(payer, least, most);
  }
  [[nodiscard]] bool parks(std::uint32_t uid, std::uint32_t job_id) const override {
    return governor_.parks(uid, job_id);
  }
  void settle(const Grant& grant, Bytes moved, std::uint32_t operations) override {
    {
      const std::lock_guard lock(mutex_);
      paid_[whose_.at(grant.account)] += moved.count;
    }
    governor_.settle(grant, moved, operations);
  }
  [[nodiscard]] std::uint64_t paid(std::uint32_t uid) {
    const std::lock_guard lock(mutex_);
    return paid_[uid];
  }

 private:
  void note(const Grant& grant, std::uint32_t uid) {
    const std::lock_guard lock(mutex_);
    whose_[grant.account] = uid;
  }
  Governor& governor_;
  std::mutex mutex_;  ///< guards what follows
  std::map<void*, std::uint32_t> whose_;
  std::map<std::uint32_t, std::uint64_t> paid_;
};

/// A node whose governor a test tells what it may.
class Limits : public OriginOnNode {
 protected:
  ~Limits() override { governor.open(); }

  NodeParts::Options limited() {
    auto out = options(Bytes{256 * kMiB.count});
    out.governor = &governor;
    return out;
  }
  void limit(std::uint32_t uid, double bytes, double operations = kNoRate) {
    governor.set_budgets({{LimitKind::user, "someone", uid, {bytes, operations}, kDefaultBurst, 0}}, 1);
  }
  static WarmRequest warm_as(std::uint32_t uid, std::uint32_t job) {
    WarmRequest out{{"o", "ds"}, user(uid), {}, {}, false};
    out.payer.job_id = job;
    return out;
  }
  /// Asks for blocks of the one file, as a reader does or as a warm-up.
  [[nodiscard]] Waiter read(NodeParts& node, const std::shared_ptr<Replica>& replica, std::uint32_t uid,
                            std::uint32_t job, std::uint64_t from, std::promise<Status>& done, Bytes length = kMiB,
                            Urgency urgency = Urgency::fault) {
    FetchRequest request;
    request.into = replica;
    request.want = {*replica->manifest().value()->find("big"), Bytes{from}, length};
    request.as = user(uid);
    request.payer.job_id = job;
    request.urgency = urgency;
    return node.fetcher->fetch(std::move(request), [&done](const Status& status) { done.set_value(status); });
  }
  /// A replica of the dataset with nothing in it but names.
  std::shared_ptr<Replica> empty_replica(NodeParts& node, std::uint32_t uid) {
    auto replica = node.engine->open_partial({"o", "ds"}, user(uid), {}, clock.now() + std::chrono::seconds(20));
    EXPECT_TRUE(replica) << replica.error().message;
    return replica ? *replica : nullptr;
  }
  void big_file(unsigned mebibytes) {
    directory("ds", kAlice, 0755);
    file("ds/big", random_bytes(mebibytes * kMiB.count, 7));
  }

  SystemClock clock;
  ThreadExecutor timers{1};
  LimitGovernor governor{"n1", clock, timers};
};

}  // namespace atlas::agent
