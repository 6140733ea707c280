#include "common/attach_report.h"

#include "common/percent.h"

namespace atlas {
namespace {

constexpr std::string_view kTag = "atlas-attach-2";

}  // namespace

std::string encode(const AttachReport& report) {
  std::string out(kTag);
  for (const bool flag : {report.known, report.mounts, report.directory_ok}) out += flag ? '1' : '0';
  for (const auto* text : {&report.cache_state, &report.announcement, &report.refused}) (out += '\0') += *text;
  return out;
}

Result<AttachReport> decode_attach_report(std::string_view bytes) {
  const auto malformed = fail(Code::invalid_argument, "malformed report of atlas-attach");
  if (!bytes.starts_with(kTag)) return malformed;
  bytes.remove_prefix(kTag.size());
  const auto first = bytes.find('\0');
  const auto second = first == std::string_view::npos ? first : bytes.find('\0', first + 1);
  const auto third = second == std::string_view::npos ? second : bytes.find('\0', second + 1);
  if (first != 3 || third == std::string_view::npos || bytes.find('\0', third + 1) != std::string_view::npos ||
      bytes.substr(0, 3).find_first_not_of("01") != std::string_view::npos)
    return malformed;
  AttachReport report;
  report.known = bytes[0] == '1';
  report.mounts = bytes[1] == '1';
  report.directory_ok = bytes[2] == '1';
  report.cache_state = bytes.substr(first + 1, second - first - 1);
  report.announcement = bytes.substr(second + 1, third - second - 1);
  report.refused = bytes.substr(third + 1);
  return report;
}

std::string cache_state_entry(std::string_view dataset, std::string_view state) {
  return percent_encode(dataset) + "=" + std::string(state);
}

std::string cache_state_of_origin(const Request& request) {
  std::string out;
  for (const auto& dataset : request.datasets) (out += out.empty() ? "" : ":") += cache_state_entry(dataset, "origin");
  return out;
}

std::string cache_state_without_cache(std::string_view state) {
  std::string out;
  while (!state.empty()) {
    const auto entry = state.substr(0, state.find(':'));
    state.remove_prefix(std::min(state.size(), entry.size() + 1));
    (out += out.empty() ? "" : ":") += std::string(entry.substr(0, entry.find('='))) + "=origin";
  }
  return out;
}

}  // namespace atlas
