// Datasets that a job writes to, through real FUSE mounts: run as root, skipped (and said so) otherwise.
#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>
#include <random>
#include <set>
#include <thread>

#include "cache-agent/view/fuse/partial_views.h"
#include "tests/support/node_parts.h"
#include "tests/support/origin_tree.h"
#include "tests/support/slow_origin_process.h"

namespace atlas::agent {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMega = 1 << 20;

std::string read_at(int fd, std::size_t size, off_t offset) {
  std::string out(size, '\0');
  std::size_t got = 0;
  while (got < size) {
    const ssize_t n = pread(fd, out.data() + got, size - got, offset + static_cast<off_t>(got));
    if (n < 0) return "read: " + std::string(strerror(errno));
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  out.resize(got);
  return out;
}

std::string content(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return "open: " + std::string(strerror(errno));
  struct stat st {};
  if (fstat(fd.get(), &st) != 0) return "stat: " + std::string(strerror(errno));
  return read_at(fd.get(), static_cast<std::size_t>(st.st_size) + 100, 0);
}

/// 0 or an errno.
int failed(bool ok) {
  return ok ? 0 : errno;
}

class WritableView : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it mounts file systems and acts as other users";
    std::filesystem::create_directory(origin());
    std::filesystem::create_directory(temp_.path("mnt"));
    directory("ds", kAlice, 0755);
  }
  [[nodiscard]] NodeParts::Options options(const std::string& at = "origin") const {
    NodeParts::Options o;
    o.origin = temp_.path(at);
    o.tiers = {{"nvme", temp_.path("tier"), kGiB}};
    return o;
  }
  struct Job {
    std::unique_ptr<view::PartialViews> views;
    UniqueFd mount;
    [[nodiscard]] std::string path(const std::string& below = "") const {
      return "/proc/self/fd/" + std::to_string(mount.get()) + (below.empty() ? "" : "/" + below);
    }
  };
  Job start(NodeParts& node, const std::string& dataset = "ds", std::chrono::milliseconds deadline = 30s) {
    Job job;
    const auto replica = node.engine->open_partial({"o", dataset}, user(kAlice), {}, node.clock.now() + 20s);
    EXPECT_TRUE(replica) << replica.error().message;
    if (!replica) return job;
    view::PartialViews::Options o;
    o.deadline = deadline;
    job.views = std::make_unique<view::PartialViews>(std::vector<Origin*>{&node.origin}, *node.fetcher, node.clock, o);
    auto mount = job.views->mount(*replica, {"test", 7, 0, {}}, user(kAlice), {false, true});
    EXPECT_TRUE(mount) << mount.error().message;
    if (mount) job.mount = std::move(*mount);
    return job;
  }
  [[nodiscard]] std::string at_origin(const std::string& below) const { return content(origin("ds/" + below)); }
};

