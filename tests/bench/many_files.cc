// many-files COUNT DIRECTORY: what an agent's parts need for a dataset of so many files, as JSON. Each measurement is a
// process of its own, so that none sees another's memory.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "common/memory.h"
#include "tests/support/node_parts.h"
#include "tests/support/view_job.h"

namespace {

using namespace atlas;
using namespace atlas::agent;

constexpr unsigned kPerDirectory = 1000;
constexpr Bytes kQuota{std::uint64_t{1} << 40};

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "many-files: %s\n", what.c_str());
  std::exit(1);
}

/// Resident memory of this process: now, or at its highest.
double memory(const char* key) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line))
    if (line.starts_with(key)) return std::strtod(line.c_str() + std::string(key).size() + 1, nullptr) * 1024;
  die("no memory figure in /proc/self/status");
}

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

void make(const std::string& origin, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    const std::string directory = origin + "/ds/" + std::to_string(i / kPerDirectory);
    if (i % kPerDirectory == 0) std::filesystem::create_directories(directory);
    const std::string path = directory + "/sample-" + std::to_string(i) + ".wav";
    const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, "data", 4) != 4 || close(fd) != 0) die("cannot write " + path);
  }
}

struct Node {
  explicit Node(const std::string& base) {
    NodeParts::Options options;
    options.origin = base + "/origin";
    options.tiers = {{"bench", base + "/tier", kQuota}};
    began = std::chrono::steady_clock::now();
    parts = std::make_unique<NodeParts>(options);
    took = seconds_since(began);
  }
  std::chrono::steady_clock::time_point began;
  std::unique_ptr<NodeParts> parts;
  double took = 0;
};

void warm(const std::string& base, unsigned count) {
  Node node(base);
  const double before = memory("VmRSS:");
  const auto done = node.parts->warm("ds", user(0));
  if (!done) die(done.error().message);
  if (done->files_done != count) die("not all files were warmed");
  const double peak = memory("VmHWM:");
  std::printf("\"warming_bytes_per_file\": %.1f, \"complete_bytes_per_file\": %.1f, ", (peak - before) / count,
              (memory("VmRSS:") - before) / count);
}

void restart(const std::string& base, unsigned) {
  const Node node(base);
  if (!node.parts->store->newest_complete({"o", "ds"})) die("the replica is not there after a restart");
  std::printf("\"start_seconds\": %.3f, ", node.took);
}

/// Entries of a tree as a job lists it, through a view that is not complete.
void list(const std::string& base, unsigned count) {
  std::filesystem::create_directory(base + "/tier-of-part");
  NodeParts::Options options;
  options.origin = base + "/origin";
  options.tiers = {{"bench", base + "/tier-of-part", kQuota}};
  NodeParts part(options);
  ViewJobs jobs(0);
  const double before = memory("VmRSS:");
  const auto job = jobs.start(part, Bytes{1 << 20}, std::chrono::seconds(60));
  if (!job.mount) die("no view");
  const double partial = (memory("VmRSS:") - before) / count;
  const auto began = std::chrono::steady_clock::now();
  std::uint64_t entries = 0;
  for (unsigned i = 0; i * kPerDirectory < count; ++i) {
    DIR* directory = opendir(job.path(std::to_string(i)).c_str());
    if (directory == nullptr) die("opendir failed in the view");
    while (const dirent* entry = readdir(directory)) entries += entry->d_name[0] != '.';
    closedir(directory);
  }
  if (entries != count) die("the view lists " + std::to_string(entries) + " entries");
  std::printf("\"listed_per_second\": %.0f, \"partial_bytes_per_file\": %.1f", count / seconds_since(began), partial);
}

void in_a_process(void (*what)(const std::string&, unsigned), const std::string& base, unsigned count) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    what(base, count);
    std::fflush(stdout);
    _exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) die("a measurement failed");
}

}  // namespace

int main(int argc, char** argv) {
  const auto count = argc == 3 ? static_cast<unsigned>(std::strtoul(argv[1], nullptr, 10)) : 0;
  if (count == 0 || geteuid() != 0) {
    std::fprintf(stderr, "usage, as root: many-files COUNT DIRECTORY\n");
    return 2;
  }
  settle_allocator();
  const std::string base = argv[2];
  std::filesystem::create_directories(base + "/origin/ds");
  std::filesystem::create_directory(base + "/tier");
  make(base + "/origin", count);
  std::printf("{");
  in_a_process(warm, base, count);
  in_a_process(restart, base, count);
  in_a_process(list, base, count);
  std::printf("}\n");
  return 0;
}
