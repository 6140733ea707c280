#pragma once
#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "common/request.h"
#include "common/result.h"
#include "spank-plugin/plugin_args.h"

namespace atlas::spank {

enum class OptionKey { dataset = 1, cache, warm, locality, on_change, io_limit };

/// Which command the options were given to.
enum class Client { sbatch, interactive };  ///< interactive: srun and salloc

/// Collects the Atlas options of one submit and checks each as it comes, so that a bad one ends the command.
/// Reads the configuration at the first option, never before.
class Submission {
 public:
  /// `uid`: who submits; root's jobs are refused.
  Submission(PluginArgs args, uid_t uid) : args_(std::move(args)), uid_(uid) {}

  /// One occurrence of an option; later scalars win, datasets add up. The error is for the user. `existing` = a step
  /// of a running job, whose options change nothing: only their form is checked.
  [[nodiscard]] Status add(OptionKey key, std::string_view value, Client client, bool existing);

  struct Packed {
    std::string request;                ///< see common/request.h
    std::vector<std::string> warnings;  ///< for the user
  };
  /// The request of all options so far; nullopt when there was none. Starts afresh afterwards.
  [[nodiscard]] Result<std::optional<Packed>> finish(std::string_view working_directory);

 private:
  [[nodiscard]] Status ready();
  [[nodiscard]] Status add_dataset(std::string_view value, bool existing);

  PluginArgs args_;
  uid_t uid_;
  std::optional<Config> config_;
  Request request_;
  bool used_ = false;
  std::vector<std::string> warnings_;
};

/// True for a variable that a job inherited from the job that submitted it and that speaks of that one's request:
/// it must not reach a new job. `options` = only those by which Slurm hands on our options.
[[nodiscard]] bool is_inherited(std::string_view variable, bool options_only);
/// Removes them from this process's environment.
void forget_inherited(bool options_only);
/// True when the environment names a job that an srun would make a step of.
[[nodiscard]] bool inside_allocation();

}  // namespace atlas::spank
