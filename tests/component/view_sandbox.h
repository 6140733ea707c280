#pragma once
#include <sys/stat.h>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cache-agent/view/local_handlers.h"
#include "cache-agent/view/view_source.h"
#include "spank-plugin/helper.h"

namespace atlas::testing {

inline constexpr std::uint32_t kUid = 20001, kGid = 20001;

/// Jobs whose datasets are directories or files of this machine, mounted for real.
class FakeSource final : public view::ViewSource {
 public:
  Result<view::JobViews> views_of(std::uint32_t job_id, const Principal& as, SteadyTime deadline) override;
  void record_attach(std::uint32_t job_id, const std::vector<view::AttachedView>& results) override;
  [[nodiscard]] bool knows(std::uint32_t job_id) const override {
    const std::lock_guard lock(mutex_);
    return !released_.contains(job_id);
  }
  /// The job is over, although its views were asked for a moment ago.
  void forget(std::uint32_t job_id) {
    const std::lock_guard lock(mutex_);
    released_.insert(job_id);
  }

  void set(const view::JobViews& job);
  void fail_with(std::optional<Error> error);
  [[nodiscard]] std::vector<view::AttachedView> recorded(std::uint32_t job_id) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::uint32_t, view::JobViews> jobs_;
  std::map<std::uint32_t, std::vector<view::AttachedView>> recorded_;
  std::optional<Error> error_;
  std::set<std::uint32_t> released_;
};

/// An origin, a store and an agent's local side in a directory of their own, in a mount namespace of the test process.
/// /origin/data holds "from the origin", its replica "from the node".
class Sandbox {
 public:
  Sandbox();
  ~Sandbox();

  [[nodiscard]] std::filesystem::path origin() const { return root_ / "origin"; }
  [[nodiscard]] std::filesystem::path store() const { return root_ / "store"; }
  [[nodiscard]] std::filesystem::path pins() const { return root_ / "run/ns"; }
  [[nodiscard]] std::string socket() const { return (root_ / "agent.sock").string(); }
  [[nodiscard]] const std::filesystem::path& root() const { return root_; }

  /// A dataset below the origin and, of the same path, its replica in the store; both with a file "where".
  void make_dataset(const std::string& path);
  [[nodiscard]] view::PlannedView view_of(const std::string& path) const;
  [[nodiscard]] view::JobViews job(std::uint32_t id, const std::vector<std::string>& paths) const;

  void start_agent(std::chrono::milliseconds patience = std::chrono::seconds(3));
  void stop_agent() { agent.reset(); }

  FakeSource source;
  SystemClock clock;
  std::unique_ptr<view::ViewServer> agent;

 private:
  std::filesystem::path root_;
};

/// atlas-attach as the plugin runs it.
[[nodiscard]] Result<spank::HelperAnswer> run_attach(const Sandbox& box, const std::string& verb, std::uint32_t job,
                                                     const std::vector<std::string>& more = {},
                                                     std::chrono::milliseconds limit = std::chrono::seconds(30));

/// What a process that entered the namespace reads, as the job's user; "errno N" when it cannot.
[[nodiscard]] std::string read_in(const UniqueFd& ns, const std::filesystem::path& path);
/// Writes there as the job's user: "written", or "errno N".
[[nodiscard]] std::string write_in(const UniqueFd& ns, const std::filesystem::path& path, const std::string& text);
[[nodiscard]] ino_t identity_of(const UniqueFd& ns);
[[nodiscard]] std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& text);
/// Mounts below a directory, in this process's mount namespace.
[[nodiscard]] std::vector<std::string> mounts_below(const std::filesystem::path& directory);

}  // namespace atlas::testing
