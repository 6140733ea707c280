#include "tests/support/node_parts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <xxhash.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include "cache-agent/manifest/ids.h"
#include "cache-agent/origin/reader_pool.h"
#include "common/percent.h"

namespace atlas::agent {

TempDir::TempDir(const std::filesystem::path& below) {
  path_ = (below / "atlas-test-XXXXXX").string();
  if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("cannot make " + path_);
  std::filesystem::permissions(path_, std::filesystem::perms(0755));
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

NodeParts::NodeParts(const Options& options) : origin("o", options.origin, options.operations) {
  StoreOptions store_options;
  store_options.tiers = options.tiers;
  store_options.boot = options.boot;
  store_options.probe = options.probe;
  store_options.equal_files_among = options.equal_files_among;
  store_options.absolute = [root = options.origin](const DatasetId& d) {
    return d.path.empty() ? root : root + "/" + d.path;
  };
  auto opened = Store::open(std::move(store_options), clock);
  if (!opened) throw std::runtime_error(opened.error().message);
  store = std::move(*opened);
  FetcherOptions fetch;
  fetch.chunk = options.chunk;
  fetcher = std::make_unique<Fetcher>(std::vector<Origin*>{&origin},
                                      options.governor != nullptr ? *options.governor : unlimited, writers, fetch);
  WarmOptions warm_options;
  warm_options.node = options.node;
  warm_options.revalidate = options.revalidate;
  warm_options.brief_walk = options.brief_walk;
  warm_options.settle = options.settle;
  warm_options.tick = std::chrono::milliseconds(50);
  engine = std::make_unique<WarmEngine>(std::vector<Origin*>{&origin}, *store, *fetcher, clock, warm_options);
}

std::future<Result<WarmProgress>> NodeParts::start(WarmRequest request, WarmEngine::OnProgress progress) {
  auto promise = std::make_shared<std::promise<Result<WarmProgress>>>();
  auto future = promise->get_future();
  engine->warm(std::move(request), std::move(progress),
               [promise](Result<WarmProgress> last) { promise->set_value(std::move(last)); });
  return future;
}

Result<WarmProgress> NodeParts::warm(const std::string& dataset, const Principal& as, bool revalidate,
                                     Bytes cache_limit, std::uint32_t job) {
  return start({{"o", dataset}, as, {"test", job, 0, {}}, cache_limit, revalidate}).get();
}

std::shared_ptr<Replica> NodeParts::replica(const std::string& dataset, const WarmProgress& progress) const {
  return store->find({"o", dataset}, progress.generation.id);
}

namespace {

struct Looker {
  std::vector<std::string> lines;
  std::map<std::pair<dev_t, ino_t>, std::string> first_names;

  static std::string content(int at, const char* name) {
    const UniqueFd fd(openat(at, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    if (!fd) return errno == EACCES ? "refused" : std::string("error ") + std::to_string(errno);
    XXH3_state_t* state = XXH3_createState();
    XXH3_64bits_reset(state);
    std::vector<char> buffer(1 << 20);
    off_t at_offset = 0;
    struct stat st {};
    fstat(fd.get(), &st);
    // Holes are hashed as their length: gigabytes of zeros would take long.
    while (at_offset < st.st_size) {
      const off_t data = lseek(fd.get(), at_offset, SEEK_DATA);
      if (data < 0) break;
      const off_t block = data / static_cast<off_t>(buffer.size()) * static_cast<off_t>(buffer.size());
      const ssize_t got = pread(fd.get(), buffer.data(), buffer.size(), block);
      if (got <= 0) break;
      const bool zeros = std::all_of(buffer.begin(), buffer.begin() + got, [](char c) { return c == 0; });
      if (!zeros) {
        XXH3_64bits_update(state, &block, sizeof block);
        XXH3_64bits_update(state, buffer.data(), static_cast<std::size_t>(got));
      }
      at_offset = block + got;
    }
    const auto hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return std::to_string(hash);
  }

  static std::string xattrs(int at, const char* name) {
    const UniqueFd fd(openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
    std::string names(65536, '\0'), value(65536, '\0');
    const ssize_t size = listxattr(link.c_str(), names.data(), names.size());
    std::vector<std::string> found;
    for (ssize_t i = 0; i < size;) {
      const std::string one = names.c_str() + i;
      i += static_cast<ssize_t>(one.size()) + 1;
      if (one.starts_with("security.") || one.starts_with("trusted.")) continue;
      const ssize_t length = getxattr(link.c_str(), one.c_str(), value.data(), value.size());
      if (length >= 0) found.push_back(one + "=" + percent_encode(value.substr(0, static_cast<std::size_t>(length))));
    }
    std::sort(found.begin(), found.end());
    std::string out;
    for (const auto& one : found) out += " " + one;
    return out;
  }

  void entry(int at, const std::string& name, const std::string& shown) {
    struct stat st {};
    if (fstatat(at, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      lines.push_back(printable(shown) + " unknown " + std::to_string(errno));
      return;
    }
    std::string line = printable(shown) + " " + std::to_string(st.st_mode) + " " + std::to_string(st.st_uid) + ":" +
                       std::to_string(st.st_gid) + " " + std::to_string(st.st_mtim.tv_sec) + "." +
                       std::to_string(st.st_mtim.tv_nsec);
    if (!S_ISDIR(st.st_mode)) line += " " + std::to_string(st.st_size);
    if (S_ISLNK(st.st_mode)) {
      char target[4096];
      const ssize_t length = readlinkat(at, name.c_str(), target, sizeof target);
      line += " -> " + printable(std::string_view(target, static_cast<std::size_t>(std::max<ssize_t>(0, length))));
    } else {
      line += xattrs(at, name.c_str());
    }
    if (S_ISREG(st.st_mode)) {
      // A group may have names that the looker does not see: what counts is which of the seen ones are one file.
      const auto first = first_names.try_emplace({st.st_dev, st.st_ino}, shown).first->second;
      if (first != shown) line += " same-as " + printable(first);
      line += " " + content(at, name.c_str());
    }
    lines.push_back(std::move(line));
    if (S_ISDIR(st.st_mode)) directory(at, name, shown);
  }

  void directory(int at, const std::string& name, const std::string& shown) {
    DIR* dir = nullptr;
    UniqueFd fd(openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (fd) dir = fdopendir(fd.release());
    if (dir == nullptr) {
      lines.push_back(printable(shown) + "/ refused");
      return;
    }
    std::vector<std::string> names;
    while (const dirent* one = readdir(dir))
      if (std::string_view(one->d_name) != "." && std::string_view(one->d_name) != "..")
        names.emplace_back(one->d_name);
    std::sort(names.begin(), names.end());
    for (const auto& one : names) entry(dirfd(dir), one, shown + "/" + one);
    closedir(dir);
  }
};

}  // namespace

std::string difference_to(const std::string& origin, const NodeParts& node) {
  const auto replica = node.store->newest_complete({"o", "ds"});
  if (!replica) return "not complete";
  const auto mounts = replica->mounts(1, {});
  if (!mounts) return mounts.error().message;
  return difference(look("/proc/self/fd/" + std::to_string(mounts->front().get()), nullptr), look(origin, nullptr));
}

void as_user(const Principal& as, const std::function<void()>& what) {
  std::thread([&] {
    ASSERT_TRUE(drop_reader_capabilities());
    ASSERT_TRUE(become(normalize(as)));
    what();
  }).join();
}

std::vector<std::string> look(const std::string& root, const Principal* as) {
  // The way to the root is not what is looked at: it is opened with all rights.
  const UniqueFd fd(open(root.c_str(), O_PATH | O_CLOEXEC));
  EXPECT_TRUE(fd) << root;
  Looker looker;
  const auto go = [&] {
    struct stat st {};
    fstat(fd.get(), &st);
    if (S_ISDIR(st.st_mode)) {
      looker.entry(fd.get(), ".", "");
    } else {
      looker.lines.push_back(Looker::content(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd.get())).c_str()));
    }
  };
  if (as != nullptr) {
    as_user(*as, go);
  } else {
    go();
  }
  return looker.lines;
}

std::string difference(const std::vector<std::string>& got, const std::vector<std::string>& want) {
  std::string out;
  int lines = 0;
  const auto add = [&](const char* mark, const std::string& line) {
    if (++lines <= 8) out += mark + (line.size() > 300 ? "..." + line.substr(line.size() - 300) : line) + "\n";
  };
  for (const auto& line : got)
    if (std::find(want.begin(), want.end(), line) == want.end()) add("+ ", line);
  for (const auto& line : want)
    if (std::find(got.begin(), got.end(), line) == got.end()) add("- ", line);
  if (want.empty()) out += "nothing to compare with\n";
  return out;
}

void write_file(const std::string& path, std::string_view content) {
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  ASSERT_TRUE(out) << path;
}

std::string random_bytes(std::size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; i += 8) {
    const std::uint64_t word = random();
    for (std::size_t b = 0; b < 8 && i + b < size; ++b) out[i + b] = static_cast<char>(word >> (8 * b));
  }
  return out;
}

}  // namespace atlas::agent
