#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/identity.h"
#include "launcher/ui.h"

namespace atlas {

/// One warm-up as it is shown.
struct ProgressRow {
  std::string dataset;  ///< for people; made printable when it is shown
  WarmProgress state;
};

/// A row for a terminal, at most `columns` wide: node, dataset, bar, share, bytes, files, rate, time left.
[[nodiscard]] std::string render_bar(const ProgressRow& row, std::size_t columns);
/// The same as a sentence without bar, for logs and pipes.
[[nodiscard]] std::string render_line(const ProgressRow& row);
[[nodiscard]] std::string_view name_of(WarmPhase phase);

/// Shows changing rows: on a terminal a block of bars that is redrawn in place, elsewhere a line when a row's phase
/// changes and every few seconds while it moves. Not thread-safe. Writes through `sink` only.
class ProgressView {
 public:
  using Sink = std::function<void(std::string_view)>;
  ProgressView(Terminal terminal, const Clock& clock, Sink sink)
      : terminal_(terminal), clock_(clock), sink_(std::move(sink)) {}

  /// The rows as they are now; those of the call before are replaced.
  void show(const std::vector<ProgressRow>& rows);
  /// A line that stays, above the bars.
  void note(std::string_view line);
  /// Leaves the bars as they are; what comes next is written below them.
  void leave();

 private:
  struct Shown {
    WarmPhase phase = WarmPhase::none;
    SteadyTime at;
    Bytes bytes;
    std::uint64_t files = 0;
  };
  void show_lines(const std::vector<ProgressRow>& rows);
  [[nodiscard]] std::string erase() const;

  Terminal terminal_;
  const Clock& clock_;
  Sink sink_;
  std::vector<std::string> bars_;       ///< what stands on the terminal now
  std::map<std::string, Shown> shown_;  ///< per node and dataset, what was last said about it
};

}  // namespace atlas
