// What was settled about a dataset, on a node: how old a walk may be, what is left out, how much is kept, who may read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "cache-agent/jobs/job_table.h"
#include "tests/support/origin_on_node.h"
#include "tests/support/own_mounts.h"
#include "tests/support/slow_origin_process.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const DatasetId kDataset{"o", "ds"};

class Policy : public OriginOnNode {
 protected:
  void SetUp() override {
    OriginOnNode::SetUp();
    if (IsSkipped()) return;
    directory("ds", kAlice, 0755);
    file("ds/a", "old a");
    file("ds/b", "old b");
  }
  static DatasetPolicy policy(std::string_view text) {
    auto decoded = decode_policy(text);
    EXPECT_TRUE(decoded) << decoded.error().message;
    return decoded.value_or(DatasetPolicy{});
  }
  /// What a job of this user, submitted just now, would be shown.
  static GenerationId seen_by(NodeParts& node, std::uint32_t uid, bool keep = false) {
    const auto seen = node.engine->observe(kDataset, user(uid), node.clock.now() + 20s, {node.clock.now(), keep});
    EXPECT_TRUE(seen) << seen.error().message;
    return seen ? seen->generation : GenerationId{};
  }
  static std::uint64_t operations(const NodeParts& node) { return node.origin.counters().operations; }
  static std::future<Result<WarmProgress>> warm(NodeParts& node, const Selection& only, std::uint32_t uid = kAlice) {
    WarmRequest request{kDataset, user(uid), {"test", 1, 0, {}}, {}, true};
    request.only = only;
    return node.start(request);
  }
};

TEST_F(Policy, AJobSubmittedAfterAChangeSeesItThoughTheLastWalkIsYoung) {
  NodeParts node(options());
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old) << old.error().message;
  const auto before_change = node.clock.now();
  file("ds/a", "new a, longer");
  EXPECT_EQ(node.engine->observe(kDataset, user(kAlice), node.clock.now() + 20s)->generation, old->generation.id)
      << "whoever had asked before the walk is content with it";
  const auto fresh = seen_by(node, kAlice);
  EXPECT_NE(fresh, old->generation.id);
  const auto walked = operations(node);
  EXPECT_EQ(node.engine->observe(kDataset, user(kAlice), node.clock.now() + 20s, {before_change})->generation, fresh);
  EXPECT_EQ(operations(node), walked) << "one walk serves all who asked before it began";
}

TEST_F(Policy, ATreeThatTakesLongToWalkIsNotWalkedForEachJob) {
  auto o = options();
  o.brief_walk = -1ms;  // every walk takes longer
  NodeParts node(o);
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old);
  file("ds/a", "new a, longer");
  EXPECT_EQ(seen_by(node, kAlice), old->generation.id);
  node.engine->learn(kDataset, policy("r=always"));
  EXPECT_NE(seen_by(node, kAlice), old->generation.id);
}

TEST_F(Policy, WhatIsCompleteIsShownAsOfTheLastMinuteWhenTheOriginHangs) {
  std::filesystem::create_directory(temp_.path("mnt"));
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  auto o = options();
  o.origin = temp_.path("mnt");
  o.brief_walk = 200ms;
  NodeParts node(o);
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old) << old.error().message;
  file("ds/a", "new a, longer");
  slow.tell({"hang"});
  WarmRequest request{kDataset, user(kAlice), {"test", 2, 0, {}}, {}, false};
  request.asked.when = node.clock.now();  // submitted after the last walk
  const auto waited = node.start(request).get();
  ASSERT_TRUE(waited) << waited.error().message;
  EXPECT_EQ(waited->generation.id, old->generation.id);
  EXPECT_EQ(seen_by(node, kAlice), old->generation.id) << "and so does its attach";
  node.engine->learn(kDataset, policy("r=always"));
  auto strict = node.start(request);
  EXPECT_EQ(strict.wait_for(1s), std::future_status::timeout) << "always means that the origin is asked";
  slow.tell({"resume"});
  const auto fresh = strict.get();
  ASSERT_TRUE(fresh) << fresh.error().message;
  EXPECT_NE(fresh->generation.id, old->generation.id);
}

