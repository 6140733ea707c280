#include "common/hostlist.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <tuple>

#include "common/percent.h"

namespace atlas {
namespace {

/// Longest run of digits taken as a number: 18 always fit into 64 bits.
constexpr std::size_t kMaxDigits = 18;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_byte(char c) {
  return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '-';
}

tl::unexpected<Error> bad(std::string_view part, std::string_view why) {
  return fail(Code::invalid_argument,
              "hostlist '" + printable(part.substr(0, 80)) + "': " + std::string(why) + "; write e.g. n[001-003,7],m1");
}
tl::unexpected<Error> too_many() {
  return fail(Code::out_of_range, "a hostlist may name at most " + std::to_string(kMaxHosts) + " hosts");
}

std::string padded(std::uint64_t value, std::size_t width) {
  std::string digits = std::to_string(value);
  if (digits.size() < width) digits.insert(0, width - digits.size(), '0');
  return digits;
}

Result<std::uint64_t> number(std::string_view text, std::string_view whole) {
  if (text.empty() || text.size() > kMaxDigits || !std::all_of(text.begin(), text.end(), is_digit))
    return bad(whole, "'" + printable(text) + "' is not a number");
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// The inside of one bracket, "001-003,7", as texts.
Result<std::vector<std::string>> expand_ranges(std::string_view inside, std::string_view whole) {
  std::vector<std::string> out;
  while (true) {
    const auto comma = inside.find(',');
    const auto range = inside.substr(0, comma);
    const auto dash = range.find('-');
    const auto low_text = range.substr(0, dash);
    const auto high_text = dash == std::string_view::npos ? low_text : range.substr(dash + 1);
    ATLAS_ASSIGN(const auto low, number(low_text, whole));
    ATLAS_ASSIGN(const auto high, number(high_text, whole));
    if (high < low) return bad(whole, "range '" + std::string(range) + "' runs backwards");
    if (high_text.size() < low_text.size())
      return bad(whole, "range '" + std::string(range) + "' changes its zero padding");
    if (high - low >= kMaxHosts || out.size() + (high - low) >= kMaxHosts) return too_many();
    for (auto value = low; value <= high; ++value) out.push_back(padded(value, low_text.size()));
    if (comma == std::string_view::npos) return out;
    inside.remove_prefix(comma + 1);
  }
}

/// One element between top-level commas, brackets included.
Result<std::vector<std::string>> expand_element(std::string_view element, std::string_view whole) {
  if (element.empty()) return bad(whole, "there is an empty name in it");
  std::vector<std::string> names{""};
  for (std::size_t at = 0; at < element.size();) {
    std::vector<std::string> parts;
    if (element[at] == '[') {
      const auto close = element.find(']', at);
      if (close == std::string_view::npos) return bad(whole, "a bracket is not closed");
      ATLAS_ASSIGN(parts, expand_ranges(element.substr(at + 1, close - at - 1), whole));
      at = close + 1;
    } else {
      const auto end = std::min(element.find('[', at), element.size());
      const auto literal = element.substr(at, end - at);
      if (!std::all_of(literal.begin(), literal.end(), is_name_byte))
        return bad(whole, "'" + printable(literal) + "' is not a host name");
      parts.emplace_back(literal);
      at = end;
    }
    if (names.size() * parts.size() > kMaxHosts) return too_many();
    std::vector<std::string> longer;
    longer.reserve(names.size() * parts.size());
    for (const auto& name : names)
      for (const auto& part : parts) longer.push_back(name + part);
    names = std::move(longer);
  }
  return names;
}

/// A name taken apart: everything before its last run of digits, and that run.
struct Name {
  std::string_view prefix;
  std::string_view digits;  ///< empty: the name does not end in a number
  std::uint64_t value = 0;

  [[nodiscard]] auto key() const { return std::tuple(prefix, !digits.empty(), value, digits.size()); }
};

Name take_apart(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0 && text.size() - begin < kMaxDigits && is_digit(text[begin - 1])) --begin;
  Name name{text.substr(0, begin), text.substr(begin)};
  std::from_chars(name.digits.data(), name.digits.data() + name.digits.size(), name.value);
  return name;
}

/// Names of one prefix, sorted, as the inside of a bracket; `from` moves behind them.
std::string ranges_of(const std::vector<Name>& names, std::size_t& from, std::size_t& count) {
  const auto prefix = names[from].prefix;
  std::string out;
  count = 0;
  while (from < names.size() && names[from].prefix == prefix && !names[from].digits.empty()) {
    const auto& first = names[from];
    auto last = from;
    while (last + 1 < names.size() && names[last + 1].prefix == prefix &&
           names[last + 1].value == names[last].value + 1 &&
           names[last + 1].digits == padded(names[last + 1].value, first.digits.size()))
      ++last;
    if (!out.empty()) out += ',';
    out += first.digits;
    if (last > from) out += "-" + std::string(names[last].digits);
    count += last - from + 1;
    from = last + 1;
  }
  return out;
}

}  // namespace

Result<std::vector<std::string>> expand_hostlist(std::string_view text) {
  std::vector<std::string> out;
  if (text.empty()) return out;
  std::size_t begin = 0;
  bool inside = false;
  for (std::size_t at = 0; at <= text.size(); ++at) {
    const char c = at < text.size() ? text[at] : ',';
    if (c == '[' || c == ']') {
      if (inside == (c == '[')) return bad(text, "its brackets do not match");
      inside = !inside;
    } else if (c == ',' && (!inside || at == text.size())) {
      if (inside) return bad(text, "a bracket is not closed");
      ATLAS_ASSIGN(auto names, expand_element(text.substr(begin, at - begin), text));
      if (out.size() + names.size() > kMaxHosts) return too_many();
      std::move(names.begin(), names.end(), std::back_inserter(out));
      begin = at + 1;
    }
  }
  return out;
}

std::string compress_hostlist(const std::vector<std::string>& names) {
  std::vector<Name> sorted;
  sorted.reserve(names.size());
  for (const auto& name : names) sorted.push_back(take_apart(name));
  std::sort(sorted.begin(), sorted.end(), [](const Name& a, const Name& b) { return a.key() < b.key(); });
  sorted.erase(
      std::unique(sorted.begin(), sorted.end(), [](const Name& a, const Name& b) { return a.key() == b.key(); }),
      sorted.end());
  std::string out;
  for (std::size_t at = 0; at < sorted.size();) {
    if (!out.empty()) out += ',';
    out += sorted[at].prefix;
    if (sorted[at].digits.empty()) {
      ++at;
      continue;
    }
    std::size_t count = 0;
    const auto ranges = ranges_of(sorted, at, count);
    out += count == 1 ? ranges : "[" + ranges + "]";
  }
  return out;
}

void sort_hosts(std::vector<std::string>& names) {
  std::sort(names.begin(), names.end(),
            [](const std::string& a, const std::string& b) { return take_apart(a).key() < take_apart(b).key(); });
}

}  // namespace atlas
