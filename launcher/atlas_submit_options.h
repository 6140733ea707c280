#pragma once
#include <optional>
#include <string_view>
#include <vector>

namespace atlas {

/// Whether an option is followed by a value: none; required = "--x v" or "--x=v"; optional = "--x=v" only.
enum class Takes { none, required, optional };

/// How sbatch (22.05 to 24.11) reads one of its long options, written without the dashes. As getopt does, an
/// unambiguous beginning stands for the whole name ("nodel" = "nodelist"); `name` gets the full one. nullopt: not an
/// option of sbatch (one of another SPANK plugin, perhaps), or ambiguous.
struct SbatchOption {
  std::string_view name;
  Takes takes = Takes::none;
};
[[nodiscard]] std::optional<SbatchOption> find_sbatch_option(std::string_view long_name);
/// The same for a short option; its name is that of the long form.
[[nodiscard]] std::optional<SbatchOption> find_sbatch_option(char letter);
/// All of them, for the test that compares the table with the sbatch installed here.
[[nodiscard]] const std::vector<SbatchOption>& sbatch_options();

}  // namespace atlas