TEST_F(Policy, AWalkUnderWayWhenTheExcludesChangeIsBegunAnew) {
  file("ds/scratch.tmp", "not wanted");
  std::filesystem::create_directory(temp_.path("mnt"));
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  auto o = options();
  o.origin = temp_.path("mnt");
  NodeParts node(o);
  slow.tell({"hang"});
  auto warming = node.start({kDataset, user(kAlice), {"test", 1, 0, {}}, {}, false});
  while (slow.hanging() == 0) std::this_thread::sleep_for(1ms);
  node.engine->learn(kDataset, policy("x=%2A.tmp"));
  slow.tell({"resume"});
  const auto done = warming.get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->files_total, 2U);
}

TEST_F(Policy, ATtlRulesWhoeverSubmittedWhat) {
  NodeParts node(options());
  node.engine->learn(kDataset, policy("r=ttl@3600000"));
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old);
  file("ds/a", "new a, longer");
  EXPECT_EQ(seen_by(node, kAlice), old->generation.id);
  node.engine->learn(kDataset, policy("r=ttl@0"));
  EXPECT_NE(seen_by(node, kAlice), old->generation.id);
}

TEST_F(Policy, NeverShowsOldDataWithoutAWalkAndOnlyToWhoWasShownItByOne) {
  const auto o = options();
  GenerationId old;
  {
    NodeParts node(o);
    const auto done = node.warm("ds", user(kAlice));
    ASSERT_TRUE(done);
    old = done->generation.id;
    node.engine->learn(kDataset, policy("r=never"));
  }
  file("ds/a", "new a, longer");
  file("ds/secret", "not for bob", kAlice, 0600);
  NodeParts node(o);  // and all of it is remembered over a restart
  EXPECT_EQ(seen_by(node, kAlice), old);
  EXPECT_EQ(operations(node), 0U);
  EXPECT_NE(seen_by(node, kBob), old) << "bob's right to the old version was never shown";
  EXPECT_GT(operations(node), 0U);
}

TEST_F(Policy, KeepIsContentWithAnOlderCompleteVersion) {
  NodeParts node(options());
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old);
  file("ds/a", "new a, longer");
  const auto walked = operations(node);
  EXPECT_EQ(seen_by(node, kAlice, true), old->generation.id);
  EXPECT_EQ(operations(node), walked);
  EXPECT_NE(seen_by(node, kAlice), old->generation.id);
}

TEST_F(Policy, WhatIsExcludedMakesNoGenerationAndNeedsNoCache) {
  directory("ds/checkpoints", kAlice, 0755);
  file("ds/checkpoints/one", random_bytes(1 << 20, 1));
  file("ds/scratch.tmp", random_bytes(1 << 20, 2));
  NodeParts node(options());
  node.engine->learn(kDataset, policy("x=checkpoints/,x=%2A.tmp"));
  const auto first = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->bytes_total, Bytes{10});
  const auto replica = node.replica("ds", *first);
  EXPECT_THAT(replica->summary().windows, ElementsAre("checkpoints"));
  const Principal alice = user(kAlice);
  const auto lines = through(*replica, &alice);
  EXPECT_THAT(lines, Not(Contains(HasSubstr("scratch.tmp"))));
  EXPECT_THAT(lines, Contains(HasSubstr("checkpoints"))) << "there is a place to show the origin's own";

  file("ds/checkpoints/two", random_bytes(1 << 20, 3));
  std::filesystem::remove(origin("ds/checkpoints/one"));
  file("ds/other.tmp", "x");
  std::filesystem::remove(origin("ds/scratch.tmp"));
  EXPECT_EQ(node.warm("ds", user(kAlice), true)->generation.id, first->generation.id);
  file("ds/c", "counts");
  EXPECT_NE(node.warm("ds", user(kAlice), true)->generation.id, first->generation.id);
}

