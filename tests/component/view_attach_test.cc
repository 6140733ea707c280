// atlas-attach and the agent's local side together: real namespaces, real mounts, a real user id. Needs root.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <future>
#include <set>
#include <thread>

#include "common/child.h"
#include "launcher/atlas_attach_client.h"
#include "tests/component/view_sandbox.h"

namespace atlas::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Attach : public ::testing::Test {
 protected:
  Sandbox box;
};

TEST_F(Attach, AJobReadsTheReplicaAtThePathOfTheOriginAndNobodyElseDoes) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  const auto prepared = run_attach(box, "prepare", 7);
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_TRUE(prepared->report.known);
  EXPECT_TRUE(prepared->report.mounts);
  EXPECT_FALSE(prepared->ns);
  const auto joined = run_attach(box, "join", 7, {"--directory=" + (box.origin() / "data").string()});
  ASSERT_TRUE(joined) << joined.error().message;
  ASSERT_TRUE(joined->ns);
  EXPECT_TRUE(joined->report.directory_ok);
  EXPECT_EQ(joined->report.cache_state, (box.origin() / "data").string() + "=complete");
  EXPECT_EQ(joined->report.announcement,
            "atlas: " + (box.origin() / "data").string() + " from this node (complete, 13)");
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/where"), "from the node");
  EXPECT_EQ(read_file(box.origin() / "data/where"), "from the origin");
  ASSERT_EQ(box.source.recorded(7).size(), 1U);
  EXPECT_TRUE(box.source.recorded(7)[0].mounted);
}

TEST_F(Attach, LaterTasksEnterTheNamespaceOfTheFirst) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  const auto first = run_attach(box, "join", 7);
  const auto second = run_attach(box, "join", 7);
  ASSERT_TRUE(first && first->ns && second && second->ns);
  EXPECT_EQ(identity_of(first->ns), identity_of(second->ns));
  EXPECT_EQ(second->report.cache_state, first->report.cache_state);
}

TEST_F(Attach, ThirtyTwoTasksAtOnceMakeOneNamespace) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  std::vector<std::future<Result<spank::HelperAnswer>>> tasks;
  for (int i = 0; i < 32; ++i)
    tasks.push_back(
        std::async(std::launch::async, [&] { return run_attach(box, "join", 7, {}, std::chrono::seconds(20)); }));
  std::set<ino_t> namespaces;
  for (auto& task : tasks) {
    const auto joined = task.get();
    ASSERT_TRUE(joined) << joined.error().message;
    ASSERT_TRUE(joined->ns) << joined->report.announcement;
    namespaces.insert(identity_of(joined->ns));
  }
  EXPECT_EQ(namespaces.size(), 1U);
}

TEST_F(Attach, AJobThatAskedForNothingIsUnknown) {
  box.start_agent();
  const auto prepared = run_attach(box, "prepare", 99);
  ASSERT_TRUE(prepared);
  EXPECT_FALSE(prepared->report.known);
  EXPECT_FALSE(prepared->report.mounts);
}

TEST_F(Attach, AnotherUsersJobIsRefused) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  ASSERT_TRUE(run_attach(box, "join", 7)->ns);
  const auto other = run_attach(box, "join", 7, {"--uid=20002"});
  ASSERT_TRUE(other);
  EXPECT_FALSE(other->ns);
  EXPECT_THAT(other->report.announcement, HasSubstr("another user"));
}

TEST_F(Attach, APathThatBecameASymlinkIsNeverFollowed) {
  box.make_dataset("project/speech");
  box.source.set(box.job(7, {"project/speech", "data"}));
  box.start_agent();
  std::filesystem::create_directories(box.origin() / "victim/speech");
  write_file(box.origin() / "victim/speech/where", "another's");
  std::filesystem::rename(box.origin() / "project", box.origin() / "old");
  std::filesystem::create_symlink("victim", box.origin() / "project");
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_EQ(read_in(joined->ns, box.origin() / "victim/speech/where"), "another's");
  EXPECT_EQ(read_in(joined->ns, box.origin() / "project/speech/where"), "another's");
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/where"), "from the node");
  EXPECT_THAT(joined->report.announcement,
              HasSubstr("project/speech from the origin: its path at the origin now holds"));
  EXPECT_THAT(joined->report.cache_state, HasSubstr("project/speech=origin"));
}

TEST_F(Attach, ALinkOutOfTheOriginIsNeverFollowed) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  std::filesystem::remove_all(box.origin() / "data");
  std::filesystem::create_symlink("/etc", box.origin() / "data");
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined);
  EXPECT_FALSE(joined->ns);
  EXPECT_THAT(joined->report.cache_state, HasSubstr("data=origin"));
}

