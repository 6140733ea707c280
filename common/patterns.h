#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace atlas {

/// invalid_argument unless the text is a pattern: "*.tmp" (a name, at any depth), "run/*/log" (a path below the root),
/// "checkpoints/" (directories only). "*", "?" and "[...]" never match a slash.
[[nodiscard]] Status check_pattern(std::string_view text);

/// Names and paths of a tree that somebody has picked. Immutable.
class Patterns {
 public:
  Patterns() = default;
  /// Of patterns that check_pattern() has passed.
  explicit Patterns(const std::vector<std::string>& texts);
  [[nodiscard]] bool empty() const { return items_.empty(); }
  /// `path` is below the root, without a leading slash.
  [[nodiscard]] bool match(std::string_view path, bool is_directory) const;
  /// Does the path of a file, or a directory above it, match?
  [[nodiscard]] bool match_or_below(std::string_view path) const;

 private:
  struct Item {
    std::string text;
    bool directory = false;  ///< only those
    bool whole = false;      ///< the path counts, not the last name
  };
  std::vector<Item> items_;
};

}  // namespace atlas