TEST_F(Policy, TheWindowsOfAReplicaAreKnownAfterARestart) {
  directory("ds/checkpoints", kAlice, 0755);
  const auto o = options();
  {
    NodeParts node(o);
    node.engine->learn(kDataset, policy("x=checkpoints/"));
    ASSERT_TRUE(node.warm("ds", user(kAlice)));
  }
  NodeParts node(o);
  const auto replica = node.store->newest_complete(kDataset);
  ASSERT_TRUE(replica);
  EXPECT_THAT(replica->summary().windows, ElementsAre("checkpoints"));
  EXPECT_EQ(node.store->info(*replica).generation.owner, kAlice);
}

TEST_F(Policy, WhatChangedAMomentAgoIsCopiedOnlyForWhoAsksForIt) {
  auto o = options();
  o.settle = 1h;
  NodeParts node(o);
  WarmRequest quiet{kDataset, user(kAlice), {"test", 1, 0, {}}, {}, true};
  quiet.settled_only = true;
  const auto first = node.start(quiet).get();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->skipped, 0U) << "what is seen for the first time is copied whole";

  file("ds/a", "checkpoint");
  const auto before = node.origin.counters().bytes;
  const auto second = node.start(quiet).get();
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->skipped, 1U);
  EXPECT_EQ(node.origin.counters().bytes, before);
  const auto replica = node.replica("ds", *second);
  EXPECT_EQ(replica->state(), ReplicaState::partial);
  ASSERT_TRUE(node.engine->open_partial(kDataset, user(kAlice), {}, node.clock.now() + 20s));
  const auto manifest = replica->manifest();
  EXPECT_FALSE(replica->keeps((*manifest)->at(*(*manifest)->find("a")).attributes));

  const auto asked_for = node.warm("ds", user(kAlice), true);
  ASSERT_TRUE(asked_for);
  EXPECT_EQ(asked_for->skipped, 0U);
  EXPECT_EQ(node.replica("ds", *asked_for)->state(), ReplicaState::complete);
}

TEST_F(Policy, APartIsWarmedWhenAPartIsAskedFor) {
  directory("ds/train", kAlice, 0755);
  file("ds/train/x.wav", random_bytes(100'000, 1));
  file("ds/train/x.txt", random_bytes(1000, 2));
  NodeParts node(options());
  const auto names = warm(node, {{}, {}, true}).get();
  ASSERT_TRUE(names) << names.error().message;
  EXPECT_EQ(names->skipped, 4U);
  EXPECT_EQ(node.origin.counters().bytes, 0U);

  const auto none = warm(node, {{"*.flac"}, {"/ds/b"}, false}).get();
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, HasSubstr("no file of o:ds is meant by"));

  const auto some = warm(node, {{"*.wav"}, {"b"}, false}).get();
  ASSERT_TRUE(some) << some.error().message;
  EXPECT_EQ(some->skipped, 2U);
  EXPECT_EQ(node.origin.counters().bytes, 100'005U);
  EXPECT_EQ(node.replica("ds", *some)->state(), ReplicaState::partial);

  const auto rest = warm(node, {{"train/"}, {"a"}, false}).get();
  ASSERT_TRUE(rest) << rest.error().message;
  EXPECT_EQ(rest->skipped, 0U);
  EXPECT_EQ(node.replica("ds", *rest)->state(), ReplicaState::complete) << "all parts are a whole";
}

TEST_F(Policy, ADatasetGoesToTheTierThatWasSettledForIt) {
  auto o = options();
  o.tiers.push_back({"ssd", temp_.path("ssd"), kGiB});
  NodeParts node(o);
  node.engine->learn(kDataset, policy("m=ssd"));
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done);
  EXPECT_EQ(node.replica("ds", *done)->tier(), "ssd");
}

TEST_F(Policy, ANodeKeepsNoMoreOfItThanWasSettled) {
  file("ds/large", random_bytes(3 << 20, 1));
  NodeParts node(options());
  node.engine->learn(kDataset, policy("c=2097152"));
  const auto refused = node.warm("ds", user(kAlice));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::resource_exhausted);
  EXPECT_THAT(refused.error().message, HasSubstr("settings allow 2M"));
  auto view = node.engine->open_partial(kDataset, user(kAlice), {}, node.clock.now() + 20s);
  ASSERT_TRUE(view) << view.error().message;
  const auto manifest = (*view)->manifest().value();
  const FileIndex large = manifest->find("large").value();
  EXPECT_FALSE((*view)->has_room_for(*manifest, {large, {}, Bytes{3 << 20}}));
  EXPECT_TRUE((*view)->has_room_for(*manifest, {large, {}, kMiB}));

  view->reset();
  node.engine->learn(kDataset, policy("c=4194304"));
  ASSERT_TRUE(node.warm("ds", user(kAlice), true));
  file("ds/large", random_bytes(3 << 20, 2));
  ASSERT_TRUE(node.warm("ds", user(kAlice), true));
  EXPECT_EQ(node.store->replicas_of(kDataset).size(), 1U) << "the older generation leaves its room to the new one";
}