TEST_F(Attach, AClosedParentDirectoryKeepsItsUsersOut) {
  box.make_dataset("private/speech");
  box.source.set(box.job(7, {"private/speech"}));
  box.start_agent();
  ::chmod((box.origin() / "private").c_str(), 0700);
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined);
  EXPECT_FALSE(joined->ns);
  EXPECT_FALSE(joined->report.mounts);
  EXPECT_THAT(joined->report.announcement, HasSubstr("permission denied"));
  EXPECT_THAT(joined->report.cache_state, HasSubstr("speech=origin"));
  // Settled: what the job sees does not change when the directory is opened later.
  ::chmod((box.origin() / "private").c_str(), 0755);
  EXPECT_FALSE(run_attach(box, "join", 7)->ns);
  EXPECT_FALSE(run_attach(box, "prepare", 7)->report.mounts);
}

TEST_F(Attach, ADatasetMayBeOneFile) {
  write_file(box.origin() / "train.lmdb", "from the origin");
  write_file(box.store() / "train.lmdb", "from the node");
  box.source.set(box.job(7, {"train.lmdb"}));
  box.start_agent();
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_EQ(read_in(joined->ns, box.origin() / "train.lmdb"), "from the node");
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/where"), "from the origin");
}

TEST_F(Attach, ADatasetThatChangedItsTypeStaysAtTheOrigin) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  std::filesystem::remove_all(box.origin() / "data");
  write_file(box.origin() / "data", "a file now");
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined);
  EXPECT_FALSE(joined->ns);
  EXPECT_THAT(joined->report.announcement, HasSubstr("another type"));
}

TEST_F(Attach, ADatasetInsideAnotherIsMountedOnTopOfIt) {
  box.make_dataset("data/inner");
  auto job = box.job(7, {"data/inner", "data"});
  std::filesystem::create_directories(box.store() / "own");
  write_file(box.store() / "own/where", "the inner replica");
  job.views[0].mount = box.view_of("own").mount;
  box.source.set(job);
  box.start_agent();
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/where"), "from the node");
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/inner/where"), "the inner replica");
}

TEST_F(Attach, TheOriginsRootItselfMayBeTheDataset) {
  auto job = box.job(7, {""});
  job.views[0].mount = box.view_of("data").mount;
  box.source.set(job);
  box.start_agent();
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_EQ(read_in(joined->ns, box.origin() / "where"), "from the node");
}

TEST_F(Attach, AMountThatCannotBeMadeLeavesTheOthers) {
  box.make_dataset("other");
  auto job = box.job(7, {"data", "other"});
  job.views[0].mount = []() -> Result<UniqueFd> { return fail(Code::unavailable, "the disk is out of use"); };
  box.source.set(job);
  box.start_agent();
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_EQ(read_in(joined->ns, box.origin() / "other/where"), "from the node");
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/where"), "from the origin");
}

TEST_F(Attach, EachDatasetIsFoundOnceMoreByAShortName) {
  box.make_dataset("project/speech");
  box.make_dataset("other/speech");
  box.make_dataset("cold");
  write_file(box.origin() / "train.lmdb", "from the origin");
  write_file(box.store() / "train.lmdb", "from the node");
  auto job = box.job(7, {"data", "project/speech", "other/speech", "cold", "train.lmdb"});
  job.views[3].mount = {};
  box.source.set(job);
  box.start_agent();
  const auto at = [&](const char* path) { return ",d=" + (box.origin() / path).string(); };
  const auto tree = box.root() / "run/job";
  const auto joined = run_attach(box, "join", 7,
                                 {"--tree=" + tree.string(), "--request=v1,d=%7Esomeone/voices" + at("project/speech") +
                                                                 at("other/speech") + at("cold") + at("train.lmdb")});
  ASSERT_TRUE(joined && joined->ns) << joined->report.announcement;
  EXPECT_EQ(read_in(joined->ns, tree / "voices/where"), "from the node");
  EXPECT_EQ(read_in(joined->ns, tree / "speech/where"), "from the node");
  EXPECT_EQ(read_in(joined->ns, tree / "speech-2/where"), "from the node");
  EXPECT_EQ(read_in(joined->ns, tree / "train.lmdb"), "from the node");
  EXPECT_EQ(read_in(joined->ns, tree / "cold/where"), "from the origin");
  EXPECT_EQ(read_in(joined->ns, box.origin() / "project/speech/where"), "from the node");
  EXPECT_TRUE(std::filesystem::is_empty(tree)) << "nobody outside sees it";
}

