#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cache-agent/fetch/governor.h"
#include "cache-agent/job_io/job_cgroups.h"
#include "cache-agent/job_io/storage_counters.h"
#include "common/mounts.h"

namespace atlas::agent {

/// What jobs read from origins past Atlas. It cannot be held back from user space, but it can be measured, a little
/// each second, and charged to whom Atlas charges what it reads for them.
///
/// The node's client counts what came from an origin: what Atlas did not read of it others have. Which of it is a job's
/// nobody counts. So it is divided among the jobs by what the kernel had to fetch from storage for their processes, and
/// none pays more than that. Where the kernel counts a job's reads by disk (see DiskLimits) those of other disks are
/// left out; elsewhere a job that reads its own disks may pay for a neighbour, but never for more than has been read
/// past Atlas. What a process has read within its last second is missing. Not thread-safe.
class Bypass {
 public:
  struct Origin {
    std::string name, root;
  };
  struct Options {
    std::vector<Origin> origins;
    std::vector<std::string> caches;  ///< directories of tiers and scratch: their file systems are no origin's own
    /// What Atlas has read of an origin so far.
    std::function<std::uint64_t(const std::string& origin)> through;
  };
  /// `governor` outlives it.
  Bypass(Options options, Governor& governor) : options_(std::move(options)), governor_(governor) {}

  /// A job all of whose reads are new.
  void begin(std::uint32_t job_id) { read_.try_emplace(job_id); }
  void forget(std::uint32_t job_id) { read_.erase(job_id); }

  struct Charged {
    std::uint32_t job_id = 0, uid = 0;
    std::string origin;
    std::uint64_t bytes = 0;
  };
  /// Measures and charges what has been read since the last time. `counted_in`: the file in which the kernel counts a
  /// job's reads by disk; "" if there is none.
  [[nodiscard]] std::vector<Charged> sample(const std::map<std::uint32_t, JobCgroup>& jobs,
                                            const std::function<std::string(std::uint32_t)>& counted_in);
  /// Origins whose reads the kernel does not count, or not apart from another origin's, as of the last sample.
  [[nodiscard]] const std::vector<std::string>& unmeasured() const { return unmeasured_; }

 private:
  struct Seen {
    StorageReads all;
    std::uint64_t through = 0;
    double past = 0;       ///< bytes that were read past Atlas, and are nobody's yet; below 0: Atlas was counted first
    double operation = 0;  ///< bytes of one, of late
  };
  /// What a job has read, and what of it is new.
  struct Job {
    std::map<pid_t, std::uint64_t> processes;
    std::map<std::string, std::uint64_t> disks;
    std::uint64_t fresh = 0;
    std::map<std::string, std::uint64_t> fresh_by_disk;  ///< of tiers and scratch, if the kernel counts them
    std::uint64_t charged = 0;                           ///< of fresh, for origins before this one
  };
  /// An origin's place in this second's mounts.
  struct Place {
    StorageReads all;
    std::string disk;  ///< that it is on; "" = a network's
  };

  [[nodiscard]] std::optional<Place> look(const Origin& origin, const std::vector<Mount>& mounts,
                                          const std::string& mountstats) const;
  static void look(Job& job, const JobCgroup& cgroup, const std::string& counted_in, const std::set<std::string>& disks,
                   bool known);
  [[nodiscard]] static std::uint64_t could_be(const Job& job, const std::string& disk);
  void divide(const Origin& origin, const std::string& disk, const std::map<std::uint32_t, JobCgroup>& jobs,
              std::vector<Charged>& out);

  const Options options_;
  Governor& governor_;
  std::map<std::string, Seen> seen_;   ///< by origin
  std::map<std::uint32_t, Job> read_;  ///< by job
  std::vector<std::string> unmeasured_;
};

}  // namespace atlas::agent