class Shared : public Policy {
 protected:
  static constexpr std::uint32_t kTeam = 40001;
  void SetUp() override {
    Policy::SetUp();
    if (IsSkipped()) return;
    static const bool own = testing::own_mounts();  // in a chroot the kernel allows no user namespaces
    ASSERT_TRUE(own);
    directory("ds", kAlice, 0700);
    file("ds/a", "of alice", kAlice, 0600);
    node_ = std::make_unique<NodeParts>(options());
    ASSERT_TRUE(node_->warm("ds", user(kAlice)));
    table_ = std::make_unique<JobTable>(*node_->store, nullptr,
                                        std::map<std::string, JobTable::OriginPlace>{{"o", {origin(), false}}});
    table_->look_first(*node_->engine, node_->clock);
  }
  static Principal member(std::uint32_t uid) { return {uid, uid, {uid, kTeam}}; }
  view::PlannedView view_for(const Principal& as, const std::string& settings, std::uint32_t job = 7,
                             OnChange on_change = OnChange::refresh) {
    JobOrder order{{"test", job, 0, {}}, as, {{kDataset, {}, policy(settings), node_->clock.now()}}, "", {}};
    order.on_change = on_change;
    EXPECT_TRUE(table_->plan(order));
    auto views = table_->views_of(job, as, node_->clock.now() + 20s);
    EXPECT_TRUE(views) << views.error().message;
    return views ? views->views.at(0) : view::PlannedView{};
  }
  static std::string grant() {
    return "g=" + std::to_string(kTeam) + "@" + std::to_string(kAlice) + "@" + std::to_string(kAlice);
  }
  /// What a user reads of a file in a mount.
  static std::string read_as(const Principal& as, const UniqueFd& mount, const std::string& name) {
    std::string text;
    as_user(as, [&] {
      std::ifstream in("/proc/self/fd/" + std::to_string(mount.get()) + "/" + name);
      std::getline(in, text);
    });
    return text;
  }
  std::unique_ptr<NodeParts> node_;
  std::unique_ptr<JobTable> table_;
};

TEST_F(Shared, AMemberOfTheGroupReadsWhatTheOwnersWalkHasShown) {
  const auto view = view_for(member(kBob), grant());
  ASSERT_TRUE(view.mount) << view.reason;
  EXPECT_TRUE(view.granted);
  const auto mount = view.mount();
  ASSERT_TRUE(mount) << mount.error().message;
  EXPECT_EQ(read_as(member(kBob), *mount, "a"), "of alice");
  EXPECT_EQ(read_as(user(kCarol), *mount, "a"), "") << "the mount is his, not everybody's";
}