TEST_F(Attach, LockFilesOfDatabasesCanBeLockedByEverybody) {
  for (const auto& place : {box.origin(), box.store()}) {
    write_file(place / "data/data.mdb", "data");
    write_file(place / "data/lock.mdb", "the owner's");
    std::filesystem::create_symlink("where", place / "data/link-lock");
  }
  auto job = box.job(7, {"data"});
  job.views[0].lock_files = {"lock.mdb", "not/there-lock", "link-lock"};
  box.source.set(job);
  box.start_agent();
  const auto tree = box.root() / "run/job";
  const auto joined = run_attach(box, "join", 7, {"--tree=" + tree.string()});
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/lock.mdb"), "(empty)");
  EXPECT_EQ(write_in(joined->ns, box.origin() / "data/lock.mdb", "locked"), "written");
  EXPECT_EQ(read_in(joined->ns, tree / "data/lock.mdb"), "locked") << "one file, whichever way";
  EXPECT_EQ(write_in(joined->ns, box.origin() / "data/data.mdb", "x"), "errno " + std::to_string(EACCES));
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/link-lock"), "from the node");
  EXPECT_EQ(write_in(joined->ns, tree / "new", "x"), "errno " + std::to_string(EROFS));
  EXPECT_EQ(read_file(box.store() / "data/lock.mdb"), "the owner's");
}

TEST_F(Attach, ReleaseLeavesNoPinAndNoNamespace) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_TRUE(std::filesystem::exists(box.pins() / "7.0"));
  EXPECT_EQ(mounts_below(box.pins()).size(), 1U);
  box.agent->release(7);
  EXPECT_THAT(mounts_below(box.pins()), IsEmpty());
  EXPECT_TRUE(std::filesystem::is_empty(box.pins()));
  EXPECT_THAT(box.agent->held(), IsEmpty());
  // A running task keeps what it has.
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/where"), "from the node");
}

TEST_F(Attach, ANamespaceOutlivesTheAgent) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  const auto before = run_attach(box, "join", 7);
  ASSERT_TRUE(before && before->ns);
  box.stop_agent();
  EXPECT_EQ(mounts_below(box.pins()).size(), 1U);
  box.start_agent();
  ASSERT_EQ(box.agent->held().size(), 1U);
  const auto after = run_attach(box, "join", 7);
  ASSERT_TRUE(after && after->ns);
  EXPECT_EQ(identity_of(after->ns), identity_of(before->ns));
  EXPECT_EQ(after->report.cache_state, before->report.cache_state);
  box.agent->release(7);
  EXPECT_THAT(mounts_below(box.pins()), IsEmpty());
}

// The kernel compares ids that differ by CPU: whatever CPUs agent and task run on, the namespace can be pinned.
TEST_F(Attach, NamespacesArePinnedWhicheverCpuMadeThem) {
  const std::size_t cpus = std::thread::hardware_concurrency();
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  box.start_agent();
  std::uint32_t job = 100;
  for (std::size_t cpu = 0; cpu < cpus; ++cpu, ++job) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    box.source.set(box.job(job, {"data"}));
    // The task's first namespace comes from this CPU; it may then look for a better one.
    auto joined = run_attach(box, "join", job);
    ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
    ASSERT_TRUE(joined && joined->ns);
  }
  EXPECT_EQ(mounts_below(box.pins()).size(), cpus);
}

TEST_F(Attach, ARequeuedJobStartsAfresh) {
  auto job = box.job(7, {"data"});
  box.source.set(job);
  box.start_agent();
  const auto first = run_attach(box, "join", 7);
  job.job.restarts = 1;
  box.source.set(job);
  const auto second = run_attach(box, "join", 7);
  ASSERT_TRUE(first && first->ns && second && second->ns);
  EXPECT_NE(identity_of(first->ns), identity_of(second->ns));
  EXPECT_FALSE(std::filesystem::exists(box.pins() / "7.0"));
  EXPECT_TRUE(std::filesystem::exists(box.pins() / "7.1"));
}

TEST_F(Attach, AStepStartsWhileTheControllerIsAwayIfTheJobIsSettled) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  const auto first = run_attach(box, "join", 7);
  box.source.fail_with(Error{Code::unavailable, "the controller is away", 0});
  const auto second = run_attach(box, "join", 7);
  ASSERT_TRUE(first && first->ns && second && second->ns);
  EXPECT_EQ(identity_of(first->ns), identity_of(second->ns));
  const auto stranger = run_attach(box, "prepare", 8);
  ASSERT_TRUE(stranger);
  EXPECT_THAT(stranger->report.announcement, HasSubstr("the controller is away"));
}

