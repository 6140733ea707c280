#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/atlas_submit_args.h"

namespace atlas {

/// What a batch script asks of sbatch in its #SBATCH lines.
struct Directives {
  AtlasOptions atlas;
  SbatchView view;
};
/// Reads the #SBATCH lines as sbatch does: up to the first line that is neither blank nor a comment, with its quoting.
/// Errors of Atlas options start with "NAME:LINE: "; what only sbatch would refuse is left to sbatch.
[[nodiscard]] Result<Directives> read_directives(std::string_view script, std::string_view name);

/// A path below an origin that a script mentions.
struct Mention {
  std::size_t line = 0;
  std::string path;
};
/// Every mention of a path below one of the roots (a variable, a quote or a blank ends the path), each path once, in
/// order.
[[nodiscard]] std::vector<Mention> find_origin_paths(std::string_view script, const std::vector<std::string>& roots);

/// The file sbatch would read for a script's name: names with '.' or '/' in front as they are, others in the working
/// directory (--chdir, if given) and then in PATH. nullopt if there is none.
[[nodiscard]] std::optional<std::string> find_script(std::string_view name, const SbatchView& view);

/// A whole file; at most 64 MiB (sbatch itself takes 4).
[[nodiscard]] Result<std::string> read_whole_file(const std::string& path);
[[nodiscard]] Result<std::string> read_whole_fd(int fd, std::string_view what);

/// A word as a POSIX shell reads it back; left alone where it needs no quotes.
[[nodiscard]] std::string shell_word(std::string_view word);

}  // namespace atlas
