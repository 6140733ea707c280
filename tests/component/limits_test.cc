// Limits where they act: real fetches of real files into a real store, under a governor that is told what it may.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "tests/support/limits_on_node.h"
#include "tests/support/view_job.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

TEST_F(Limits, AWarmUpIsNoFasterThanItsLimit) {
  big_file(16);
  limit(kAlice, 16e6);
  NodeParts node(limited());
  const auto began = std::chrono::steady_clock::now();
  auto running = node.start(warm_as(kAlice, kAlicesJob));
  const auto done = running.get();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->origin_bytes.count, 16 * kMiB.count);
  EXPECT_GE(took.count(), 12 * kMiB.count / 16e6 - 0.1) << "all but the last piece, and a burst";
  const auto throttled = governor.throttled(kAlicesJob);
  EXPECT_GT(throttled.time, 0ms);
  EXPECT_GE(throttled.bytes.count, 4 * kMiB.count);  // a busy machine may be slower than the limit for a piece
  EXPECT_LE(throttled.bytes.count, 12 * kMiB.count);
}

TEST_F(Limits, OperationsAreCountedToo) {
  directory("ds", kAlice, 0755);
  for (int i = 0; i < 60; ++i) file("ds/" + std::to_string(i), "small");
  limit(kAlice, kNoRate, 180);
  NodeParts node(limited());
  const auto began = std::chrono::steady_clock::now();
  const auto done = node.start(warm_as(kAlice, kAlicesJob)).get();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_GE(took.count(), 0.8) << "60 files of 3 operations at 180 a second, and a burst";
}

TEST_F(Limits, WhoWaitsHoldsUpNobodyElse) {
  big_file(64);
  limit(kAlice, 1e3);
  NodeParts node(limited());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  std::vector<std::promise<Status>> slow(40), fast(20);
  std::vector<Waiter> waiters;
  for (unsigned i = 0; i < slow.size(); ++i)
    waiters.push_back(read(node, replica, kAlice, kAlicesJob, i * kMiB.count, slow[i]));
  for (unsigned i = 0; i < fast.size(); ++i)
    waiters.push_back(read(node, replica, kBob, kBobsJob, (40 + i) * kMiB.count, fast[i]));
  for (auto& one : fast) EXPECT_EQ(why(one), "");
  EXPECT_GE(governor.demands().at(0).waiting, 30U) << "all of his are here while nearly all of hers wait";
  EXPECT_EQ(node.fetcher->counters_of_user(kBob).bytes, fast.size() * kMiB.count);
  governor.set_budgets({}, 1);
  for (auto& one : slow) EXPECT_EQ(why(one), "");
}

TEST_F(Limits, ABlockThatSeveralWaitForBeginsWithWhoMayFirstAndEachPaysAPart) {
  big_file(2);
  limit(kAlice, 1e3);
  auto options = limited();
  Payments payments(governor);
  options.governor = &payments;
  NodeParts node(options);
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  std::promise<Status> first, hers, his;
  const auto one = read(node, replica, kAlice, kAlicesJob, 0, first);
  EXPECT_EQ(why(first), "");  // and a thousand seconds of debt
  const auto two = read(node, replica, kAlice, kAlicesJob, kMiB.count, hers);
  const auto three = read(node, replica, kBob, kBobsJob, kMiB.count, his);
  EXPECT_EQ(why(his), "");
  EXPECT_EQ(why(hers), "") << "it came with his";
  EXPECT_EQ(node.origin.counters().bytes, 2 * kMiB.count) << "and only once";
  while (node.fetcher->in_flight() != 0) std::this_thread::yield();
  EXPECT_EQ(payments.paid(kBob), kMiB.count / 2) << "though it began with what he may";
  EXPECT_EQ(payments.paid(kAlice), kMiB.count + kMiB.count / 2);
}

TEST_F(Limits, WhatNobodyWaitsForAnyMoreIsNotRead) {
  big_file(8);
  limit(kAlice, 1e6);
  NodeParts node(limited());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  std::vector<std::promise<Status>> all(6);
  {
    std::vector<Waiter> waiters;
    for (unsigned i = 0; i < all.size(); ++i)
      waiters.push_back(read(node, replica, kAlice, kAlicesJob, i * kMiB.count, all[i]));
    EXPECT_EQ(why(all[0]), "");
  }  // the job was killed
  governor.set_budgets({}, 1);
  while (node.fetcher->in_flight() != 0) std::this_thread::yield();
  EXPECT_EQ(node.origin.counters().bytes, kMiB.count);
  std::promise<Status> again;
  const auto later = read(node, replica, kAlice, kAlicesJob, kMiB.count, again);
  EXPECT_EQ(why(again), "") << "it can be had later";
}

/// Of this process.
std::size_t resident_memory() {
  std::ifstream in("/proc/self/statm");
  std::size_t all = 0, here = 0;
  in >> all >> here;
  return here * 4096;
}