TEST_F(Shared, WhoIsNoMemberOrWasUnsharedIsRefused) {
  EXPECT_FALSE(view_for(user(kBob), grant(), 1).mount);
  EXPECT_FALSE(view_for(member(kBob), "", 2).mount);
  EXPECT_TRUE(view_for(member(kBob), grant(), 3).mount);
  const auto after = view_for(member(kBob), "", 4);
  EXPECT_FALSE(after.mount) << "the grant was taken back";
  EXPECT_THAT(after.reason, HasSubstr("may not"));
}

TEST_F(Shared, WhatTheOwnerHasNowMustBeHereCompletely) {
  file("ds/b", "a change", kAlice, 0600);
  const auto view = view_for(member(kBob), grant());
  EXPECT_FALSE(view.mount);
  EXPECT_THAT(view.reason, HasSubstr("shared with you, but not all"));
  ASSERT_TRUE(node_->warm("ds", user(kAlice), true));
  EXPECT_TRUE(view_for(member(kBob), grant(), 8).mount);
}

TEST_F(Shared, NobodyKeepsReadingWhatTheOwnerHasRemovedByAskingForAnOlderVersion) {
  std::filesystem::remove(origin("ds/a"));
  EXPECT_FALSE(view_for(member(kBob), grant(), 7, OnChange::keep).mount);
  EXPECT_TRUE(view_for(user(kAlice), grant(), 8, OnChange::keep).mount) << "the owner may keep his own";
}

TEST_F(Shared, AMembersWarmUpFindsTheOwnersReplicaAndMakesNone) {
  node_->engine->learn(kDataset, policy(grant()));
  const auto before = node_->origin.counters().bytes;
  const auto found = node_->warm("ds", member(kBob));
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(node_->origin.counters().bytes, before);
  file("ds/b", "a change", kAlice, 0600);
  const auto missing =
      node_->start({kDataset, member(kBob), {"test", 1, 0, {}}, {}, false, {node_->clock.now()}}).get();
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("the owner can warm it"));
}

TEST_F(Shared, WhatIsSharedAndNeverWalkedAgainIsKnownToBeThere) {
  node_->engine->learn(kDataset, policy("r=never," + grant()));
  const auto found = node_->warm("ds", member(kBob));
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_NE(found->generation.observed, WallTime{}) << "a controller would show it as not known yet";
}

TEST_F(Shared, AMemberWhoseOwnRightsShowHimMoreGoesByThem) {
  directory("ds", kAlice, 0755);
  file("ds/a", "of alice", kAlice, 0644);
  file("ds/bobs", "of bob", kBob, 0600);
  ASSERT_TRUE(node_->warm("ds", user(kAlice), true));
  ASSERT_TRUE(node_->warm("ds", member(kBob), true));
  const auto view = view_for(member(kBob), grant());
  ASSERT_TRUE(view.mount) << view.reason;
  EXPECT_FALSE(view.granted);
  const auto mount = view.mount();
  ASSERT_TRUE(mount) << mount.error().message;
  EXPECT_EQ(read_as(member(kBob), *mount, "bobs"), "of bob");
  EXPECT_EQ(read_as(member(kBob), *mount, "a"), "of alice");
}

TEST_F(Shared, TheOwnersOwnReplicaStaysClosedToOthersWithoutAGrant) {
  EXPECT_THAT(view_for(user(kCarol), "").reason, HasSubstr("may not"));
}

class OnChangeFail : public Shared {};

