// What everything above an origin relies on, shown for each kind of storage that can be had here. A new reader of
// origins (another file system, an object store) is added to the list at the end and has to pass.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <future>
#include <optional>

#include "cache-agent/origin/posix_origin.h"
#include "tests/support/eventually.h"
#include "tests/support/origin_tree.h"
#include "tests/support/own_mounts.h"
#include "tests/support/slow_origin_process.h"

namespace atlas::agent {
namespace {

using ::testing::ElementsAre;

/// Storage below which the test puts its files, and the origin that reads it.
struct Storage {
  std::string name;
  /// Makes `place` be such storage, before anything lies in it; where the origin's root is then. Of what must end after
  /// the test `held` is kept.
  std::string (*make)(const TempDir& temp, const std::string& place, std::shared_ptr<void>& held);
};

class OriginContract : public OriginTree, public ::testing::WithParamInterface<Storage> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it reads files as other users";
    static const bool own = testing::own_mounts();
    ASSERT_TRUE(own);
    std::filesystem::create_directory(origin());
    root_ = GetParam().make(temp_, origin(), held_);
    ASSERT_EQ(chmod(origin().c_str(), 0755), 0);
    origin_ = std::make_unique<PosixOrigin>("o", root_, 8);
  }
  void TearDown() override {
    origin_.reset();
    held_.reset();
    umount2(origin().c_str(), MNT_DETACH);
  }
  Result<Manifest> walk(const Principal& as, const std::string& dataset = "ds", const Patterns& exclude = {},
                        std::stop_token stop = {}) {
    ManifestBuilder builder(root_ + "/" + dataset);
    ATLAS_TRY(origin_->walk(as, dataset, exclude, builder, std::move(stop)));
    return std::move(builder).build();
  }
  static std::optional<Code> code_of(const Result<Manifest>& result) {
    return result ? std::nullopt : std::optional(result.error().code);
  }
  /// On the origin's pool, with that user's rights.
  template <class Work>
  auto as(const Principal& who, Work work) -> decltype(work()) {
    std::promise<decltype(work())> done;
    origin_->run(who, Urgency::fault, [&](const Status& became) {
      if (!became) return done.set_value(fail(became.error()));
      done.set_value(work());
    });
    return done.get_future().get();
  }
  /// A whole file as the origin gives it, holes as zeros, in reads of this size.
  Result<std::string> read(const Principal& who, const std::string& path, const EntryAttributes& expected,
                           std::size_t step = 300'000, bool once = false) {
    return as(who, [&]() -> Result<std::string> {
      ATLAS_ASSIGN(const auto file, origin_->open(path, expected));
      std::string out;
      if (once) file->expect_no_second_read();
      const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(4096, (step + 4095) / 4096 * 4096),
                                                               &std::free);
      const std::span buffer(static_cast<std::byte*>(memory.get()), step);
      while (out.size() < expected.size) {
        ATLAS_ASSIGN(const auto piece, file->read(Bytes{out.size()}, buffer));
        if (piece.length.count == 0) return fail(Code::internal, "an empty piece before the end");
        const std::uint64_t end = out.size() + piece.length.count;
        if (piece.hole && end % kMiB.count != 0 && end != expected.size)
          return fail(Code::internal, "a hole that ends between blocks");
        if (piece.hole)
          out.append(piece.length.count, '\0');
        else
          out.append(reinterpret_cast<const char*>(buffer.data()), piece.length.count);
      }
      return out;
    });
  }
  static EntryAttributes attributes(const Manifest& manifest, const std::string& path) {
    const auto at = manifest.find(path);
    EXPECT_TRUE(at) << path;
    return at ? manifest.at(*at).attributes : EntryAttributes{};
  }

  std::string root_;
  std::shared_ptr<void> held_;
  std::unique_ptr<PosixOrigin> origin_;
};