TEST_F(Limits, ManyWhoWaitTakeNoMemoryAndGoAtOnceWhenTheyAreKilled) {
  big_file(2);
  limit(kAlice, 1);
  NodeParts node(limited());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  const auto pass = [&](const Fetcher::GotBytes& done) {
    FetchRequest request;
    request.into = replica;
    request.want = {*replica->manifest().value()->find("big"), Bytes{}, kMiB};
    request.as = user(kAlice);
    request.payer.job_id = kAlicesJob;
    request.urgency = Urgency::fault;
    return node.fetcher->read_through(std::move(request), done);
  };
  std::promise<bool> first;
  const auto one = pass([&](const auto& bytes) { first.set_value(bytes && bytes->size() == kMiB.count); });
  EXPECT_TRUE(first.get_future().get());
  while (node.fetcher->in_flight() != 0) std::this_thread::yield();
  const auto before = resident_memory();
  std::vector<Waiter> waiters;
  for (int i = 0; i < 500; ++i) waiters.push_back(pass([](const auto&) { ADD_FAILURE() << "nobody waits for it"; }));
  EXPECT_EQ(node.fetcher->in_flight(), waiters.size());
  EXPECT_LT(resident_memory(), before + 64 * kMiB.count);
  waiters.clear();  // the next may pass in half a minute, they all in hours
  while (node.fetcher->in_flight() != 0) std::this_thread::yield();
  EXPECT_EQ(node.origin.counters().bytes, kMiB.count);
}

TEST_F(Limits, ALimitOfAByteLetsAJobReadOnSlowly) {
  big_file(1);
  limit(kAlice, 1);
  NodeParts node(limited());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  std::promise<Status> done;
  const auto waiter = read(node, replica, kAlice, kAlicesJob, 0, done);
  EXPECT_EQ(why(done), "");
}

TEST_F(Limits, WhoWaitsForAnothersChunkAndMayPaysForTheRestOfIt) {
  big_file(20);
  limit(kAlice, 1);
  NodeParts node(limited());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  const auto warm = [&](std::uint32_t uid, std::uint32_t job, std::promise<Status>& done) {
    return read(node, replica, uid, job, 0, done, Bytes{20 * kMiB.count}, Urgency::warm_queued);
  };
  std::promise<Status> hers, his;
  const auto one = warm(kAlice, kAlicesJob, hers);
  while (node.origin.counters().bytes < kMiB.count) std::this_thread::yield();
  const auto began = std::chrono::steady_clock::now();
  const auto two = warm(kBob, kBobsJob, his);
  EXPECT_EQ(why(his), "");
  EXPECT_EQ(why(hers), "");
  // Each of the other pieces alone would have taken her half a minute.
  EXPECT_LT(std::chrono::steady_clock::now() - began, TokenBucket::kLongestDebt * 2);
  EXPECT_EQ(node.origin.counters().bytes, 20 * kMiB.count);
}

TEST_F(Limits, AnothersWarmUpOfTheSameDataDoesNotWaitForTheFirstOnesLimit) {
  big_file(40);
  limit(kAlice, 1);
  NodeParts node(limited());
  auto hers = node.start(warm_as(kAlice, kAlicesJob));
  while (node.origin.counters().bytes < kMiB.count) std::this_thread::yield();
  const auto began = std::chrono::steady_clock::now();
  auto his = node.start(warm_as(kBob, kBobsJob));
  const auto done = his.get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->bytes_done.count, 40 * kMiB.count);
  EXPECT_TRUE(hers.get()) << "it came with his";
  // Each of the other pieces alone would have taken her half a minute.
  EXPECT_LT(std::chrono::steady_clock::now() - began, TokenBucket::kLongestDebt * 2);
  EXPECT_EQ(node.origin.counters().bytes, 40 * kMiB.count) << "each byte once";
  EXPECT_EQ(node.store->newest_complete({"o", "ds"})->state(), ReplicaState::complete);
}

TEST_F(Limits, WhoCallsOffHisWarmUpPaysForNobodysAnyMore) {
  big_file(40);
  governor.set_budgets({{LimitKind::user, "alice", kAlice, {1, kNoRate}, kDefaultBurst, 0},
                        {LimitKind::user, "bob", kBob, {8e6, kNoRate}, kDefaultBurst, 0}},
                       1);
  NodeParts node(limited());
  auto hers = node.start(warm_as(kAlice, kAlicesJob));
  while (node.origin.counters().bytes < kMiB.count) std::this_thread::yield();
  auto his = node.start(warm_as(kBob, kBobsJob));
  while (node.origin.counters().bytes < 12 * kMiB.count)
    std::this_thread::yield();  // she alone: a piece in half a minute
  ASSERT_TRUE(node.engine->cancel({"o", "ds"}, user(kBob)));
  const auto of_bob = [&] {
    for (const auto& demand : governor.demands())
      if (demand.flow.uid == kBob) return demand.waiting;
    return 0U;
  };
  while (of_bob() != 0) std::this_thread::yield();  // what he had offered for is the last
  const auto then = node.origin.counters().bytes;
  EXPECT_LT(then, 32 * kMiB.count);
  governor.set_budgets({}, 1);
  EXPECT_TRUE(hers.get());
  his.wait();
}