TEST_F(OnChangeFail, AJobIsRefusedWhenItsDataIsNotWhatItWasAtSubmit) {
  const auto planned = node_->store->newest_complete(kDataset)->generation();
  JobOrder order{{"test", 7, 0, {}}, user(kAlice), {{kDataset, planned, {}, node_->clock.now()}}, "", {}};
  order.on_change = OnChange::fail;
  ASSERT_TRUE(table_->plan(order));
  EXPECT_EQ(table_->views_of(7, user(kAlice), node_->clock.now() + 20s)->refused, "");

  order.job.job_id = 8;
  order.datasets[0].generation = {};
  file("ds/b", "changed", kAlice, 0600);
  order.datasets[0].asked = node_->clock.now();
  ASSERT_TRUE(table_->plan(order));
  EXPECT_EQ(table_->views_of(8, user(kAlice), node_->clock.now() + 20s)->refused, "") << "nobody could look at submit";

  order.job.job_id = 9;
  order.datasets[0].generation = planned;
  file("ds/a", "changed", kAlice, 0600);
  order.datasets[0].asked = node_->clock.now();
  ASSERT_TRUE(table_->plan(order));
  const auto changed = table_->views_of(9, user(kAlice), node_->clock.now() + 20s);
  ASSERT_TRUE(changed);
  EXPECT_THAT(changed->refused, HasSubstr("has changed at the origin since the job was submitted"));
  EXPECT_FALSE(changed->views.at(0).mount);
  EXPECT_NE(table_->views_of(9, user(kAlice), node_->clock.now() + 20s)->refused, "") << "its later steps, too";
}

TEST_F(OnChangeFail, AJobThatHasStartedIsNeverRefusedNotEvenByANewAgent) {
  const auto planned = node_->store->newest_complete(kDataset)->generation();
  JobOrder order{{"test", 7, 0, {}}, user(kAlice), {{kDataset, planned, {}, node_->clock.now()}}, "", {}};
  order.on_change = OnChange::fail;
  ASSERT_TRUE(table_->plan(order));
  ASSERT_EQ(table_->views_of(7, user(kAlice), node_->clock.now() + 20s)->refused, "");
  file("ds/a", "changed", kAlice, 0600);
  ASSERT_TRUE(node_->warm("ds", user(kAlice), true));
  JobTable after(*node_->store, nullptr, {{"o", {origin(), false}}});
  after.look_first(*node_->engine, node_->clock);
  ASSERT_TRUE(after.recover());
  EXPECT_EQ(after.views_of(7, user(kAlice), node_->clock.now() + 20s)->refused, "");
}

TEST_F(OnChangeFail, AJobIsRefusedAlsoWhereItReadsByItsOwnersLeave) {
  directory("ds", kAlice, 0755);
  file("ds/a", "for all", kAlice, 0644);
  ASSERT_TRUE(node_->warm("ds", user(kAlice), true));
  const auto planned = node_->engine->observe(kDataset, member(kBob), node_->clock.now() + 20s, {node_->clock.now()});
  ASSERT_TRUE(planned) << planned.error().message;
  file("ds/a", "changed", kAlice, 0644);
  ASSERT_TRUE(node_->warm("ds", user(kAlice), true));
  JobOrder order{
      {"test", 7, 0, {}}, member(kBob), {{kDataset, planned->generation, policy(grant()), node_->clock.now()}}, "", {}};
  order.on_change = OnChange::fail;
  ASSERT_TRUE(table_->plan(order));
  EXPECT_NE(table_->views_of(7, member(kBob), node_->clock.now() + 20s)->refused, "");
}

TEST_F(Policy, KeepDoesNotMakeAnOldVersionTheNewest) {
  NodeParts node(options());
  const auto old = node.warm("ds", user(kAlice));
  ASSERT_TRUE(old);
  file("ds/a", "new a, longer");
  const auto fresh = node.warm("ds", user(kBob));
  ASSERT_TRUE(fresh);
  ASSERT_NE(fresh->generation.id, old->generation.id);
  JobTable table(*node.store, nullptr, {{"o", {origin(), false}}});
  table.look_first(*node.engine, node.clock);
  JobOrder order{{"test", 7, 0, {}}, user(kAlice), {{kDataset, {}, {}, node.clock.now()}}, "", {}};
  order.on_change = OnChange::keep;
  ASSERT_TRUE(table.plan(order));
  const auto views = table.views_of(7, user(kAlice), node.clock.now() + 20s);
  ASSERT_TRUE(views);
  EXPECT_EQ(views->views.at(0).state, ReplicaState::complete);
  EXPECT_EQ(node.store->newest_complete(kDataset)->generation(), fresh->generation.id);
}

}  // namespace
}  // namespace atlas::agent
