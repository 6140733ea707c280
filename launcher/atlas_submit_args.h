#pragma once
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/request.h"
#include "common/result.h"
#include "launcher/atlas_submit_options.h"

namespace atlas {

/// An option of atlas-submit itself; the table drives parsing and --help, and a test compares it with the manual.
struct SubmitOption {
  std::string_view name;  ///< without dashes
  Takes takes;
  std::string_view value;  ///< how the value is called in --help
  std::string_view help;
  bool for_plugin = false;  ///< also understood by sbatch, with "atlas-" in front
};
[[nodiscard]] const std::vector<SubmitOption>& submit_options();

/// The Atlas options of one source (a command line, a script's directives, .atlas.toml), checked.
struct AtlasOptions {
  std::vector<std::string> datasets;
  std::set<std::string, std::less<>> read_write;  ///< of them, those that the job writes to
  std::optional<Bytes> cache;
  std::optional<WarmMode> warm;
  std::optional<Locality> locality;
  std::optional<OnChange> on_change;
  std::optional<IoLimit> io_limit{};

  /// True if none was given.
  [[nodiscard]] bool empty() const {
    return datasets.empty() && !cache && !warm && !locality && !on_change && !io_limit;
  }
  /// Datasets of both; scalars of *this where it has them (it is the more specific source), else of `under`.
  [[nodiscard]] AtlasOptions over(const AtlasOptions& under) const;
  [[nodiscard]] Request request() const;
  /// "--atlas-dataset=/lustre/speech", ...: as sbatch and its SPANK plugin read them.
  [[nodiscard]] std::vector<std::string> for_sbatch() const;
  /// Sets one by its name ("dataset", "cache", "warm", "locality", "on-change", "io-limit"); errors name the option and
  /// how to write it.
  [[nodiscard]] Status set(std::string_view name, std::string_view value);
};

/// What sbatch's own options say, as far as atlas-submit needs to know. The last of repeated ones.
struct SbatchView {
  std::optional<std::string> output, error, chdir, nodes, partition, nodelist, exclude, wrap;

  void set(std::string_view name, std::string_view value);
  /// This source's values, else those of `under`.
  [[nodiscard]] SbatchView over(const SbatchView& under) const;
};

/// The command line taken apart.
struct SubmitArgs {
  AtlasOptions atlas;
  SbatchView view;
  std::vector<std::string>
      sbatch;  ///< everything that is not ours, in order, unchanged, the script and its arguments too
  std::optional<std::size_t> script;  ///< where in `sbatch` the script's name is; absent: --wrap or standard input
  std::string config;                 ///< --config
  bool explain = false, follow = false, json = false, help = false, version = false;
};

/// Takes argv (without the program's name) apart. Ours are only options before the script's name; what sbatch's options
/// take as value is skipped as such. invalid_argument for a bad value of ours.
[[nodiscard]] Result<SubmitArgs> split_submit_args(const std::vector<std::string>& argv);

/// Words of a directive line (as sbatch splits them) applied to the two; words that are no options are ignored.
[[nodiscard]] Status read_option_words(const std::vector<std::string>& words, AtlasOptions& atlas, SbatchView& view);

}  // namespace atlas