TEST_F(Limits, WhoWantsAPartOfWhatAnotherWarmsDoesNotWaitForTheRestOfIt) {
  big_file(20);
  file("ds/small", "what he wants");
  limit(kAlice, 1);
  NodeParts node(limited());
  auto hers = node.start(warm_as(kAlice, kAlicesJob));
  while (node.origin.counters().bytes < kMiB.count) std::this_thread::yield();
  auto part = warm_as(kBob, kBobsJob);
  part.only.patterns = {"small"};
  const auto done = node.start(part).get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_LT(node.origin.counters().bytes, 16 * kMiB.count) << "he pays for nothing else";
  EXPECT_EQ(hers.wait_for(0s), std::future_status::timeout);
  governor.set_budgets({}, 1);
  EXPECT_TRUE(hers.get());
  EXPECT_EQ(node.store->newest_complete({"o", "ds"})->bytes_resident().count, 20 * kMiB.count + 13);
}

TEST_F(Limits, WhatIsReadIsCountedByDatasetAndUserWithAndWithoutALimit) {
  big_file(8);
  limit(kAlice, 1);
  NodeParts node(limited());
  const auto replica = empty_replica(node, kAlice);
  ASSERT_TRUE(replica);
  std::promise<Status> his, first, second;
  const auto one = read(node, replica, kBob, kBobsJob, 0, his);
  EXPECT_EQ(why(his), "");
  const auto two = read(node, replica, kAlice, kAlicesJob, kMiB.count, first);
  EXPECT_EQ(why(first), "");
  auto three = read(node, replica, kAlice, kAlicesJob, 2 * kMiB.count, second);
  const auto of = [](const std::vector<Tallies::Read>& reads, std::uint32_t uid) {
    for (const auto& read : reads)
      if (read.uid == uid) return read;
    return Tallies::Read{};
  };
  auto reads = node.fetcher->take_reads();
  EXPECT_EQ(reads.size(), 2U);
  EXPECT_EQ(of(reads, kBob).dataset, (DatasetId{"o", "ds"}));
  EXPECT_EQ(of(reads, kBob).bytes, kMiB.count);
  EXPECT_EQ(of(reads, kBob).throttled, 0U);
  EXPECT_GE(of(reads, kBob).operations, 2U);
  EXPECT_EQ(of(reads, kAlice).bytes, kMiB.count);
  EXPECT_EQ(of(reads, kAlice).waiting, 1U);
  reads = node.fetcher->take_reads();
  ASSERT_EQ(reads.size(), 1U) << "what is told is told once, but who waits waits";
  EXPECT_EQ(reads[0].waiting, 1U);
  governor.set_budgets({}, 1);
  EXPECT_EQ(why(second), "");
  while (node.fetcher->in_flight() != 0) std::this_thread::yield();
  reads = node.fetcher->take_reads();
  EXPECT_EQ(of(reads, kAlice).bytes, kMiB.count);
  EXPECT_EQ(of(reads, kAlice).throttled, kMiB.count);
  EXPECT_EQ(of(reads, kAlice).waiting, 0U);
  EXPECT_TRUE(node.fetcher->take_reads().empty());
}

TEST_F(Limits, AReaderWhoWaitsForHisLimitIsReadAheadOfByLittle) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts a view";
  big_file(64);
  limit(kAlice, 4e6);
  NodeParts node(limited());
  ViewJobs jobs(kAlice);
  const auto job = jobs.start(node, {}, 30s, kAlicesJob);
  const std::string path = job.path("big");
  std::atomic<bool> through = false;
  std::thread reader([&] {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::vector<char> piece(128 << 10);
    for (int i = 0; i < 8 * 8; ++i) EXPECT_EQ(::read(fd.get(), piece.data(), piece.size()), ssize_t(piece.size()));
    through = true;
  });
  std::uint32_t most = 0;
  while (!through) {
    for (const auto& demand : governor.demands()) most = std::max(most, demand.waiting);
    std::this_thread::yield();
  }
  reader.join();
  EXPECT_GT(governor.throttled(kAlicesJob).time, 500ms);
  EXPECT_LE(most, 6U) << "what he waits for, and 2 MiB";
  limit(kAlice, kNoRate);
  while (node.fetcher->in_flight() != 0) std::this_thread::yield();
  EXPECT_LE(node.origin.counters().bytes, 24 * kMiB.count) << "of 64: 8 MiB were read";
}

TEST_F(Limits, TimeForWhichAReadWaitsForALimitIsNotTheOrigins) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts a view";
  big_file(6);
  limit(kAlice, 3e6);
  NodeParts node(limited());
  ViewJobs jobs(kAlice);
  const auto job = jobs.start(node, {}, 300ms, kAlicesJob);
  const std::string path = job.path("big");
  std::vector<std::thread> readers;
  std::atomic<int> errors = 0;
  for (off_t i = 0; i < 6; ++i)
    readers.emplace_back([&, i] {
      const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
      alignas(4096) char page[4096];
      if (pread(fd.get(), page, sizeof page, i << 20) != sizeof page) ++errors;
    });
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(errors, 0);
  EXPECT_GT(governor.throttled(kAlicesJob).time, 300ms) << "longer than an origin may take";
}

}  // namespace
}  // namespace atlas::agent
