#include "cache-agent/manifest/ids.h"

#include <pwd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>

#include "common/percent.h"

namespace atlas::agent {
namespace {

std::string hex_of(const unsigned char* data, std::size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned byte = data[i];
    out += kDigits[byte >> 4U];
    out += kDigits[byte & 15U];
  }
  return out;
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string show(const DatasetId& dataset) {
  return printable(dataset.origin + ":" + dataset.path);
}

std::string hash_of(const DatasetId& dataset) {
  // The NUL keeps ("a", "bc") and ("ab", "c") apart: neither part may hold one.
  const std::string text = dataset.origin + '\0' + dataset.path;
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(text.data(), text.size()));
  return hex_of(canonical.digest, sizeof canonical.digest);
}

Status check(const DatasetId& dataset) {
  const auto bad = [&](const char* why) {
    return fail(Code::invalid_argument, "dataset '" + show(dataset) + "': " + why);
  };
  if (dataset.origin.empty()) return bad("no origin");
  const std::string& path = dataset.path;
  if (path.empty()) return {};
  if (path.find('\0') != std::string::npos) return bad("the path holds a NUL byte");
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part(path.data() + begin, end - begin);
    if (part.empty() || part == "." || part == "..")
      return bad("the path must be canonical: without '.', '..' and empty components");
    if (part.size() > 255) return bad("a component is longer than 255 bytes");
    begin = end + 1;
  }
  return {};
}

std::string hex(const GenerationId& generation) {
  return hex_of(generation.digest.data(), generation.digest.size());
}

std::optional<GenerationId> generation_from_hex(std::string_view text) {
  GenerationId id;
  if (text.size() != 2 * id.digest.size()) return std::nullopt;
  for (std::size_t i = 0; i < id.digest.size(); ++i) {
    const int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    id.digest[i] = static_cast<unsigned char>(high * 16 + low);
  }
  return id;
}

Principal normalize(Principal principal) {
  auto& groups = principal.groups;
  groups.push_back(principal.gid);
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  return principal;
}

std::string show(const Principal& principal) {
  std::array<char, 16384> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  std::string text = "uid " + std::to_string(principal.uid);
  if (getpwuid_r(principal.uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    text += " (" + std::string(entry.pw_name) + ")";
  return text;
}

std::string key_of(const Principal& normalized) {
  std::string key = std::to_string(normalized.uid) + ":" + std::to_string(normalized.gid) + ":";
  for (const auto group : normalized.groups) key += std::to_string(group) + ",";
  if (key.back() == ',') key.pop_back();
  return key;
}

}  // namespace atlas::agent