TEST_F(Attach, WithoutAnAgentTheJobIsToldAtOnceAndReadsTheOrigin) {
  const auto begin = std::chrono::steady_clock::now();
  const auto prepared = run_attach(box, "prepare", 7);
  ASSERT_TRUE(prepared);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  EXPECT_FALSE(prepared->report.mounts);
  EXPECT_THAT(prepared->report.announcement, HasSubstr("is atlas-cache-agent running?"));
}

TEST_F(Attach, AnAgentThatNeverAnswersCostsTheLimitAndNoMore) {
  const UniqueFd mute(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, box.socket().c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(mute.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(mute.get(), 8), 0);
  const auto begin = std::chrono::steady_clock::now();
  const auto prepared = run_attach(box, "prepare", 7, {}, std::chrono::milliseconds(2000));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_THAT(prepared->report.announcement, HasSubstr("no answer in time"));
}

TEST_F(Attach, WhenTheFirstTaskDiesTheNextMakesTheNamespace) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent(std::chrono::seconds(60));  // patience must not be what helps
  auto maker = launcher::AgentConnection::open(box.socket());
  ASSERT_TRUE(maker);
  v1::LocalRequest request;
  request.mutable_attach()->set_job_id(7);
  request.mutable_attach()->mutable_as()->set_uid(kUid);
  request.mutable_attach()->mutable_as()->set_gid(kGid);
  auto mounts = maker->call(request, {}, std::chrono::steady_clock::now() + std::chrono::seconds(5));
  ASSERT_TRUE(mounts) << mounts.error().message;
  ASSERT_EQ(mounts->fds.size(), 1U);
  auto waiting =
      std::async(std::launch::async, [&] { return run_attach(box, "join", 7, {}, std::chrono::seconds(20)); });
  EXPECT_EQ(waiting.wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
  { const auto dies = std::move(*maker); }
  const auto joined = waiting.get();
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/where"), "from the node");
}

TEST_F(Attach, WhenTheFirstTaskIsStuckTheOthersGoOnAfterAWhile) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent(std::chrono::milliseconds(300));
  auto maker = launcher::AgentConnection::open(box.socket());
  v1::LocalRequest request;
  request.mutable_attach()->set_job_id(7);
  request.mutable_attach()->mutable_as()->set_uid(kUid);
  ASSERT_TRUE(maker->call(request, {}, std::chrono::steady_clock::now() + std::chrono::seconds(5)));
  const auto joined = run_attach(box, "join", 7);
  ASSERT_TRUE(joined && joined->ns);
  EXPECT_EQ(read_in(joined->ns, box.origin() / "data/where"), "from the node");
}

TEST_F(Attach, IdleClientsDoNotKeepOthersWaiting) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  std::vector<launcher::AgentConnection> idle;
  for (int i = 0; i < 200; ++i) {
    auto connection = launcher::AgentConnection::open(box.socket());
    ASSERT_TRUE(connection);
    idle.push_back(std::move(*connection));
  }
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(run_attach(box, "join", 7)->ns);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST_F(Attach, OnlyRootIsListenedTo) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  const auto as_user = [&] {
    return run_in_child(
        [&]() -> Packet {
          if (::setresuid(kUid, kUid, kUid) != 0) return {"setresuid", {}};
          auto agent = launcher::AgentConnection::open(box.socket());
          if (!agent) return {"no connection", {}};
          v1::LocalRequest request;
          request.mutable_enter()->set_job_id(7);
          auto answer = agent->call(request, {}, std::chrono::steady_clock::now() + std::chrono::seconds(3));
          return {answer ? "answered" : "no answer", {}};
        },
        {std::chrono::seconds(10)});
  };
  EXPECT_EQ(as_user()->bytes, "no connection");
  ASSERT_EQ(::chmod(box.socket().c_str(), 0666), 0);
  EXPECT_EQ(as_user()->bytes, "no answer");
}

TEST_F(Attach, EnterGivesTheNamespaceOfARunningJobOnly) {
  box.source.set(box.job(7, {"data"}));
  box.start_agent();
  const auto joined = run_attach(box, "join", 7);
  auto agent = launcher::AgentConnection::open(box.socket());
  v1::LocalRequest request;
  request.mutable_enter()->set_job_id(7);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  auto answer = agent->call(request, {}, deadline);
  ASSERT_TRUE(answer);
  ASSERT_EQ(answer->fds.size(), 1U);
  EXPECT_EQ(identity_of(answer->fds[0]), identity_of(joined->ns));
  request.mutable_enter()->set_job_id(8);
  answer = agent->call(request, {}, deadline);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Code::not_found);
}

}  // namespace
}  // namespace atlas::testing
