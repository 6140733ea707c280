#include "common/metrics/open_metrics.h"

#include <array>
#include <charconv>
#include <cmath>

namespace atlas {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 64> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end};
}

}  // namespace

void OpenMetrics::begin(std::string_view name, std::string_view kind, std::string_view help) {
  const std::string of = std::string(name) + " ";
  text_ += "# TYPE " + of + std::string(kind) + "\n";
  for (const std::string_view unit : {"bytes", "seconds"})
    if (name.ends_with("_" + std::string(unit))) text_ += "# UNIT " + of + std::string(unit) + "\n";
  text_ += "# HELP " + of + escaped(help) + "\n";
  sample_ = std::string(name) + (kind == "counter" ? "_total" : "");
}

void OpenMetrics::add(Labels labels, double value) {
  text_ += sample_;
  char before = '{';
  for (const auto& [name, is] : labels) {
    text_ += before + std::string(name) + "=\"" + escaped(is) + '"';
    before = ',';
  }
  if (labels.size() != 0) text_ += '}';
  text_ += " " + number(value) + "\n";
}

std::string OpenMetrics::end() {
  return std::move(text_) + "# EOF\n";
}

}  // namespace atlas
