#include "common/table.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "common/percent.h"

namespace atlas {
namespace {

struct Range {
  std::uint32_t first, last;
};
// The blocks that matter for file names and titles; what is missing shows up as a crooked line, nothing worse.
constexpr Range kZero[] = {{0x0300, 0x036f}, {0x0483, 0x0489}, {0x0591, 0x05bd}, {0x0610, 0x061a}, {0x064b, 0x065f},
                           {0x0e34, 0x0e3a}, {0x0e47, 0x0e4e}, {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x200b, 0x200f},
                           {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xfeff, 0xfeff}};
constexpr Range kWide[] = {{0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0x33ff},  {0x3400, 0x4dbf},
                           {0x4e00, 0x9fff},   {0xa000, 0xa4cf},   {0xac00, 0xd7a3},  {0xf900, 0xfaff},
                           {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},  {0x1f300, 0x1f64f},
                           {0x1f900, 0x1f9ff}, {0x20000, 0x2fffd}, {0x30000, 0x3fffd}};

template <std::size_t N>
bool in(const Range (&ranges)[N], std::uint32_t code) {
  return std::any_of(std::begin(ranges), std::end(ranges),
                     [code](const Range& r) { return code >= r.first && code <= r.last; });
}

/// A cell of --parsable2: no byte of it can be taken for a separator, and it can be decoded without guessing.
std::string parsable(std::string_view cell) {
  std::string out;
  for (const char c : cell) {
    if (c == '|') {
      out += "\\x7C";
    } else if (c == '\\') {
      out += "\\x5C";
    } else {
      out += c;
    }
  }
  return printable(out);
}

std::string line(const std::vector<std::string>& cells, const std::vector<Table::Column>& columns,
                 const std::vector<std::size_t>& widths) {
  std::string out;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (i > 0) out += "  ";
    const std::string padding(widths[i] - display_width(cells[i]), ' ');
    out += columns[i].align == Table::Align::right ? padding + cells[i] : cells[i] + padding;
  }
  out.erase(out.find_last_not_of(' ') + 1);
  return out + "\n";
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    std::uint32_t code = length == 1 ? lead : lead & (0xffU >> (length + 1));
    for (std::size_t k = 1; k < length && i + k < text.size(); ++k)
      code = code << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3fU);
    width += in(kZero, code) ? 0U : in(kWide, code) ? 2U : 1U;
    i += length;
  }
  return width;
}

void Table::add(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::render(Style style) const {
  std::vector<std::vector<std::string>> lines;
  if (style.header) {
    lines.emplace_back();
    for (const auto& column : columns_) lines.back().push_back(column.title);
  }
  for (const auto& row : rows_) {
    lines.emplace_back();
    for (const auto& cell : row) lines.back().push_back(style.parsable ? parsable(cell) : printable(cell));
  }
  std::string out;
  if (style.parsable) {
    for (const auto& cells : lines) {
      for (std::size_t i = 0; i < cells.size(); ++i) out += (i > 0 ? "|" : "") + cells[i];
      out += '\n';
    }
    return out;
  }
  std::vector<std::size_t> widths(columns_.size(), 0);
  for (const auto& cells : lines)
    for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], display_width(cells[i]));
  for (const auto& cells : lines) out += line(cells, columns_, widths);
  return out;
}

}  // namespace atlas
