#pragma once
#include <memory>
#include <string>

#include "controller/slurm/slurm_port.h"

namespace atlas {

/// SlurmPort over libslurm, speaking to the slurmctld that SLURM_CONF (or Slurm's default) names. One per process:
/// libslurm keeps its own globals.
///
/// How long a call may take is Slurm's affair: with slurmctld gone, connecting is retried for MessageTimeout (10 s by
/// default), and an answer is awaited for MessageTimeout; so at worst about twice that, and again per backup
/// controller. Whoever needs less runs under an alarm of its own.
class LibslurmPort final : public SlurmPort {
 public:
  /// Reads Slurm's configuration. libslurm ends the process, with a message on stderr, when there is none.
  [[nodiscard]] static std::unique_ptr<LibslurmPort> create();
  ~LibslurmPort() override;
  LibslurmPort(const LibslurmPort&) = delete;
  LibslurmPort& operator=(const LibslurmPort&) = delete;

  [[nodiscard]] Result<std::string> cluster_name() override;
  /// Asks only for what changed since the last call: nothing changed = three short answers.
  [[nodiscard]] Result<QueueSnapshot> load() override;
  [[nodiscard]] Result<JobRecord> load_job(std::uint32_t job_id) override;
  /// One slurm_update_job; for an array that waits as a whole, its base id updates all tasks not split out. Pinning a
  /// job of several nodes that could start at any moment takes two: it is parked first (begin time 10 s ahead),
  /// because req_nodes on a job that has just started would shrink it.
  [[nodiscard]] Status apply(const JobPatch& patch) override;

 private:
  struct Cache;
  LibslurmPort();
  std::unique_ptr<Cache> cache_;
  std::string cluster_name_;
};

}  // namespace atlas
