// Datasets as no one would wish them: special files, huge directories, files that change or shrink while they are read.
#include <dirent.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>
#include <random>
#include <set>
#include <thread>

#include "tests/support/origin_tree.h"
#include "tests/support/slow_origin_process.h"
#include "tests/support/view_job.h"

namespace atlas::agent {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr std::size_t kMega = 1 << 20;

class OddFiles : public OriginTree {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: it makes device nodes and reads as other users";
    directory("", kAlice, 0755);
    directory("ds", kAlice, 0755);
    std::filesystem::create_directory(temp_.path("mnt"));
  }
  [[nodiscard]] NodeParts::Options options(const std::string& at = "origin") const {
    NodeParts::Options o;
    o.origin = temp_.path(at);
    o.tiers = {{"nvme", temp_.path("tier"), kGiB}};
    return o;
  }
  void socket_at(const std::string& name) const {
    const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, origin(name).c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << strerror(errno);
  }
};

/// The names in a directory, in the order in which they are listed.
std::vector<std::string> listing(const std::string& path) {
  std::vector<std::string> names;
  DIR* directory = opendir(path.c_str());
  EXPECT_NE(directory, nullptr) << strerror(errno);
  if (directory == nullptr) return names;
  while (const dirent* entry = readdir(directory)) names.emplace_back(entry->d_name);
  closedir(directory);
  return names;
}

/// Which entries of a directory have been opened by anybody since this object was made.
class OpenWatch {
 public:
  explicit OpenWatch(const std::string& directory) : fd_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    EXPECT_GE(inotify_add_watch(fd_.get(), directory.c_str(), IN_OPEN), 0) << strerror(errno);
  }
  std::set<std::string> opened() {
    std::set<std::string> names;
    alignas(inotify_event) char buffer[64 * 1024];
    for (;;) {
      const ssize_t size = ::read(fd_.get(), buffer, sizeof buffer);
      if (size <= 0) return names;
      for (ssize_t at = 0; at < size;) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
        EXPECT_EQ(event->mask & IN_Q_OVERFLOW, 0U);
        if (event->len > 0) names.insert(event->name);
        at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      }
    }
  }

 private:
  UniqueFd fd_;
};

