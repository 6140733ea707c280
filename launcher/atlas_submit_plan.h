#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config.h"
#include "launcher/atlas_submit_args.h"

namespace atlas {

/// What will be submitted: everything merged and checked.
struct SubmitPlan {
  Request request;                          ///< command line, directives and .atlas.toml together
  SbatchView view;                          ///< command line over directives
  std::vector<std::string> sbatch;          ///< arguments of sbatch
  std::optional<std::string> stdin_script;  ///< a script that came on standard input: sbatch must be given it again
  std::vector<std::string> warnings;
};

/// Reads the script (or standard input, when there is neither script nor --wrap), its directives and, if no dataset is
/// named anywhere, .atlas.toml in the working directory; checks what can be checked here. `config` may be absent: then
/// origin paths cannot be suggested. Every error is the user's to mend (exit 2).
[[nodiscard]] Result<SubmitPlan> plan_submit(const SubmitArgs& args, const std::optional<Config>& config);

/// datasets, cache, warm and locality of an .atlas.toml. Errors name file:line:column.
[[nodiscard]] Result<AtlasOptions> parse_project_file(std::string_view text, const std::string& name);

/// The message for a job that names no dataset anywhere: the paths found, with line numbers, and the command to type.
[[nodiscard]] std::string no_dataset_message(std::string_view script, std::string_view script_name,
                                             const std::vector<std::string>& roots, const SubmitArgs& args);

/// The request with symlinks of its paths resolved, as the plugin does at submission; what cannot be resolved within
/// `patience` stays as it is.
[[nodiscard]] Request resolved(const Request& request, milliseconds patience);

/// Error when --output or --error lies inside one of the datasets (given by path), else a warning when --chdir does.
/// `cwd` is canonical. Symlinks count only as far as they can be followed within `patience` per path.
[[nodiscard]] Status check_outputs(const Request& request, const SbatchView& view, const std::string& cwd,
                                   milliseconds patience, std::vector<std::string>& warnings);

}  // namespace atlas
