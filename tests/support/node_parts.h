#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "cache-agent/fetch/fetcher.h"
#include "cache-agent/origin/posix_origin.h"
#include "cache-agent/store/store.h"
#include "cache-agent/warm/warm_engine.h"

namespace atlas::agent {

/// A directory of its own, gone with the object.
class TempDir {
 public:
  explicit TempDir(const std::filesystem::path& below = std::filesystem::temp_directory_path());
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] std::string path(const std::string& name = "") const {
    return name.empty() ? path_ : path_ + "/" + name;
  }

 private:
  std::string path_;
};

/// Everything of an agent below its edges, on real files. One origin named "o", tiers as told.
struct NodeParts {
  struct Options {
    std::string origin;
    std::vector<TierOptions> tiers;
    std::string boot = "boot-1";
    std::string node = "n1";
    unsigned operations = 48;
    std::chrono::milliseconds revalidate{60'000};
    std::chrono::milliseconds brief_walk{2'000};
    std::chrono::milliseconds settle{0};
    Bytes chunk{32 * kMiB.count};
    TierProbe::Options probe{};
    Governor* governor = nullptr;  ///< nullptr = unlimited
    std::uint64_t equal_files_among = StoreOptions{}.equal_files_among;
  };
  explicit NodeParts(const Options& options);

  /// Warms and waits for the end.
  Result<WarmProgress> warm(const std::string& dataset, const Principal& as, bool revalidate = false,
                            Bytes cache_limit = {}, std::uint32_t job = 1);
  std::future<Result<WarmProgress>> start(WarmRequest request, WarmEngine::OnProgress progress = {});
  [[nodiscard]] std::shared_ptr<Replica> replica(const std::string& dataset, const WarmProgress& progress) const;

  SystemClock clock;
  UnlimitedGovernor unlimited;
  PosixOrigin origin;
  std::unique_ptr<Store> store;
  ThreadExecutor writers{4};
  std::unique_ptr<Fetcher> fetcher;
  std::unique_ptr<WarmEngine> engine;
};

/// What a job can see of a tree: one line per entry with type, mode, owner, size, mtime (ns), link target, xattrs and
/// ACLs, hard link group, and the content's hash where `as` may read it ("refused" where not). Sizes of directories are
/// left out. `root` is a path or "/proc/self/fd/N" of a detached mount; a principal makes the look happen with his
/// rights only.
[[nodiscard]] std::vector<std::string> look(const std::string& root, const Principal* as);

/// What differs between two looks, the first few lines of it; "" = nothing.
[[nodiscard]] std::string difference(const std::vector<std::string>& got, const std::vector<std::string>& want);

/// What root sees differ between the newest complete replica of "ds" and a directory; "" = nothing.
[[nodiscard]] std::string difference_to(const std::string& origin, const NodeParts& node);

/// Runs something on a thread with that principal's rights.
void as_user(const Principal& as, const std::function<void()>& what);

inline Principal user(std::uint32_t id) {
  return {id, id, {id}};
}

void write_file(const std::string& path, std::string_view content);
std::string random_bytes(std::size_t size, unsigned seed);

}  // namespace atlas::agent