TEST_P(OriginContract, AWalkGivesEveryEntryOnceWithItsAttributes) {
  directory("ds", kAlice, 0755);
  directory("ds/dir", kAlice, 0750);
  file("ds/dir/a", "12345", kAlice, 0640);
  file("ds/empty", "");
  std::filesystem::create_symlink("dir/a", origin("ds/link"));
  std::filesystem::create_hard_link(origin("ds/dir/a"), origin("ds/hard"));
  set_times(origin("ds/dir/a"), 1'000'000'000, 123'456'789);
  const auto seen = walk(user(kAlice));
  ASSERT_TRUE(seen) << seen.error().message;
  ASSERT_EQ(seen->size(), 6U);
  for (const char* path : {"", "dir", "dir/a", "empty", "link", "hard"}) {
    struct stat st {};
    ASSERT_EQ(lstat(origin(std::string("ds/") + path).c_str(), &st), 0);
    const auto a = attributes(*seen, path);
    EXPECT_EQ(a.mode, st.st_mode & 07777U) << path;
    EXPECT_EQ(a.uid, st.st_uid) << path;
    EXPECT_EQ(a.gid, st.st_gid) << path;
    EXPECT_EQ(a.mtime, st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec) << path;
    if (S_ISREG(st.st_mode)) {
      EXPECT_EQ(a.size, static_cast<std::uint64_t>(st.st_size)) << path;
    }
  }
  EXPECT_EQ(seen->at(*seen->find("link")).target, "dir/a");
  EXPECT_EQ(seen->at(*seen->find("hard")).leader, seen->at(*seen->find("dir/a")).leader);
  EXPECT_EQ(seen->summary().files, 2U) << "hard links count once";
  EXPECT_EQ(walk(user(kAlice))->summary().generation, seen->summary().generation) << "who looks again sees the same";
}

TEST_P(OriginContract, TheStorageDecidesWhatAUserMaySee) {
  directory("ds", kAlice, 0755);
  directory("ds/closed", kAlice, 0700);
  file("ds/closed/in", "x");
  file("ds/private", "y", kAlice, 0600);
  file("ds/public", "z");
  const auto bob = walk(user(kBob));
  ASSERT_TRUE(bob) << bob.error().message;
  EXPECT_TRUE(bob->at(*bob->find("private")).opaque());
  EXPECT_FALSE(bob->find("closed/in"));
  EXPECT_FALSE(bob->at(*bob->find("public")).opaque());
  const auto refused = read(user(kBob), "ds/private", attributes(*walk(user(kAlice)), "private"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::permission_denied);
  ASSERT_EQ(chmod(origin("ds").c_str(), 0700), 0);
  EXPECT_EQ(code_of(walk(user(kBob))), Code::permission_denied);
  EXPECT_FALSE(origin_->check_access(user(kBob), "ds", std::chrono::seconds(20)));
  EXPECT_TRUE(origin_->check_access(user(kAlice), "ds", std::chrono::seconds(20)));
}

TEST_P(OriginContract, WhatIsNoDatasetIsNamed) {
  directory("ds", kAlice, 0755);
  std::filesystem::create_directory_symlink("ds", origin("link"));
  EXPECT_EQ(code_of(walk(user(kAlice), "missing")), Code::not_found);
  EXPECT_EQ(code_of(walk(user(kAlice), "link")), Code::invalid_argument);
  EXPECT_EQ(code_of(walk(user(kAlice), "link/below")), Code::invalid_argument);
}

TEST_P(OriginContract, ReadsGiveEveryByteWhateverTheirSize) {
  directory("ds", kAlice, 0755);
  const auto bytes = random_bytes((3 << 20) + 4321, 1);
  file("ds/file", bytes);
  const auto seen = walk(user(kAlice));
  ASSERT_TRUE(seen);
  const auto expected = attributes(*seen, "file");
  for (const std::size_t step : {4'096UL, 300'000UL, 8UL << 20}) {
    const auto got = read(user(kAlice), "ds/file", expected, step);
    ASSERT_TRUE(got) << got.error().message;
    EXPECT_TRUE(*got == bytes) << "in steps of " << step;
  }
  const std::string holes = bytes + std::string(5 << 20, '\0') + "end";
  file("ds/holes", bytes);
  ASSERT_EQ(truncate(origin("ds/holes").c_str(), static_cast<off_t>(holes.size() - 3)), 0);
  std::ofstream(origin("ds/holes"), std::ios::app) << "end";
  const auto got = read(user(kAlice), "ds/holes", attributes(*walk(user(kAlice)), "holes"));
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_TRUE(*got == holes);
  const auto before = origin_->counters();
  ASSERT_TRUE(read(user(kAlice), "ds/file", expected));
  EXPECT_EQ(origin_->counters().bytes - before.bytes, bytes.size());
  EXPECT_GT(origin_->counters().operations, before.operations);
}

/// Of a file, how many pages this node has in memory.
std::size_t pages_in_memory(const std::string& path, std::size_t size) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  void* at = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED) return ~std::size_t{0};
  std::vector<unsigned char> pages((size + 4095) / 4096);
  EXPECT_EQ(mincore(at, size, pages.data()), 0);
  munmap(at, size);
  return static_cast<std::size_t>(std::count_if(pages.begin(), pages.end(), [](auto page) { return (page & 1) != 0; }));
}

