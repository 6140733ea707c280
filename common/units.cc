#include "common/units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <vector>

namespace atlas {
namespace {

constexpr std::string_view kSizeSuffixes = "KMGTP";

tl::unexpected<Error> bad_size(std::string_view text) {
  return fail(Code::invalid_argument,
              "'" + std::string(text) + "' is not a size: use a number with K, M, G or T (powers of 1024), e.g. 200G");
}
tl::unexpected<Error> bad_duration(std::string_view text) {
  return fail(
      Code::invalid_argument,
      "'" + std::string(text) + "' is not a time: use e.g. 90s, 30m, 2h, 7d, or Slurm's MM:SS, HH:MM:SS, D-HH:MM:SS");
}

/// Parses all of `text` as an unsigned number; nullopt otherwise.
std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<Bytes> parse_size(std::string_view text) {
  std::string_view digits = text;
  if (digits.size() > 2 && (digits.substr(digits.size() - 2) == "iB")) {
    digits.remove_suffix(2);
    if (std::string_view("0123456789.").find(digits.back()) != std::string_view::npos) return bad_size(text);
  } else if (digits.size() > 1 && (digits.back() == 'B' || digits.back() == 'b')) {
    digits.remove_suffix(1);
  }
  unsigned shift = 0;
  if (!digits.empty()) {
    const char upper = static_cast<char>(digits.back() & ~0x20);
    if (const auto at = kSizeSuffixes.find(upper); at != std::string_view::npos) {
      shift = 10 * (static_cast<unsigned>(at) + 1);
      digits.remove_suffix(1);
    }
  }
  const auto dot = digits.find('.');
  const auto whole = whole_number(digits.substr(0, dot));
  if (!whole) return bad_size(text);
  if (*whole > (std::uint64_t{std::numeric_limits<std::int64_t>::max()} >> shift))
    return fail(Code::out_of_range, "'" + std::string(text) + "' is larger than any file system");
  std::uint64_t count = *whole << shift;
  if (dot != std::string_view::npos) {
    const auto fraction = digits.substr(dot + 1);
    const auto part = whole_number(fraction);
    if (!part || fraction.size() > 9 || shift == 0) return bad_size(text);
    count += static_cast<std::uint64_t>(
        std::llround(static_cast<double>(*part) / std::pow(10.0, static_cast<double>(fraction.size())) *
                     static_cast<double>(std::uint64_t{1} << shift)));
  }
  return Bytes{count};
}

std::string format_size(Bytes bytes) {
  if (bytes.count < 1024) return std::to_string(bytes.count);
  double value = static_cast<double>(bytes.count);
  std::size_t suffix = 0;
  value /= 1024;
  while (value >= 999.5 && suffix + 1 < kSizeSuffixes.size()) value /= 1024, ++suffix;
  std::array<char, 32> out{};
  const int digits = value < 9.95 ? 1 : 0;
  const int n = std::snprintf(out.data(), out.size(), "%.*f", digits, value);
  std::string text(out.data(), static_cast<std::size_t>(n));
  if (text.size() > 2 && text.substr(text.size() - 2) == ".0") text.resize(text.size() - 2);
  return text + kSizeSuffixes[suffix];
}

std::string exact_size(Bytes bytes) {
  std::uint64_t value = bytes.count;
  std::string suffix;
  for (std::size_t i = 0; value != 0 && value % 1024 == 0 && i < kSizeSuffixes.size(); ++i)
    value /= 1024, suffix = kSizeSuffixes[i];
  return std::to_string(value) + suffix;
}

namespace {

/// Slurm's colon forms: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS.
std::optional<std::uint64_t> slurm_seconds(std::string_view text) {
  std::uint64_t days = 0;
  const auto dash = text.find('-');
  if (dash != std::string_view::npos) {
    const auto d = whole_number(text.substr(0, dash));
    if (!d || *d > 100000) return std::nullopt;
    days = *d;
    text.remove_prefix(dash + 1);
  }
  std::vector<std::uint64_t> parts;
  while (true) {
    const auto colon = text.find(':');
    const auto part = whole_number(text.substr(0, colon));
    if (!part || *part > 100000000 || parts.size() == 3) return std::nullopt;
    parts.push_back(*part);
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
  }
  parts.resize(3, 0);
  if (dash != std::string_view::npos) return ((days * 24 + parts[0]) * 60 + parts[1]) * 60 + parts[2];
  return std::nullopt;
}

std::optional<std::uint64_t> clock_seconds(std::string_view text) {
  std::uint64_t total = 0;
  int count = 0;
  while (true) {
    const auto colon = text.find(':');
    const auto part = whole_number(text.substr(0, colon));
    if (!part || *part > 100000000 || ++count > 3) return std::nullopt;
    total = total * 60 + *part;
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
  }
  return count == 1 ? total * 60 : total;  // a lone number is minutes, as for sbatch --time
}

}  // namespace

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  using std::chrono::milliseconds;
  struct Unit {
    std::string_view suffix;
    std::uint64_t ms;
  };
  static constexpr std::array<Unit, 5> kUnits = {
      {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}}};
  for (const auto& unit : kUnits) {
    if (text.size() <= unit.suffix.size() || !text.ends_with(unit.suffix)) continue;
    const auto value = whole_number(text.substr(0, text.size() - unit.suffix.size()));
    if (!value) continue;
    if (*value > 100ULL * 365 * 86400000 / unit.ms) return bad_duration(text);
    return milliseconds(static_cast<std::int64_t>(*value * unit.ms));
  }
  const auto seconds = text.find('-') == std::string_view::npos ? clock_seconds(text) : slurm_seconds(text);
  if (!seconds || *seconds > 100ULL * 365 * 86400) return bad_duration(text);
  return milliseconds(static_cast<std::int64_t>(*seconds * 1000));
}

std::string format_duration(std::chrono::milliseconds duration) {
  const auto ms = duration.count();
  if (ms < 0) return "-" + format_duration(-duration);
  std::array<char, 48> out{};
  const auto s = ms / 1000;
  if (ms < 1000) {
    std::snprintf(out.data(), out.size(), "%lldms", static_cast<long long>(ms));
  } else if (s < 10 && ms % 1000 >= 50) {
    std::snprintf(out.data(), out.size(), "%.1fs", static_cast<double>(ms) / 1000.0);
  } else if (s < 60) {
    std::snprintf(out.data(), out.size(), "%llds", static_cast<long long>(s));
  } else if (s < 3600) {
    std::snprintf(out.data(), out.size(), "%lldm%02llds", static_cast<long long>(s / 60),
                  static_cast<long long>(s % 60));
  } else if (s < 86400) {
    std::snprintf(out.data(), out.size(), "%lldh%02lldm", static_cast<long long>(s / 3600),
                  static_cast<long long>(s / 60 % 60));
  } else {
    std::snprintf(out.data(), out.size(), "%lldd%02lldh", static_cast<long long>(s / 86400),
                  static_cast<long long>(s / 3600 % 24));
  }
  return out.data();
}

}  // namespace atlas
