#include "common/patterns.h"

#include <fnmatch.h>

#include <algorithm>

#include "common/percent.h"

namespace atlas {
namespace {

constexpr std::size_t kLongest = 1024;

}  // namespace

Status check_pattern(std::string_view text) {
  const auto bad = [&](const char* why) {
    return fail(Code::invalid_argument, "pattern '" + printable(text) + "': " + why);
  };
  if (text.find_first_not_of('/') == std::string_view::npos) return bad("it names nothing");
  if (text.size() > kLongest) return bad("it is longer than 1024 bytes");
  if (text.find('\0') != std::string_view::npos) return bad("it holds a NUL byte");
  if (text.find("//") != std::string_view::npos) return bad("it holds an empty component");
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find('/', begin), text.size());
    const auto part = text.substr(begin, end - begin);
    if (part == "." || part == "..") return bad("paths are below the dataset's root: write them without '.' and '..'");
    begin = end + 1;
  }
  return {};
}

Patterns::Patterns(const std::vector<std::string>& texts) {
  for (std::string_view text : texts) {
    Item item;
    if (text.ends_with('/')) {
      item.directory = true;
      text.remove_suffix(1);
    }
    item.whole = text.find('/') != std::string_view::npos;
    if (text.starts_with('/')) text.remove_prefix(1);
    item.text = text;
    items_.push_back(std::move(item));
  }
}

bool Patterns::match(std::string_view path, bool is_directory) const {
  const std::string whole(path);
  const std::string name(path.substr(path.rfind('/') + 1));  // npos + 1 = 0
  return std::any_of(items_.begin(), items_.end(), [&](const Item& item) {
    return (is_directory || !item.directory) &&
           fnmatch(item.text.c_str(), item.whole ? whole.c_str() : name.c_str(), FNM_PATHNAME) == 0;
  });
}

bool Patterns::match_or_below(std::string_view path) const {
  if (match(path, false)) return true;
  for (auto slash = path.find('/'); slash != std::string_view::npos; slash = path.find('/', slash + 1))
    if (match(path.substr(0, slash), true)) return true;
  return false;
}

}  // namespace atlas