TEST_P(OriginContract, WhatIsReadOnceGivesEveryByteAndIsNotKeptInMemory) {
  directory("ds", kAlice, 0755);
  const std::string bytes = random_bytes((10 << 20) + 4321, 1), holes = bytes + std::string(5 << 20, '\0') + bytes;
  file("ds/file", bytes);
  file("ds/holes", holes);
  {
    const UniqueFd sparse(::open(origin("ds/holes").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(fallocate(sparse.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 11 << 20, 4 << 20), 0);
    const UniqueFd whole(::open(origin("ds/file").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(fsync(whole.get()), 0);
    ASSERT_EQ(posix_fadvise(whole.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  }
  const auto seen = walk(user(kAlice));
  ASSERT_TRUE(seen);
  const auto before = origin_->counters();
  const auto got = read(user(kAlice), "ds/file", attributes(*seen, "file"), 4 << 20, true);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_TRUE(*got == bytes);
  EXPECT_EQ(origin_->counters().bytes - before.bytes, bytes.size());
  if (GetParam().name == "Directory") {
    EXPECT_LE(pages_in_memory(origin("ds/file"), bytes.size()), (4 << 20) / 4096U) << "but the last piece";
  }
  for (const std::size_t step : {4UL << 20, (1UL << 20) + 512, 100'001UL}) {  // also what must be read another way
    const auto sparse = read(user(kAlice), "ds/holes", attributes(*seen, "holes"), step, true);
    ASSERT_TRUE(sparse) << sparse.error().message;
    EXPECT_TRUE(*sparse == holes) << "in steps of " << step;
  }
}

TEST_P(OriginContract, AFileThatIsNoLongerTheOneTheWalkSawIsNotRead) {
  directory("ds", kAlice, 0755);
  for (const char* name : {"longer", "same size", "replaced", "gone"}) file(std::string("ds/") + name, "old bytes");
  const auto seen = walk(user(kAlice));
  ASSERT_TRUE(seen);
  file("ds/longer", "new bytes, and more");
  file("ds/same size", "new bytes");
  std::filesystem::remove(origin("ds/replaced"));
  std::filesystem::remove(origin("ds/gone"));
  file("ds/replaced", "new bytes");
  for (const char* name : {"longer", "same size", "replaced", "gone"}) {
    const auto got = read(user(kAlice), std::string("ds/") + name, attributes(*seen, name));
    ASSERT_FALSE(got) << name;
    EXPECT_EQ(got.error().code, Code::aborted) << name << ": " << got.error().message;
  }
}

TEST_P(OriginContract, XattrsAndAclsComeWithTheFile) {
  directory("ds", kAlice, 0755);
  file("ds/file", "x", kAlice, 0640);
  give_read(origin("ds/file"), kBob);
  ASSERT_EQ(setxattr(origin("ds/file").c_str(), "user.note", "a\0b", 3, 0), 0);
  ASSERT_EQ(setxattr(origin("ds/file").c_str(), "trusted.not", "x", 1, 0), 0);
  const auto seen = walk(user(kAlice));
  ASSERT_TRUE(seen);
  const auto meta = as(user(kAlice), [&]() -> Result<FileMeta> {
    ATLAS_ASSIGN(const auto opened, origin_->open("ds/file", attributes(*seen, "file")));
    return opened->meta();
  });
  ASSERT_TRUE(meta) << meta.error().message;
  std::vector<std::string> names;
  for (const auto& [name, value] : meta->xattrs) names.push_back(name);
  std::sort(names.begin(), names.end());
  EXPECT_THAT(names, ElementsAre("system.posix_acl_access", "user.note"));
  for (const auto& [name, value] : meta->xattrs)
    if (name == "user.note") {
      EXPECT_EQ(value, std::string("a\0b", 3));
    }
  EXPECT_TRUE(read(user(kBob), "ds/file", attributes(*seen, "file"))) << "his ACL lets him";
}

TEST_P(OriginContract, WhatIsExcludedIsLeftOutOrAWindow) {
  directory("ds", kAlice, 0755);
  directory("ds/checkpoints", kAlice, 0755);
  file("ds/checkpoints/one", "x");
  file("ds/scratch.tmp", "y");
  file("ds/data", "z");
  const auto patterns = Patterns({"checkpoints/", "*.tmp"});
  const auto seen = walk(user(kAlice), "ds", patterns);
  ASSERT_TRUE(seen);
  EXPECT_THAT(seen->summary().windows, ElementsAre("checkpoints"));
  EXPECT_FALSE(seen->find("checkpoints/one"));
  EXPECT_FALSE(seen->find("scratch.tmp"));
  EXPECT_TRUE(seen->find("data"));
}

TEST_P(OriginContract, AnOpenFileLeadsNobodyElseIntoItsDirectory) {
  directory("ds", kAlice, 0755);
  directory("ds/closed", kAlice, 0700);
  file("ds/closed/one", "1");
  file("ds/closed/two", "2");
  const auto seen = walk(user(kAlice));
  ASSERT_TRUE(seen);
  const auto open_as = [&](const Principal& who, const std::string& name) {
    return as(who, [&] { return origin_->open("ds/closed/" + name, attributes(*seen, "closed/" + name)); });
  };
  const auto held = open_as(user(kAlice), "one");
  ASSERT_TRUE(held) << held.error().message;
  const auto bob = open_as(user(kBob), "two");
  ASSERT_FALSE(bob);
  EXPECT_EQ(bob.error().code, Code::permission_denied) << bob.error().message;
  EXPECT_TRUE(open_as(user(kAlice), "two"));
}

TEST_P(OriginContract, ADirectoryThatClosesOrIsReplacedIsNoticedWhileItsFilesAreOpen) {
  directory("ds", kAlice, 0755);
  directory("ds/a", kAlice, 0755);
  file("ds/a/one", "1");
  file("ds/a/two", "2");
  const auto seen = walk(user(kBob));
  ASSERT_TRUE(seen);
  const auto open_now = [&](const std::string& name, const EntryAttributes& expected) {
    return as(user(kBob), [&] { return origin_->open("ds/a/" + name, expected); });
  };
  const auto held = open_now("one", attributes(*seen, "a/one"));
  ASSERT_TRUE(held) << held.error().message;

  std::filesystem::rename(origin("ds/a"), origin("ds/old"));
  directory("ds/a", kAlice, 0755);
  file("ds/a/new", "3");
  EXPECT_TRUE(test::eventually([&] {
    const auto again = walk(user(kBob));
    return again && again->find("a/new") && open_now("new", attributes(*again, "a/new"));
  })) << "what is not in the directory that was is looked for in the one that is";

  ASSERT_EQ(chmod(origin("ds").c_str(), 0700), 0);
  EXPECT_TRUE(test::eventually([&] {
    const auto refused = open_now("two", attributes(*seen, "a/two"));
    return !refused && refused.error().code == Code::permission_denied;
  })) << "above it the way is closed";
}

TEST_P(OriginContract, AWalkEndsWhenItIsAskedToStop) {
  directory("ds", kAlice, 0755);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(code_of(walk(user(kAlice), "ds", {}, stop.get_token())), Code::cancelled);
}

const Storage kStorages[] = {
    {"Directory", [](const TempDir&, const std::string& place, std::shared_ptr<void>&) { return place; }},
    {"Tmpfs",
     [](const TempDir&, const std::string& place, std::shared_ptr<void>&) {
       EXPECT_EQ(mount("tmpfs", place.c_str(), "tmpfs", 0, "size=256m"), 0);
       return place;
     }},
    {"SlowFuse", [](const TempDir& temp, const std::string& place, std::shared_ptr<void>& held) {
       std::filesystem::create_directory(temp.path("mnt"));
       held = std::make_shared<SlowOrigin>(place, temp.path("mnt"), std::vector<std::string>{"--latency", "0.2"});
       return temp.path("mnt");
     }}};
INSTANTIATE_TEST_SUITE_P(Origins, OriginContract, ::testing::ValuesIn(kStorages),
                         [](const auto& each) { return each.param.name; });

TEST(ReaderPool, WhatOneUserWaitsForLeavesThreadsToOthers) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: it acts as users";
  std::promise<void> storage_answers;
  const auto answer = storage_answers.get_future().share();
  std::promise<void> bob_was_served;
  {
    ReaderPool pool(4);
    for (int i = 0; i < 100; ++i)
      pool.post(user(kAlice), Urgency::read_ahead, [answer](const Status&) { answer.wait(); });
    pool.post(user(kBob), Urgency::fault, [&](const Status&) { bob_was_served.set_value(); });
    EXPECT_EQ(bob_was_served.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
    storage_answers.set_value();
  }
}

class OriginRequests : public OriginTree {};

TEST_F(OriginRequests, FilesThatAreOpenTogetherAskForTheirDirectoryOnce) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts";
  ASSERT_TRUE(testing::own_mounts());
  constexpr int kFiles = 24;
  const std::string deep = "ds/a/b/c/d/e";
  std::filesystem::create_directories(origin(deep));
  for (int i = 0; i < kFiles; ++i) file(deep + "/" + std::to_string(i), "x");
  std::filesystem::create_directory(temp_.path("mnt"));
  const SlowOrigin slow(origin(), temp_.path("mnt"), {"--cache", "0"});
  PosixOrigin storage("o", temp_.path("mnt"), 8);
  ManifestBuilder builder(temp_.path("mnt") + "/ds");
  const Principal who = user(0);
  ASSERT_TRUE(storage.walk(who, "ds", {}, builder, {}));
  const auto manifest = std::move(builder).build();
  ASSERT_TRUE(manifest);
  slow.tell({"reset"});
  std::vector<std::future<Result<std::unique_ptr<OriginFile>>>> opened;
  for (int i = 0; i < kFiles; ++i) {
    const auto at = manifest->find("a/b/c/d/e/" + std::to_string(i));
    ASSERT_TRUE(at);
    auto done = std::make_shared<std::promise<Result<std::unique_ptr<OriginFile>>>>();
    opened.push_back(done->get_future());
    storage.run(who, Urgency::warm_queued,
                [&storage, done, path = deep + "/" + std::to_string(i), expected = manifest->at(*at).attributes](
                    const Status&) { done->set_value(storage.open(path, expected)); });
  }
  std::vector<std::unique_ptr<OriginFile>> held;
  for (auto& one : opened) {
    auto file = one.get();
    ASSERT_TRUE(file) << file.error().message;
    held.push_back(std::move(*file));
  }
  EXPECT_GE(slow.operations("open"), std::uint64_t{kFiles}) << "it counts";
  EXPECT_LE(slow.operations("lookup"), std::uint64_t{kFiles} + 3 * 8) << "not eight for each file";
}

TEST_F(OriginRequests, ADirectoryThatTakesLongToBeRefusedHoldsOneReaderAndIsAskedForOnce) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts";
  ASSERT_TRUE(testing::own_mounts());
  constexpr int kFiles = 40;
  for (const char* name : {"ds/slow", "ds/fast"}) {
    std::filesystem::create_directories(origin(name));
    for (int i = 0; i < kFiles; ++i) file(std::string(name) + "/" + std::to_string(i), "x");
  }
  std::filesystem::create_directory(temp_.path("mnt"));
  const SlowOrigin slow(origin(), temp_.path("mnt"), {"--cache", "0"});
  PosixOrigin storage("o", temp_.path("mnt"), 8);
  ManifestBuilder builder(temp_.path("mnt") + "/ds");
  const Principal who = user(0);
  ASSERT_TRUE(storage.walk(who, "ds", {}, builder, {}));
  const auto manifest = std::move(builder).build();
  ASSERT_TRUE(manifest);
  const auto open = [&](const std::string& path) {
    auto done = std::make_shared<std::promise<Status>>();
    storage.run_for("ds/" + path, who, Urgency::warm_queued,
                    [&storage, done, path, expected = manifest->at(*manifest->find(path)).attributes](const Status&) {
                      const auto file = storage.open("ds/" + path, expected);
                      done->set_value(file ? Status{} : Status(fail(file.error())));
                    });
    return done->get_future();
  };
  slow.tell({"reset"});
  slow.tell({"hang", "--path", "ds/slow", "lookup"});
  std::vector<std::future<Status>> waiting;
  for (int i = 0; i < kFiles; ++i) waiting.push_back(open("slow/" + std::to_string(i)));
  ASSERT_TRUE(test::eventually([&] { return slow.hanging() != 0; }));
  for (int i = 0; i < kFiles; ++i) {
    auto other = open("fast/" + std::to_string(i));
    ASSERT_EQ(other.wait_for(std::chrono::seconds(30)), std::future_status::ready) << "all readers wait for ds/slow";
    EXPECT_TRUE(other.get());
  }
  EXPECT_EQ(slow.hanging(), 1U);
  std::this_thread::sleep_for(OpenDirectories::kSlow);  // so long it takes to fail
  slow.tell({"reset"});
  slow.tell({"fail", "ds/slow", "--errno", "EIO", "lookup"});
  slow.tell({"resume"});
  for (auto& one : waiting) EXPECT_FALSE(one.get());
  EXPECT_LE(slow.operations("lookup"), 4U) << "not once for each file";
}

}  // namespace
}  // namespace atlas::agent