TEST_F(WritableView, WhatIsReadComesFromTheCacheUntilItIsWritten) {
  const std::string bytes = random_bytes(5 * kMega + 77, 1);
  file("ds/big", bytes);
  NodeParts node(options());
  const auto job = start(node);
  as_user(user(kAlice), [&] {
    EXPECT_EQ(content(job.path("big")), bytes);
    const auto once = node.origin.counters().bytes;
    EXPECT_EQ(once, bytes.size());
    EXPECT_EQ(content(job.path("big")), bytes);
    EXPECT_EQ(node.origin.counters().bytes, once) << "the second time nothing is read from the origin";
    const UniqueFd fd(open(job.path("big").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd) << strerror(errno);
    const UniqueFd reader(open(job.path("big").c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(read_at(reader.get(), 10, 3 * kMega), bytes.substr(3 * kMega, 10));
    ASSERT_EQ(pwrite(fd.get(), "written", 7, 3 * kMega), 7);
    EXPECT_EQ(read_at(reader.get(), 7, 3 * kMega), "written") << "who has it open sees it at once";
    EXPECT_EQ(at_origin("big").substr(3 * kMega, 7), "written") << "and it is at the origin, before any close";
  });
  auto changed = bytes;
  changed.replace(3 * kMega, 7, "written");
  as_user(user(kAlice), [&] { EXPECT_EQ(content(job.path("big")), changed); });
}

TEST_F(WritableView, FilesAreMadeAsTheUserWithHisMaskAndGroup) {
  directory("ds/setgid", kAlice, 02775);
  NodeParts node(options());
  const auto job = start(node);
  as_user(user(kAlice), [&] {
    const mode_t before = umask(027);
    const UniqueFd fd(open(job.path("new").c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666));
    EXPECT_TRUE(fd) << strerror(errno);
    EXPECT_EQ(write(fd.get(), "hello", 5), 5);
    EXPECT_EQ(mkdir(job.path("made").c_str(), 0777), 0) << strerror(errno);
    EXPECT_EQ(symlink("new", job.path("link").c_str()), 0) << strerror(errno);
    EXPECT_EQ(link(job.path("new").c_str(), job.path("made/hard").c_str()), 0) << strerror(errno);
    EXPECT_EQ(mkfifo(job.path("pipe").c_str(), 0666), 0) << strerror(errno);
    umask(before);
    EXPECT_EQ(content(job.path("made/hard")), "hello");
    EXPECT_EQ(content(job.path("link")), "hello");
  });
  struct stat st {};
  ASSERT_EQ(stat(origin("ds/new").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, kAlice);
  EXPECT_EQ(st.st_gid, kAlice);
  EXPECT_EQ(st.st_mode & 07777, 0640U);
  EXPECT_EQ(st.st_nlink, 2U);
  ASSERT_EQ(stat(origin("ds/made").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, kAlice);
  EXPECT_EQ(st.st_mode & 07777, 0750U);
  ASSERT_EQ(lstat(origin("ds/pipe").c_str(), &st), 0);
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
  EXPECT_EQ(st.st_uid, kAlice);
}

/// What each of them may do at the origin is what he may do through the view; nobody else may do anything there.
TEST_F(WritableView, TheOriginRefusesThroughItWhatItRefusesItself) {
  file("ds/mine", "mine");
  file("ds/read only", "r", kAlice, 0400);
  file("ds/of bob", "bob's", kBob, 0644);
  file("ds/secret of bob", "bob's", kBob, 0600);
  directory("ds/bobs", kBob, 0755);
  file("ds/bobs/f", "x", kBob, 0666);
  NodeParts node(options());
  const auto job = start(node);
  const auto tries = [](const std::string& at) {
    std::vector<std::pair<std::string, int>> out;
    const auto opens = [&](const std::string& name, int flags) {
      const UniqueFd fd(open((at + "/" + name).c_str(), flags | O_CLOEXEC, 0644));
      out.emplace_back("open " + name + " " + std::to_string(flags), failed(bool(fd)));
    };
    for (const auto* name : {"read only", "of bob", "secret of bob", "bobs/f", "bobs/new", "nothing"})
      for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR}) opens(name, flags);
    opens("bobs/new", O_CREAT | O_WRONLY);
    opens("of bob", O_RDONLY | O_TRUNC);
    const auto note = [&](const std::string& what, int result) { out.emplace_back(what, failed(result == 0)); };
    note("unlink", unlink((at + "/bobs/f").c_str()));
    note("rename", rename((at + "/bobs/f").c_str(), (at + "/stolen").c_str()));
    note("rename into", rename((at + "/mine").c_str(), (at + "/bobs/mine").c_str()));
    note("mkdir", mkdir((at + "/bobs/d").c_str(), 0755));
    note("chmod", chmod((at + "/of bob").c_str(), 0777));
    note("chown", chown((at + "/mine").c_str(), kBob, kBob));
    note("truncate", truncate((at + "/of bob").c_str(), 0));
    note("truncate 0400", truncate((at + "/read only").c_str(), 0));
    note("utimes", utimensat(AT_FDCWD, (at + "/of bob").c_str(), nullptr, 0));
    note("access", access((at + "/secret of bob").c_str(), R_OK));
    note("setxattr", setxattr((at + "/of bob").c_str(), "user.x", "1", 1, 0));
    note("rmdir", rmdir((at + "/bobs").c_str()));
    return out;
  };
  std::vector<std::pair<std::string, int>> there, here, bobs;
  as_user(user(kAlice), [&] { there = tries(origin("ds")); });
  as_user(user(kAlice), [&] { here = tries(job.path()); });
  EXPECT_EQ(here, there);
  as_user(user(kBob), [&] {
    struct stat st {};
    EXPECT_EQ(failed(stat(job.path("mine").c_str(), &st) == 0), EACCES) << "not even what he may do at the origin";
    EXPECT_EQ(failed(bool(UniqueFd(open(job.path("of bob").c_str(), O_RDWR)))), EACCES);
    EXPECT_EQ(failed(mkdir(job.path("bobs/d").c_str(), 0755) == 0), EACCES);
  });
  // Root in the job is its user at the origin, no more.
  EXPECT_EQ(failed(bool(UniqueFd(open(job.path("secret of bob").c_str(), O_RDONLY)))), EACCES);
  const UniqueFd made(open(job.path("by root").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  ASSERT_TRUE(made) << strerror(errno);
  struct stat st {};
  ASSERT_EQ(stat(origin("ds/by root").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, kAlice);
}

/// Compares a mapping of the file with `model`, and changes it there. In a process of its own, as jobs are: who unmaps
/// what he has written waits for the view with his memory map locked, and the view's threads are in this process.
/// 0 = equal.
int change_mapped(int fd, const std::string& model, std::size_t from, const std::string& data, bool sync) {
  const pid_t child = fork();
  if (child == 0) {
    auto* map = static_cast<char*>(mmap(nullptr, model.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    if (map == MAP_FAILED) _exit(2);
    if (std::memcmp(map, model.data(), model.size()) != 0) _exit(1);
    std::memcpy(map + from, data.data(), data.size());
    if (sync && msync(map, model.size(), MS_SYNC) != 0) _exit(3);
    _exit(munmap(map, model.size()) == 0 ? 0 : 4);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

/// The same random operations on a file in the view and on a plain one, which must stay equal.
TEST_F(WritableView, RandomReadsAndWritesAreThoseOfAPlainFile) {
  const unsigned seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  constexpr std::size_t kMost = 3 * kMega;
  const std::string bytes = random_bytes(2 * kMega + 1234, seed);
  file("ds/f", bytes);
  const std::string plain = temp_.path("plain");
  write_file(plain, bytes);
  NodeParts node(options());
  const auto job = start(node);
  as_user(user(kAlice), [&] {
    const auto pick = [&](std::size_t below) {
      return std::uniform_int_distribution<std::size_t>(0, below - 1)(random);
    };
    std::string model = bytes;
    UniqueFd fd(open(job.path("f").c_str(), O_RDONLY | O_CLOEXEC));
    bool writable = false;
    for (int step = 0; step < 3000; ++step) {
      const auto at = pick(kMost), size = 1 + pick(pick(10) == 0 ? 400'000 : 9'000);
      const auto what = pick(20);
      if (!writable && step > 200) {
        fd = UniqueFd(open(job.path("f").c_str(), O_RDWR | O_CLOEXEC));
        writable = true;
      }
      ASSERT_TRUE(fd) << strerror(errno);
      if (what < 9 || !writable) {
        const auto want = at < model.size() ? model.substr(at, size) : "";
        ASSERT_EQ(read_at(fd.get(), size, static_cast<off_t>(at)) == want, true) << "step " << step << " at " << at;
      } else if (what < 14) {
        const auto data = random_bytes(std::min(size, kMost - at), unsigned(random()));
        ASSERT_EQ(pwrite(fd.get(), data.data(), data.size(), static_cast<off_t>(at)), ssize_t(data.size()));
        if (model.size() < at + data.size()) model.resize(at + data.size());
        model.replace(at, data.size(), data);
      } else if (what == 14) {
        ASSERT_EQ(ftruncate(fd.get(), static_cast<off_t>(at)), 0) << strerror(errno);
        model.resize(at);
      } else if (what == 15) {
        const auto data = random_bytes(std::min(size, kMost - std::min(kMost, model.size())), unsigned(random()));
        const UniqueFd end(open(job.path("f").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        ASSERT_EQ(write(end.get(), data.data(), data.size()), ssize_t(data.size()));
        model += data;
      } else if (what == 16 && !model.empty()) {
        const auto from = at % model.size();
        const auto data = random_bytes(std::min(size, model.size() - from), unsigned(random()));
        ASSERT_EQ(change_mapped(fd.get(), model, from, data, pick(2) == 0), 0) << "step " << step;
        model.replace(from, data.size(), data);
      } else if (what == 17) {
        fd = UniqueFd(open(job.path("f").c_str(), O_RDWR | O_CLOEXEC));
      } else if (what == 18) {
        ASSERT_EQ(fsync(fd.get()), 0);
        ASSERT_EQ(content(origin("ds/f")) == model, true) << "step " << step << ": at the origin";
      } else if (what == 19 && pick(10) == 0) {
        fd = UniqueFd(open(job.path("f").c_str(), O_RDWR | O_TRUNC | O_CLOEXEC));
        model.clear();
      }
    }
    ASSERT_EQ(fsync(fd.get()), 0);
    EXPECT_EQ(content(origin("ds/f")) == model, true);
    EXPECT_EQ(content(job.path("f")) == model, true);
  });
}

/// A tree is made, renamed and removed, in the view and in a plain directory, with looks at both.
TEST_F(WritableView, RandomChangesOfNamesAreThoseOfAPlainDirectory) {
  const unsigned seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  std::filesystem::create_directory(temp_.path("plain"));
  ASSERT_EQ(chown(temp_.path("plain").c_str(), kAlice, kAlice), 0);
  // Two directories whose files differ in nothing but their bytes, and were made in the same instant.
  for (const std::string at : {"ds", "../plain"}) {
    for (const std::string name : {"0", "1", "2"}) {
      directory(at + "/" + name, kAlice, 0755);
      for (const std::string below : {"0", "1"}) file(at + "/" + name + "/" + below, name + below);
    }
    file(at + "/3", "three");
  }
  NodeParts node(options());
  const auto job = start(node);
  const Principal alice = user(kAlice);
  as_user(alice, [&] {
    const std::string roots[2] = {temp_.path("plain"), job.path()};
    const auto pick = [&](std::size_t below) {
      return std::uniform_int_distribution<std::size_t>(0, below - 1)(random);
    };
    const auto name = [&] {
      return pick(2) == 0 ? std::to_string(pick(5)) : std::to_string(pick(5)) + "/" + std::to_string(pick(5));
    };
    for (int step = 0; step < 1500; ++step) {
      const auto what = pick(9);
      const std::string one = "/" + name(), two = "/" + name(), text = "step " + std::to_string(step);
      std::string results[2];
      for (int i = 0; i < 2; ++i) {
        const std::string a = roots[i] + one, b = roots[i] + two;
        auto& result = results[i];
        switch (what) {
          case 0:
            result = std::to_string(failed(mkdir(a.c_str(), 0755) == 0));
            break;
          case 1:
            result = std::to_string(failed(rename(a.c_str(), b.c_str()) == 0));
            break;
          case 2:
            result = std::to_string(failed(unlink(a.c_str()) == 0));
            break;
          case 3:
            result = std::to_string(failed(rmdir(a.c_str()) == 0));
            break;
          case 4:
            result = std::to_string(failed(link(a.c_str(), b.c_str()) == 0));
            break;
          case 5: {
            const UniqueFd fd(open(a.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644));
            result = std::to_string(failed(bool(fd)));
            if (fd && write(fd.get(), text.data(), text.size()) != ssize_t(text.size())) result += " cannot write";
            break;
          }
          case 6: {
            const UniqueFd fd(open(a.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
            result = std::to_string(failed(bool(fd)));
            if (fd && write(fd.get(), text.data(), text.size()) != ssize_t(text.size())) result += " cannot write";
            break;
          }
          case 7:
            result = std::to_string(failed(renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0));
            break;
          default: {
            struct stat st {};
            result = lstat(a.c_str(), &st) != 0
                         ? strerror(errno)
                         : std::to_string(st.st_mode) + " " + (S_ISREG(st.st_mode) ? content(a) : "");
          }
        }
      }
      ASSERT_EQ(results[1], results[0]) << "step " << step << ": " << what << " " << one << " " << two;
    }
    const auto tree = [](const std::string& root) {
      std::map<std::string, std::string> out;
      for (const auto& entry : std::filesystem::recursive_directory_iterator(root))
        out[entry.path().lexically_relative(root)] = entry.is_regular_file() ? content(entry.path()) : "";
      return out;
    };
    EXPECT_EQ(tree(job.path("./")), tree(temp_.path("plain")));
    EXPECT_EQ(tree(job.path("./")), tree(origin("ds")));
  });
}

TEST_F(WritableView, AnOpenFileLivesOnWithoutItsName) {
  file("ds/f", "of the origin");
  file("ds/g", "another");
  NodeParts node(options());
  const auto job = start(node);
  as_user(user(kAlice), [&] {
    const UniqueFd fd(open(job.path("f").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd);
    ASSERT_EQ(rename(job.path("g").c_str(), job.path("f").c_str()), 0);
    EXPECT_EQ(content(job.path("f")), "another");
    EXPECT_EQ(read_at(fd.get(), 20, 0), "of the origin");
    ASSERT_EQ(pwrite(fd.get(), "to", 2, 0), 2);
    struct stat st {};
    EXPECT_EQ(fstat(fd.get(), &st), 0) << strerror(errno);
    EXPECT_EQ(st.st_nlink, 0U);
    EXPECT_EQ(fchmod(fd.get(), 0600), 0) << strerror(errno);
    EXPECT_EQ(ftruncate(fd.get(), 2), 0) << strerror(errno);
    EXPECT_EQ(read_at(fd.get(), 20, 0), "to");
  });
  EXPECT_EQ(at_origin("f"), "another");
}

TEST_F(WritableView, TwoProcessesThatAppendLoseNothing) {
  file("ds/log", "");
  NodeParts node(options());
  const auto job = start(node);
  std::vector<std::thread> writers;
  for (int who = 0; who < 4; ++who)
    writers.emplace_back([&, who] {
      as_user(user(kAlice), [&] {
        // One of them writes at the origin, as another node of the job does.
        const std::string at = who == 0 ? origin("ds/log") : job.path("log");
        const UniqueFd fd(open(at.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        ASSERT_TRUE(fd);
        for (int i = 0; i < 200; ++i) {
          const std::string line = std::to_string(who) + std::string(30, 'x') + "\n";
          ASSERT_EQ(write(fd.get(), line.data(), line.size()), ssize_t(line.size()));
        }
      });
    });
  for (auto& writer : writers) writer.join();
  std::string seen;
  as_user(user(kAlice), [&] { seen = content(job.path("log")); });
  EXPECT_EQ(seen, at_origin("log"));
  EXPECT_EQ(seen.size(), 4U * 200 * 32);
  for (int who = 0; who < 4; ++who)
    EXPECT_EQ(std::count(seen.begin(), seen.end(), static_cast<char>('0' + who)), 200) << who;
}

TEST_F(WritableView, WhatOthersChangeIsSeenByWhoeverOpensIt) {
  file("ds/f", std::string(100'000, 'a'));
  file("ds/tail", "begin\n");
  NodeParts node(options());
  const auto job = start(node);
  as_user(user(kAlice), [&] {
    EXPECT_EQ(content(job.path("f")), std::string(100'000, 'a'));
    const UniqueFd tail(open(job.path("tail").c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(read_at(tail.get(), 100, 0), "begin\n");
    write_file(origin("ds/f"), std::string(100'000, 'b'));
    write_file(origin("ds/tail"), "begin\nmore\n");
    EXPECT_EQ(content(job.path("f")), std::string(100'000, 'b'));
    EXPECT_EQ(content(job.path("tail")), "begin\nmore\n");
    EXPECT_EQ(read_at(tail.get(), 100, 0), "begin\nmore\n") << "the kernel knows its new size by now";
    file("ds/new one", "n");
    EXPECT_EQ(content(job.path("new one")), "n");
  });
}

TEST_F(WritableView, AttributesAreTheOrigins) {
  nasty_tree();
  NodeParts node(options());
  const auto job = start(node);
  const Principal alice = user(kAlice);
  EXPECT_EQ(difference(look(job.path(), &alice), look(origin("ds"), &alice)), "");
  as_user(alice, [&] {
    file("ds/x", "x");
    const std::string at = job.path("x");
    EXPECT_EQ(setxattr(at.c_str(), "user.note", "value", 5, 0), 0) << strerror(errno);
    EXPECT_EQ(chmod(at.c_str(), 0604), 0);
    const timespec times[2] = {{1000, 5}, {2000, 123456789}};
    EXPECT_EQ(utimensat(AT_FDCWD, at.c_str(), times, 0), 0);
    EXPECT_EQ(symlink("nowhere", job.path("astray").c_str()), 0);
    EXPECT_EQ(utimensat(AT_FDCWD, job.path("astray").c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
  });
  EXPECT_EQ(difference(look(job.path(), &alice), look(origin("ds"), &alice)), "");
}

TEST_F(WritableView, ADatasetOfOneFile) {
  file("ds/one", "12345");
  NodeParts node(options());
  const auto job = start(node, "ds/one");
  as_user(user(kAlice), [&] {
    EXPECT_EQ(content(job.path()), "12345");
    const UniqueFd fd(open(job.path().c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd) << strerror(errno);
    EXPECT_EQ(pwrite(fd.get(), "ab", 2, 1), 2);
    EXPECT_EQ(content(job.path()), "1ab45");
  });
  EXPECT_EQ(at_origin("one"), "1ab45");
}

TEST_F(WritableView, ALargeDirectoryIsListedWhole) {
  directory("ds/many", kAlice, 0755);
  std::set<std::string> want;
  for (int i = 0; i < 5000; ++i) {
    const std::string name = "a name that takes some room " + std::to_string(i);
    file("ds/many/" + name, "");
    want.insert(name);
  }
  NodeParts node(options());
  const auto job = start(node);
  as_user(user(kAlice), [&] {
    std::set<std::string> got;
    for (const auto& entry : std::filesystem::directory_iterator(job.path("many"))) got.insert(entry.path().filename());
    EXPECT_EQ(got, want);
  });
}

TEST_F(WritableView, AHungOriginGivesErrorsInTime) {
  file("ds/f", "x");
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  const auto job = start(node, "ds", 500ms);
  UniqueFd fd;
  as_user(user(kAlice), [&] { fd = UniqueFd(open(job.path("f").c_str(), O_RDWR | O_CLOEXEC)); });
  ASSERT_TRUE(fd);
  slow.tell({"hang"});
  as_user(user(kAlice), [&] {
    EXPECT_EQ(failed(pwrite(fd.get(), "y", 1, 0) == 1), EIO);
    EXPECT_EQ(failed(mkdir(job.path("d").c_str(), 0755) == 0), EIO);
    struct stat st {};
    EXPECT_EQ(failed(stat(job.path("f").c_str(), &st) == 0), EIO);
  });
  slow.tell({"resume"});
  EXPECT_EQ(failed(pwrite(fd.get(), "z", 1, 0) == 1), 0);
}

TEST_F(WritableView, AnOriginThatGivesLessThanItHasIsAskedAgainAndNoZerosAreRead) {
  const std::string bytes = random_bytes(2 * kMega + 4321, 3);
  file("ds/f", bytes);
  const SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  const auto job = start(node);
  as_user(user(kAlice), [&] {
    const UniqueFd fd(open(job.path("f").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(pwrite(fd.get(), bytes.data(), 1, 0), 1) << "from now on the origin is read";
  });
  slow.tell({"short", "*", "40001"});
  as_user(user(kAlice), [&] { EXPECT_TRUE(content(job.path("f")) == bytes); });
  EXPECT_GT(slow.shortened(), 10U);
  slow.tell({"short", "*", "0"});
  as_user(user(kAlice), [&] { EXPECT_EQ(content(job.path("f")), "read: Input/output error"); });
  slow.tell({"heal"});
  as_user(user(kAlice), [&] { EXPECT_TRUE(content(job.path("f")) == bytes); });
}

}  // namespace
}  // namespace atlas::agent
