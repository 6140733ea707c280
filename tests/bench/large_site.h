#pragma once
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/support/staging_world.h"

// A site of thousands of nodes around the controller's own staging, registry and catalogue: Slurm, the agents and the
// clock are scripted, and only what runs on the strand is charged.
namespace atlas::bench {

/// Of this thread: other programs on the machine do not count.
[[nodiscard]] double cpu_ms();

/// Runs tasks on the caller's thread when told, and counts their CPU time.
class CountingExecutor final : public Executor {
 public:
  explicit CountingExecutor(const test::FakeClock& clock) : clock_(clock) {}
  void post(Task task) override { ready_.push_back(std::move(task)); }
  void post_after(std::chrono::milliseconds delay, Task task) override {
    later_.emplace(clock_.now() + delay, std::move(task));
  }
  /// Everything that is due; true if there was anything.
  bool settle();
  [[nodiscard]] double spent_ms() const { return spent_; }

 private:
  const test::FakeClock& clock_;
  std::deque<Task> ready_;
  std::multimap<SteadyTime, Task> later_;
  double spent_ = 0;
};

/// A queue that is handed out as it is.
class SiteSlurm final : public SlurmPort {
 public:
  explicit SiteSlurm(const Clock& clock) : clock_(clock) {}
  Result<std::string> cluster_name() override { return "site"; }
  Result<QueueSnapshot> load() override;
  Result<JobRecord> load_job(std::uint32_t id) override;
  Status apply(const JobPatch& patch) override;

  std::map<std::uint32_t, JobRecord> jobs;
  std::vector<NodeRecord> nodes;
  std::vector<PartitionRecord> partitions;

 private:
  const Clock& clock_;
};

struct SiteSize {
  std::size_t nodes = 10000, datasets = 1000, pending = 5000;
};

/// Every node but one in a hundred runs other people's jobs; each dataset is held by one node in fifty; users submit
/// jobs of 1 to 16 nodes that wait for their data.
class LargeSite {
 public:
  explicit LargeSite(const SiteSize& size);
  ~LargeSite();

  /// sbatch and its burst buffer hook. Returns the CPU milliseconds the controller took for the hook.
  double submit();
  /// So long passes; returns the CPU milliseconds of the controller.
  double pass(std::chrono::milliseconds time);
  /// Some jobs end, those that were given these nodes start there.
  void churn(std::size_t ending);
  /// The warm-ups that have been asked for are through.
  void finish_warmups();
  [[nodiscard]] std::size_t pending() const;
  [[nodiscard]] std::map<std::string, std::size_t> phases() const;
  [[nodiscard]] Staging& staging() { return *staging_; }

 private:
  void run();
  [[nodiscard]] std::string node_name(std::size_t i) const;
  void fill_nodes();
  void connect_agents();

  SiteSize size_;
  std::mt19937_64 random_{1};  // NOLINT: the same every time
  test::FakeClock clock_;
  CountingExecutor strand_{clock_}, slurm_thread_{clock_};
  SiteSlurm slurm_{clock_};
  test::FakeAgents agents_;
  Config config_;
  std::filesystem::path directory_;
  std::unique_ptr<Users> users_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<Datasets> datasets_;
  std::unique_ptr<Staging> staging_;
  std::uint32_t next_job_ = 1;
  std::vector<std::uint32_t> running_;
  std::vector<std::uint64_t> streams_;
};

}  // namespace atlas::bench
