#include "cache-agent/job_io/storage_counters.h"

#include <charconv>
#include <vector>

#include "common/mounts.h"

namespace atlas::agent {
namespace {

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> out;
  while (true) {
    const auto begin = text.find_first_not_of(separators);
    if (begin == std::string_view::npos) return out;
    text.remove_prefix(begin);
    const auto end = std::min(text.find_first_of(separators), text.size());
    out.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}
std::vector<std::string_view> words(std::string_view line) {
  return split(line, " \t");
}
/// Whole lines: the last one of a file that was cut off is none.
std::vector<std::string_view> lines(std::string_view text) {
  const auto end = text.rfind('\n');
  return end == std::string_view::npos ? std::vector<std::string_view>() : split(text.substr(0, end), "\n");
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<StorageReads> reads(std::string_view bytes, std::string_view operations) {
  const auto b = number(bytes), o = number(operations);
  return b && o ? std::optional(StorageReads{*b, *o}) : std::nullopt;
}

}  // namespace

std::optional<StorageReads> nfs_reads(std::string_view mountstats, std::string_view point) {
  std::string_view bytes, operations;
  bool here = false;
  for (const auto line : lines(mountstats)) {
    const auto word = words(line);
    // "device SERVER:/DIR mounted on POINT with fstype nfs4 statvers=1.1"
    if (word.size() >= 8 && word[0] == "device" && word[2] == "mounted") {
      here = unescape_path(word[4]) == point && word[7].starts_with("nfs");
      if (here) bytes = operations = {};  // of two at the same place the later one is on top
    } else if (here && word.size() >= 6 && word[0] == "bytes:") {
      bytes = word[5];  // after those of read(), write() and of O_DIRECT: what came from the server
    } else if (here && word.size() >= 2 && word[0] == "READ:") {
      operations = word[1];
    }
  }
  return reads(bytes, operations);
}

std::optional<StorageReads> lustre_reads(std::string_view osc_stats) {
  bool is_stats = false;
  for (const auto line : lines(osc_stats)) {
    const auto word = words(line);
    if (word.empty()) continue;
    is_stats = is_stats || word[0] == "snapshot_time";
    // "read_bytes 591036 samples [bytes] 4096 1048576 452705124352 458909478532677632"
    if (word[0] == "read_bytes")
      return word.size() >= 7 && word[3] == "[bytes]" ? reads(word[6], word[1]) : std::nullopt;
  }
  return is_stats ? std::optional(StorageReads{}) : std::nullopt;  // nothing read yet: no such line
}

std::string lustre_name(std::string_view source) {
  const auto colon = source.rfind(":/");
  if (colon == std::string_view::npos) return "";
  source.remove_prefix(colon + 2);
  return std::string(source.substr(0, source.find('/')));
}

std::optional<StorageReads> block_reads(std::string_view stat) {
  const auto word = split(stat, " \t\n");  // reads, merged, sectors of 512 bytes, ...
  if (word.size() < 11) return std::nullopt;
  auto out = reads(word[2], word[0]);
  if (out) out->bytes *= 512;
  return out;
}

std::optional<std::uint64_t> process_reads(std::string_view io) {
  for (const auto line : lines(io))
    if (const auto word = words(line); word.size() == 2 && word[0] == "read_bytes:") return number(word[1]);
  return std::nullopt;
}

std::map<std::string, std::uint64_t> reads_by_disk(std::string_view text) {
  constexpr std::string_view kKey = "rbytes=";
  std::map<std::string, std::uint64_t> out;
  for (const auto line : lines(text)) {
    const auto word = words(line);
    if (word.size() < 2 || word[0].find(':') == std::string_view::npos) continue;
    if (word.size() == 3 && word[1] == "Read") {
      if (const auto bytes = number(word[2])) out[std::string(word[0])] = *bytes;
      continue;
    }
    for (const auto field : word)
      if (field.starts_with(kKey))
        if (const auto bytes = number(field.substr(kKey.size()))) out[std::string(word[0])] = *bytes;
  }
  return out;
}

}  // namespace atlas::agent
