// What a copy can reach at most: reads all files of a tree, or makes them again from memory, with N threads.
//   tree-io read TREE THREADS
//   tree-io epoch TREE THREADS            reads them in random order
//   tree-io copy TREE THREADS NEW         reads and makes them, each file by one thread; synced at the end
//   tree-io create TREE THREADS NEW       the files of TREE, their sizes and modes, with random bytes; synced at the
//   end
//   tree-io random TREE THREADS BYTES     reads so many bytes at a time, anywhere in the files, 50000 times
//   tree-io stat TREE THREADS             asks for the attributes of each file, ten times
//   tree-io walk TREE 1                   lists all directories, with the attributes of what is in them
//   tree-io map TREE THREADS              maps the files and looks at one byte of each page of 4 KiB, in random order
//   tree-io longest TREE THREADS SECONDS  reads them in random order, again and again, for so long
//   tree-io steps TREE 1 NEW              what a warm-up does to each file, one file after the other; prints a line of
//                                         microseconds per file for each step
// Prints seconds: of all, or of the one file that took longest. Directories are listed or made before the clock starts.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kPiece = 1 << 20;
constexpr std::uint64_t kChunk = 32 << 20;  // a large file is worked on in pieces of this size, as by the agent

struct Work {
  std::string name;
  std::uint64_t offset, length, size;
  mode_t mode;
};

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "tree-io: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

std::vector<Work> list(const std::filesystem::path& tree, const std::filesystem::path& made) {
  std::vector<Work> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(tree)) {
    const auto name = entry.path().lexically_relative(tree);  // relative() asks for each directory of the path
    if (entry.is_directory() && !made.empty()) std::filesystem::create_directories(made / name);
    if (!entry.is_regular_file()) continue;
    struct stat st {};
    if (::stat(entry.path().c_str(), &st) != 0) die(entry.path());
    const auto size = static_cast<std::uint64_t>(st.st_size);
    for (std::uint64_t at = 0; at == 0 || at < size; at += kChunk)
      out.push_back({name, at, std::min(kChunk, size - at), size, st.st_mode & 07777});
  }
  return out;
}

void read_one(const std::string& path, const Work& work, std::vector<char>& buffer) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(path);
  for (std::uint64_t at = work.offset; at < work.offset + work.length;) {
    const auto want = std::min<std::uint64_t>(buffer.size(), work.offset + work.length - at);
    const auto got = ::pread(fd, buffer.data(), want, static_cast<off_t>(at));
    if (got <= 0) die(path);
    at += static_cast<std::uint64_t>(got);
  }
  ::close(fd);
}

/// With the bytes of `from`, or those of the buffer if that is empty.
void create_one(const std::string& path, const Work& work, const std::string& from, std::vector<char>& buffer) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) die(path);
  const int source = from.empty() ? -1 : ::open(from.c_str(), O_RDONLY | O_CLOEXEC);
  for (std::uint64_t at = work.offset; at < work.offset + work.length;) {
    const auto want = std::min<std::uint64_t>(buffer.size(), work.offset + work.length - at);
    if (!from.empty() && ::pread(source, buffer.data(), want, static_cast<off_t>(at)) != static_cast<ssize_t>(want))
      die(from);
    const auto put = ::pwrite(fd, buffer.data(), want, static_cast<off_t>(at));
    if (put <= 0) die(path);
    at += static_cast<std::uint64_t>(put);
  }
  if (::fchmod(fd, work.mode) != 0) die(path);
  if (source >= 0) ::close(source);
  ::close(fd);
}

void in_parallel(unsigned threads, std::size_t count, const std::function<void(std::size_t)>& each) {
  std::atomic<std::size_t> next{0};
  std::vector<std::jthread> pool;
  for (unsigned i = 0; i < threads; ++i)
    pool.emplace_back([&] {
      for (std::size_t n = next++; n < count; n = next++) each(n);
    });
}

double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

constexpr std::size_t kRandomReads = 50'000;

/// One thread's share, with the files open.
void read_anywhere(const std::string& tree, const std::vector<Work>& work, std::size_t bytes, std::size_t reads,
                   unsigned seed) {
  std::map<std::string, int> open_files;
  std::vector<char> buffer(bytes);
  for (std::mt19937_64 random(seed); reads > 0; --reads) {
    const auto& one = work[random() % work.size()];
    if (one.size < bytes) continue;
    auto [it, fresh] = open_files.try_emplace(one.name, -1);
    if (fresh) it->second = ::open((tree + "/" + one.name).c_str(), O_RDONLY | O_CLOEXEC);
    const std::uint64_t at = random() % (one.size - bytes + 1);
    if (::pread(it->second, buffer.data(), bytes, static_cast<off_t>(at)) != static_cast<ssize_t>(bytes)) die(one.name);
  }
  for (const auto& [name, fd] : open_files) ::close(fd);
}

void look_at_each_page(const std::string& path, const Work& work) {
  constexpr std::size_t kPage = 4096;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  void* at = ::mmap(nullptr, work.length, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(work.offset));
  if (at == MAP_FAILED) die(path);
  ::close(fd);
  const std::size_t pages = (work.length + kPage - 1) / kPage;
  std::uint64_t next = work.offset;
  for (std::size_t n = 0; n < pages; ++n) {
    next = next * 6364136223846793005ULL + 1442695040888963407ULL;
    static_cast<void>(static_cast<const volatile char*>(at)[(next >> 33) % pages * kPage]);
  }
  ::munmap(at, work.length);
}

void stat_one(const std::string& path) {
  struct stat st {};
  for (int n = 0; n < 10; ++n)
    if (::lstat(path.c_str(), &st) != 0) die(path);
}