TEST_F(OddFiles, SpecialFilesAreShownAndNeverOpened) {
  file("ds/plain", "plain");
  ASSERT_EQ(mkfifo(origin("ds/fifo").c_str(), 0644), 0);
  ASSERT_EQ(mknod(origin("ds/char").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(mknod(origin("ds/block").c_str(), S_IFBLK | 0660, makedev(7, 200)), 0);
  socket_at("ds/socket");
  std::filesystem::create_symlink("loop", origin("ds/loop"));
  std::filesystem::create_symlink("../ds", origin("ds/around"));
  OpenWatch watch(origin("ds"));
  NodeParts node(options());
  ViewJobs jobs(kAlice);
  const auto job = jobs.start(node);
  EXPECT_EQ(content(job.path("plain")), "plain");
  const auto partial = look(job.path(), nullptr);
  const auto done = node.warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  const auto mounts = node.replica("ds", *done)->mounts(1, {});
  ASSERT_TRUE(mounts) << mounts.error().message;
  const auto complete = look("/proc/self/fd/" + std::to_string(mounts->front().get()), nullptr);
  const auto opened = watch.opened();
  EXPECT_TRUE(opened.contains("plain")) << "the watch works";
  for (const char* name : {"fifo", "char", "block", "socket"}) EXPECT_FALSE(opened.contains(name)) << name;
  EXPECT_EQ(difference(partial, look(origin("ds"), nullptr)), "");
  EXPECT_EQ(difference(complete, look(origin("ds"), nullptr)), "");
  // Of a device there is nothing but the name.
  EXPECT_THAT(content(job.path("char")), HasSubstr("Permission denied"));
  EXPECT_THAT(content("/proc/self/fd/" + std::to_string(mounts->front().get()) + "/char"),
              HasSubstr("Permission denied"));
  EXPECT_THAT(content(job.path("loop")), HasSubstr("Too many levels of symbolic links"));
}

TEST_F(OddFiles, AHundredThousandEntriesInOneDirectoryAreListedCompletelyAndInOrder) {
  constexpr int kEntries = 100'000;
  directory("ds/many", kAlice, 0755);
  const UniqueFd at(open(origin("ds/many").c_str(), O_PATH | O_DIRECTORY));
  for (int i = 0; i < kEntries; ++i)
    ASSERT_EQ(mknodat(at.get(), ("entry " + std::to_string(i)).c_str(), S_IFREG | 0644, 0), 0) << strerror(errno);
  NodeParts node(options());
  ViewJobs jobs(kAlice);
  auto job = jobs.start(node);
  const auto first = listing(job.path("many"));
  auto expected = listing(origin("ds/many"));
  std::sort(expected.begin(), expected.end());
  auto sorted = first;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, expected) << "each once, none missing";
  job.mount_again();
  EXPECT_EQ(listing(job.path("many")), first) << "another connection lists them in the same order";

  // A position holds, whatever is read in between.
  DIR* directory = opendir(job.path("many").c_str());
  ASSERT_NE(directory, nullptr);
  for (int i = 0; i < kEntries / 2; ++i) ASSERT_NE(readdir(directory), nullptr);
  const long half = telldir(directory);
  while (readdir(directory) != nullptr) {
  }
  seekdir(directory, half);
  for (std::size_t i = kEntries / 2; i < first.size(); ++i) {
    const dirent* entry = readdir(directory);
    ASSERT_NE(entry, nullptr) << i;
    ASSERT_EQ(entry->d_name, first[i]);
  }
  EXPECT_EQ(readdir(directory), nullptr);
  closedir(directory);
}

/// The writer goes through the file from its beginning, again and again, with the number of the round in each page. At
/// any one moment the file holds two rounds at most, the newer one in front.
TEST_F(OddFiles, AFileThatKeepsChangingIsNeverTakenInTwoStates) {
  constexpr std::size_t kPage = 4096, kPages = 8 * kMega / kPage;
  file("ds/changing", std::string(kPage * kPages, '\0'));
  auto o = options();
  o.revalidate = std::chrono::milliseconds(0);
  o.chunk = Bytes{8 * kMega};
  NodeParts node(o);
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    const UniqueFd fd(open(origin("ds/changing").c_str(), O_WRONLY | O_CLOEXEC));
    std::mt19937 random(1);
    std::vector<std::uint64_t> page(kPage / 8);
    for (std::uint64_t round = 1; !stop; ++round) {
      std::fill(page.begin(), page.end(), round);
      for (std::size_t i = 0; i < kPages && !stop; ++i)
        if (pwrite(fd.get(), page.data(), kPage, static_cast<off_t>(i * kPage)) != ssize_t(kPage)) return;
      for (auto pause = random() % 40; pause > 0 && !stop; --pause)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  int complete = 0, refused = 0;
  for (int i = 0; i < 150 && (complete < 6 || refused < 8); ++i) {
    const auto done = node.warm("ds", user(kAlice), true);
    if (!done) {
      EXPECT_EQ(done.error().code, Code::aborted) << done.error().message;
      ++refused;
      continue;
    }
    ++complete;
    const auto mounts = node.replica("ds", *done)->mounts(1, {});
    ASSERT_TRUE(mounts) << mounts.error().message;
    const auto bytes = content("/proc/self/fd/" + std::to_string(mounts->front().get()) + "/changing");
    ASSERT_EQ(bytes.size(), kPage * kPages);
    std::uint64_t before = 0;
    std::set<std::uint64_t> rounds;
    for (std::size_t word = 0; word < bytes.size() / 8; ++word) {
      std::uint64_t value = 0;
      std::memcpy(&value, bytes.data() + word * 8, 8);
      ASSERT_TRUE(word == 0 || value <= before) << "round " << value << " follows " << before << " at " << word * 8;
      rounds.insert(before = value);
    }
    ASSERT_TRUE(rounds.size() == 1 || (rounds.size() == 2 && *rounds.rbegin() == *rounds.begin() + 1));
  }
  stop = true;
  writer.join();
  EXPECT_GE(complete, 1) << "between two rounds it can be taken";
}

TEST_F(OddFiles, AFileThatIsTruncatedWhileItIsReadGivesAnErrorAndNeverGarbage) {
  const std::string old = random_bytes(8 * kMega, 1);
  file("ds/shrinking", old);
  file("ds/other", "untouched");
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  ViewJobs jobs(kAlice);
  {
    const auto job = jobs.start(node);
    const UniqueFd fd(open(job.path("shrinking").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(fd);
    ASSERT_EQ(posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM), 0);
    std::string piece(kMega, '\0');
    ASSERT_EQ(pread(fd.get(), piece.data(), 4096, 0), 4096);
    // A read is under way at the origin when the file shrinks beneath it.
    slow.tell({"hang", "--path", "*ds/shrinking", "read"});
    ssize_t got = 0;
    int error = 0;
    std::thread reader([&] {
      got = pread(fd.get(), piece.data(), kMega, 4 * kMega + 12345);
      error = errno;
    });
    while (node.fetcher->in_flight() == 0) std::this_thread::yield();
    ASSERT_EQ(truncate(origin("ds/shrinking").c_str(), 4 * kMega + 20000), 0);
    slow.tell({"resume"});
    reader.join();
    EXPECT_EQ(got, -1) << "what is left would be of another file";
    EXPECT_THAT(error, AnyOf(EIO, ESTALE));
    EXPECT_EQ(pread(fd.get(), piece.data(), 4096, 6 * kMega), -1);
    EXPECT_EQ(pread(fd.get(), piece.data(), 4096, 2 * kMega), -1) << "it is not the file that was listed";
    EXPECT_EQ(pread(fd.get(), piece.data(), 4096, 0), 4096);
    EXPECT_EQ(piece.substr(0, 4096), old.substr(0, 4096));
    // Mapped: the reader is told by a signal, as with any file that cannot be read.
    const pid_t child = fork();
    if (child == 0) {
      const auto* bytes = static_cast<const char*>(mmap(nullptr, 8 * kMega, PROT_READ, MAP_SHARED, fd.get(), 0));
      _exit(bytes != MAP_FAILED && bytes[5 * kMega] == old[5 * kMega] ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) << status;
    EXPECT_EQ(content(job.path("other")), "untouched") << "the others go on";
    EXPECT_THAT(jobs.warned(), Contains(HasSubstr("ds/shrinking")));
  }
}

TEST_F(OddFiles, AnOriginThatFailsAReadFailsThatReadAndIsAskedAgain) {
  file("ds/broken", random_bytes(3 * kMega, 1));
  file("ds/whole", random_bytes(kMega, 2));
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  ViewJobs jobs(kAlice);
  {
    const auto job = jobs.start(node);
    slow.tell({"fail", "*ds/broken", "--errno", "EIO", "read"});
    EXPECT_EQ(content(job.path("broken")), "read: Input/output error");
    EXPECT_EQ(content(job.path("whole")), random_bytes(kMega, 2));
    EXPECT_EQ(node.store->tiers()[0].state, "ok") << "the node's own disk is not to blame";
    slow.tell({"heal"});
    EXPECT_EQ(content(job.path("broken")), random_bytes(3 * kMega, 1));
  }
}

/// What storage gives of a read is less than was asked for: so the rest is asked for, and nothing is made up.
class ShortReads : public OddFiles {
 protected:
  void SetUp() override {
    OddFiles::SetUp();
    for (const auto& [name, size] : sizes_) file("ds/" + name, bytes(name));
  }
  [[nodiscard]] std::string bytes(const std::string& name) const {
    return random_bytes(sizes_.at(name), static_cast<unsigned>(sizes_.at(name)));
  }
  [[nodiscard]] std::string all_of(const ViewJobs::Job& job) const {
    std::string wrong;
    for (const auto& [name, size] : sizes_)
      if (content(job.path(name)) != bytes(name)) wrong += name + " ";
    return wrong;
  }

  const std::map<std::string, std::size_t> sizes_{
      {"small", 100'000}, {"blocks", 3 * kMega + 5}, {"pieces", 40 * kMega + 4321}, {"even", 2 * kMega}};
  ViewJobs jobs_{kAlice};
};

TEST_F(ShortReads, AreReadOnUntilAllIsThere) {
  for (const auto* most : {"4096", "40001", "900000"}) {
    const std::string tier = std::string("tier-") + most;
    SlowOrigin slow(origin(), temp_.path("mnt"), {});
    slow.tell({"short", "*", most});
    auto o = options("mnt");
    o.tiers[0].path = temp_.path(tier);
    NodeParts node(o);
    {
      const auto kept = jobs_.start(node);
      EXPECT_EQ(all_of(kept), "") << "kept, in pieces of " << most;
      EXPECT_GT(slow.shortened(), 40U) << "it happened";
    }
    {
      o.tiers[0].path += "-nothing";
      NodeParts other(o);
      const auto before = slow.shortened();
      const auto passing = jobs_.start(other, Bytes{1});
      EXPECT_EQ(all_of(passing), "") << "read through, in pieces of " << most;
      EXPECT_GT(slow.shortened(), before + 40);
    }
    o.tiers[0].path = temp_.path(tier) + "-warm";
    NodeParts warmed(o);
    const auto done = warmed.warm("ds", user(kAlice));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(difference_to(origin("ds"), warmed), "");
    EXPECT_EQ(done->origin_bytes.count, done->bytes_total.count) << "no byte twice";
  }
}

TEST_F(ShortReads, ThatGiveNothingBeforeTheEndAreErrorsAndNeverZeros) {
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  {
    const auto job = jobs_.start(node);
    const auto passing = jobs_.start(node, Bytes{1}, std::chrono::seconds(30), 8);
    slow.tell({"short", "*", "0"});
    for (const auto& [name, size] : sizes_)
      for (const auto* each : {&job, &passing})
        EXPECT_THAT(content(each->path(name)), AnyOf(HasSubstr("read: Input"), HasSubstr("read: Stale"))) << name;
    EXPECT_EQ(job.replica->bytes_resident().count, 0U) << "and nothing of it is kept";
    EXPECT_GT(slow.shortened(), 0U);
    slow.tell({"heal"});
    EXPECT_EQ(all_of(job), "") << "the next read asks again";
    EXPECT_EQ(all_of(passing), "");
  }
  std::filesystem::remove_all(temp_.path("tier-2"));
  auto o = options("mnt");
  o.tiers[0].path = temp_.path("tier-2");
  NodeParts other(o);
  slow.tell({"short", "*", "0"});
  const auto failed = other.warm("ds", user(kAlice));
  EXPECT_FALSE(failed) << "complete, without its bytes";
  EXPECT_FALSE(other.store->newest_complete({"o", "ds"}));
  slow.tell({"heal"});
  const auto done = other.warm("ds", user(kAlice));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(difference_to(origin("ds"), other), "");
}

TEST_F(ShortReads, ThatTheKernelTakesForTheEndOfTheFileAreErrorsAndNeverZeros) {
  SlowOrigin slow(origin(), temp_.path("mnt"), {});
  NodeParts node(options("mnt"));
  const auto job = jobs_.start(node);
  slow.tell({"short", "--cached", "*", "40001"});  // its own pages are filled with zeros behind what came
  for (const auto& [name, size] : sizes_) {
    const auto got = content(job.path(name));
    EXPECT_TRUE(got == bytes(name) || got.starts_with("read: ")) << name << ": " << got.size() << " wrong bytes";
  }
  EXPECT_GT(slow.shortened(), 0U);
  slow.tell({"heal"});
}

}  // namespace
}  // namespace atlas::agent
