#include "tests/support/limit_loop.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <random>

#include "cache-agent/limit/limit_governor.h"
#include "controller/limits/sharing.h"
#include "tests/support/event_clock.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;
using agent::LimitGovernor;
using std::chrono::milliseconds;

class Loop {
 public:
  explicit Loop(const LoopOptions& options) : options_(options), random_(options.seed) {
    result_.read.assign(options.users.size(),
                        std::vector<double>(static_cast<std::size_t>(options.length / LoopResult::kBin)));
    for (std::uint32_t n = 0; n < options.nodes; ++n) {
      auto& node = *nodes_.emplace_back(std::make_unique<Node>());
      node.name = "n" + std::to_string(n);
      node.governor = std::make_unique<LimitGovernor>(node.name, events_, events_);
      node.governor->set_connected(true);
      node.governor->on_newcomer([this, &node] { events_.post([this, &node] { report(node); }); });
      events_.at(start_ + milliseconds(random_() % 1000), [this, &node] { beat(node); });
    }
    std::vector<IoBudget> budgets{{LimitKind::origin, "lustre", 0, {options.capacity, kNoRate}, kDefaultBurst, 0}};
    for (std::uint32_t u = 0; u < options.users.size(); ++u) {
      const auto& user = options.users[u];
      if (!is_unlimited(user.limit) || user.weight > 0)
        budgets.push_back(
            {LimitKind::user, "u" + std::to_string(u), u, {user.limit, kNoRate}, kDefaultBurst, user.weight});
    }
    sharing_.set_budgets(budgets);
    for (const auto& node : nodes_) node->governor->set_budgets(budgets, options.nodes);
    for (std::uint32_t u = 0; u < options.users.size(); ++u)
      for (const auto& [from, until] : options.users[u].active)
        for (const auto n : options.users[u].nodes)
          for (unsigned p = 0; p < options.users[u].processes; ++p)
            events_.at(start_ + from, [this, u, n, end = until] { read(u, n, end); });
    for (const auto& [from, until] : options.away) {
      const auto connected = [this](bool is) {
        for (const auto& node : nodes_) node->governor->set_connected(is);
      };
      events_.at(start_ + from, [connected] { connected(false); });
      events_.at(start_ + until, [connected] { connected(true); });
    }
    tick();
  }
  LoopResult run() {
    events_.run_until(start_ + options_.length);
    return std::move(result_);
  }

 private:
  struct Node {
    std::string name;
    std::unique_ptr<LimitGovernor> governor;
    std::uint64_t seen = 0;
    SteadyTime up{}, down{};  ///< when the last message each way arrives
  };

  [[nodiscard]] milliseconds since() const { return std::chrono::duration_cast<milliseconds>(events_.now() - start_); }
  [[nodiscard]] bool away() const {
    return std::any_of(options_.away.begin(), options_.away.end(),
                       [&](const auto& span) { return since() >= span.first && since() < span.second; });
  }
  [[nodiscard]] SteadyTime arrival(SteadyTime& last) {
    const auto jitter = options_.jitter.count();
    const auto off =
        jitter == 0 ? 0 : static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(2 * jitter)) - jitter;
    return last = std::max(last, events_.now() + options_.delay + milliseconds(off));
  }

  void read(std::uint32_t user, std::uint32_t n, milliseconds end) {
    if (since() >= end) return;
    auto& governor = *nodes_[n]->governor;
    const agent::Charge charge{
        "lustre", user, user, user + 1, agent::Urgency::fault, Bytes{static_cast<std::uint64_t>(options_.piece)}, 3};
    waiting_.push_back(governor.admit(charge, [this, user, n, end](agent::Grant grant) {
      const auto bin = static_cast<std::size_t>(since() / LoopResult::kBin);
      if (bin < result_.read[user].size())
        result_.read[user][bin] += options_.piece / std::chrono::duration<double>(LoopResult::kBin).count();
      events_.at(events_.now() + options_.latency, [this, user, n, end, grant] {
        nodes_[n]->governor->settle(grant, grant.bytes, grant.operations);
        events_.at(events_.now() + options_.users[user].think, [this, user, n, end] { read(user, n, end); });
      });
    }));
    if (waiting_.size() > 4096) waiting_.erase(waiting_.begin(), waiting_.begin() + 2048);
  }

  void beat(Node& node) {
    report(node);
    events_.at(events_.now() + 1s, [this, &node] { beat(node); });
  }
  void report(Node& node) {
    if (away()) return;
    events_.at(arrival(node.up), [this, name = node.name, seen = node.seen, demands = node.governor->demands()] {
      sharing_.report(name, seen, demands, events_.now());
      tick();
    });
  }
  void tick() {
    if (sharing_.due() == SteadyTime::max()) return;
    if (sharing_.due() > events_.now()) {
      if (sharing_.due() < timer_at_ || timer_at_ <= events_.now()) {
        timer_at_ = sharing_.due();
        timer_ = events_.post_at(timer_at_, [this] { tick(); });
      }
      return;
    }
    const auto messages = sharing_.divide(events_.now());
    if (!away()) {
      for (const auto& node : nodes_) {
        const auto it = messages.find(node->name);
        if (it == messages.end()) continue;
        events_.at(arrival(node->down), [&node = *node, message = it->second] {
          node.seen = message.number;
          node.governor->set_shares(message.shares);
        });
      }
    }
    tick();
  }

  const LoopOptions& options_;
  std::mt19937 random_;
  EventClock events_;
  const SteadyTime start_ = events_.now();
  Sharing sharing_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<agent::Ticket> waiting_;
  agent::TimerHandle timer_;
  SteadyTime timer_at_{};
  LoopResult result_;
};

}  // namespace

double LoopResult::total(std::size_t bin) const {
  double sum = 0;
  for (const auto& user : read) sum += user[bin];
  return sum;
}

double LoopResult::mean(int user, milliseconds from, milliseconds until) const {
  double sum = 0;
  const auto begin = static_cast<std::size_t>(from / kBin), end = static_cast<std::size_t>(until / kBin);
  for (auto bin = begin; bin < end; ++bin) sum += user < 0 ? total(bin) : read[static_cast<std::size_t>(user)][bin];
  return sum / static_cast<double>(end - begin);
}

double LoopResult::highest(milliseconds window) const {
  double most = 0;
  const auto bins = static_cast<std::size_t>(window / kBin);
  for (std::size_t bin = 0; !read.empty() && bin + bins <= read[0].size(); ++bin)
    most = std::max(most, mean(-1, kBin * static_cast<int>(bin), kBin * static_cast<int>(bin + bins)));
  return most;
}

LoopResult run_limit_loop(const LoopOptions& options) {
  return Loop(options).run();
}

}  // namespace atlas