/// How long the slowest of all reads took; reads go on for `seconds`.
double longest_read(const std::string& tree, const std::vector<Work>& work, unsigned threads, double seconds) {
  std::vector<double> longest(threads, 0);
  const auto began = std::chrono::steady_clock::now();
  in_parallel(threads, threads, [&](std::size_t thread) {
    std::vector<char> buffer(kPiece);
    for (std::mt19937_64 random(thread); seconds_since(began) < seconds;) {
      const auto& one = work[random() % work.size()];
      const auto asked = std::chrono::steady_clock::now();
      read_one(tree + "/" + one.name, one, buffer);
      longest[thread] = std::max(longest[thread], seconds_since(asked));
    }
  });
  return *std::max_element(longest.begin(), longest.end());
}

/// The same calls in the same order as an agent makes them for a file of one piece; whole files only.
std::map<std::string, double> steps(const std::string& tree, const std::string& made, const std::vector<Work>& work) {
  std::map<std::string, double> sum;
  std::vector<char> buffer(kPiece), names(64 * 1024);
  for (const auto& one : work) {
    auto last = std::chrono::steady_clock::now();
    const auto step = [&](const char* name) {
      const auto now = std::chrono::steady_clock::now();
      sum[name] += std::chrono::duration<double>(now - last).count();
      last = now;
    };
    const std::string from = tree + "/" + one.name, to = made + "/" + one.name;
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(one.length, buffer.size()));
    struct stat st {};
    if (::lstat(from.c_str(), &st) != 0) die(from);
    step("1 stat");
    const int source = ::open(from.c_str(), O_RDONLY | O_CLOEXEC);
    if (source < 0 || ::flistxattr(source, names.data(), names.size()) < 0) die(from);
    step("2 open, list xattrs");
    if (::pread(source, buffer.data(), length, 0) != static_cast<ssize_t>(length)) die(from);
    ::close(source);
    step("3 read");
    static std::atomic<XXH64_hash_t> kept;  // so that it is not optimised away
    kept = XXH3_64bits(buffer.data(), length);
    step("4 checksum");
    const int fd = ::open(to.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) die(to);
    step("5 create");
    if (::pwrite(fd, buffer.data(), length, 0) != static_cast<ssize_t>(length)) die(to);
    step("6 write");
    if (::fchown(fd, st.st_uid, st.st_gid) != 0) die(to);
    step("7 chown");
    if (::fchmod(fd, st.st_mode & 07777) != 0) die(to);
    step("8 chmod");
    const timespec times[2] = {st.st_mtim, st.st_mtim};
    if (::futimens(fd, times) != 0) die(to);
    step("9 set times");
    ::close(fd);
    step("10 close");
  }
  const auto began = std::chrono::steady_clock::now();
  const int fd = ::open(made.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 || ::syncfs(fd) != 0) die(made);
  ::close(fd);
  sum["11 sync"] = seconds_since(began);
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  const bool makes = verb == "create" || verb == "copy" || verb == "steps";
  const bool reads = verb == "read" || verb == "epoch" || verb == "map" || verb == "stat" || verb == "walk";
  if (!(reads && argc == 4) && !((makes || verb == "longest" || verb == "random") && argc == 5)) {
    std::fprintf(
        stderr,
        "usage: tree-io read|epoch|map|stat|walk TREE THREADS | create|copy|steps TREE THREADS NEW | longest TREE "
        "THREADS SECONDS |"
        " random TREE THREADS BYTES\n");
    return 2;
  }
  const std::string tree = argv[2], made = makes ? argv[4] : "";
  unsigned threads = 0;
  std::from_chars(argv[3], argv[3] + std::strlen(argv[3]), threads);
  threads = std::max(threads, 1U);
  if (!made.empty()) std::filesystem::create_directories(made);
  auto work = verb == "walk" ? std::vector<Work>() : list(tree, made);
  std::vector<char> random(kPiece);
  std::mt19937_64 source(1);
  if (verb == "epoch") std::shuffle(work.begin(), work.end(), source);
  for (auto& c : random) c = static_cast<char>(source());
  if (verb == "longest") {
    std::printf("%.4f\n", longest_read(tree, work, threads, std::strtod(argv[4], nullptr)));
    return 0;
  }
  if (verb == "steps") {
    for (const auto& [step, seconds] : steps(tree, made, work))
      std::printf("%s\t%.2f\n", step.c_str(), seconds * 1e6 / static_cast<double>(work.size()));
    return 0;
  }
  const auto began = std::chrono::steady_clock::now();
  if (verb == "walk") {
    list(tree, "");
    std::printf("%.4f\n", seconds_since(began));
    return 0;
  }
  if (verb == "random") {
    const auto bytes = static_cast<std::size_t>(std::strtoull(argv[4], nullptr, 10));
    in_parallel(threads, threads, [&](std::size_t thread) {
      read_anywhere(tree, work, bytes, kRandomReads / threads, static_cast<unsigned>(thread));
    });
    std::printf("%.4f\n", seconds_since(began));
    return 0;
  }
  in_parallel(threads, work.size(), [&](std::size_t n) {
    if (verb == "stat") return stat_one(tree + "/" + work[n].name);
    if (verb == "map") return look_at_each_page(tree + "/" + work[n].name, work[n]);
    thread_local std::vector<char> buffer = random;
    if (made.empty())
      read_one(tree + "/" + work[n].name, work[n], buffer);
    else
      create_one(made + "/" + work[n].name, work[n], verb == "copy" ? tree + "/" + work[n].name : "", buffer);
  });
  if (!made.empty()) {
    const int fd = ::open(made.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || ::syncfs(fd) != 0) die(made);
    ::close(fd);
  }
  std::printf("%.4f\n", seconds_since(began));
}
