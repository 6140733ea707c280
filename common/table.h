#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace atlas {

/// Columns a terminal needs for a UTF-8 text: combining marks take none, East Asian wide characters and emoji two.
[[nodiscard]] std::size_t display_width(std::string_view text);

/// Rows of text under titles, for people or for scripts. Cells are bytes as they come: render() makes them printable.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string title;
    Align align = Align::left;  ///< right for numbers
  };
  struct Style {
    bool header = true;     ///< --noheader: false
    bool parsable = false;  ///< --parsable2: '|' between cells, nothing padded; '|', '\' and control bytes as \xNN
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// One cell per column; missing cells are empty, surplus cells are dropped.
  void add(std::vector<std::string> cells);
  [[nodiscard]] std::size_t rows() const { return rows_.size(); }
  /// Every line ends in a newline; no line ends in spaces. Without rows only the header, if wanted.
  [[nodiscard]] std::string render(Style style) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace atlas
