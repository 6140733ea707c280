#include "common/mounts.h"

#include <sstream>

#include "common/note.h"

namespace atlas {
std::string unescape_path(std::string_view text) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) && octal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<Mount> parse_mounts(std::string_view mountinfo) {
  std::vector<Mount> out;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string id, parent;
    Mount mount;
    if (!(left >> id >> parent >> mount.device >> mount.root >> mount.point >> mount.options)) continue;
    if (!(right >> mount.type >> mount.source)) continue;
    right >> mount.super;
    for (auto* text : {&mount.root, &mount.point, &mount.source}) *text = unescape_path(*text);
    out.push_back(std::move(mount));
  }
  return out;
}

std::vector<Mount> mounts_now() {
  return parse_mounts(read_note("/proc/self/mountinfo"));
}

const Mount* mount_of(const std::vector<Mount>& mounts, std::string_view path) {
  const Mount* best = nullptr;
  for (const auto& mount : mounts) {
    const bool holds = mount.point == "/" || (path.starts_with(mount.point) &&
                                              (path.size() == mount.point.size() || path[mount.point.size()] == '/'));
    if (holds && (best == nullptr || mount.point.size() >= best->point.size())) best = &mount;
  }
  return best;
}

bool has_option(std::string_view options, std::string_view one) {
  for (std::size_t begin = 0; begin <= options.size();) {
    const auto end = std::min(options.find(',', begin), options.size());
    if (options.substr(begin, end - begin) == one) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace atlas
