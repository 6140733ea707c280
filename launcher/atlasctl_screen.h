#pragma once
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "common/result.h"

namespace atlas::ctl {

/// The terminal, drawn over and over. One at a time; the terminal is itself again when it goes, also when a signal ends
/// the program. The only user of curses.
class Screen {
 public:
  /// Of standard input and output. Fails when the terminal cannot be drawn on.
  [[nodiscard]] static Result<std::unique_ptr<Screen>> open();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  struct Line {
    std::string text;  ///< what does not fit is cut
    bool title = false;
  };
  void draw(const std::vector<Line>& lines);
  [[nodiscard]] std::size_t height() const;

  static constexpr int kNone = -1, kLeft = -2, kRight = -3, kOther = -4;
  /// The next key that is pressed (a character, or one of these), or kNone after `patience`.
  [[nodiscard]] int key(std::chrono::milliseconds patience);

 private:
  explicit Screen(void* terminal) : terminal_(terminal) {}
  void* terminal_;  ///< curses' own
};

}  // namespace atlas::ctl
