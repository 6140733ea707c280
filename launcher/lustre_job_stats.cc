#include "launcher/lustre_job_stats.h"

#include <charconv>

namespace atlas::ctl {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

/// "samples: 25" of "{ samples: 25, unit: bytes, ..., sum: 26214400 }".
std::optional<std::uint64_t> field(std::string_view values, std::string_view key) {
  for (std::size_t at = 0; (at = values.find(key, at)) != std::string_view::npos; at += key.size()) {
    const auto after = at + key.size();
    const bool whole = at > 0 && (values[at - 1] == ' ' || values[at - 1] == ',' || values[at - 1] == '{');
    if (!whole || after >= values.size() || values[after] != ':') continue;
    const auto text = trimmed(values.substr(after + 1));
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end == text.data() + text.size()) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

std::string unquoted(std::string_view id) {
  if (id.size() >= 2 && id.front() == '"' && id.back() == '"') id = id.substr(1, id.size() - 2);
  return std::string(id);
}

}  // namespace

Result<std::map<std::string, LustreReads>> parse_job_stats(std::string_view text) {
  constexpr std::string_view kId = "- job_id:", kReads = "read_bytes:";
  std::map<std::string, LustreReads> out;
  std::optional<std::string> id;
  bool is_stats = false;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line == "job_stats:") {
      is_stats = true;
      id.reset();
    } else if (line.starts_with(kId)) {
      id = unquoted(trimmed(line.substr(kId.size())));
    } else if (line.starts_with(kReads)) {
      const auto samples = field(line, "samples"), sum = field(line, "sum");
      const bool whole = is_stats && id && line.ends_with('}') && samples && (sum || *samples == 0);
      if (!whole)
        return fail(Code::invalid_argument, "line " + std::to_string(number) + " is not one of job_stats: '" +
                                                std::string(line.substr(0, 80)) + "'");
      if (*samples == 0) continue;
      auto& reads = out[*id];
      reads.bytes += *sum;
      reads.requests += *samples;
    }
  }
  if (!is_stats)
    return fail(Code::invalid_argument,
                "there is no job_stats in it; give what 'lctl get_param obdfilter.*.job_stats' prints");
  return out;
}

std::optional<std::uint32_t> slurm_job(std::string_view id) {
  std::uint32_t job = 0;
  const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), job);
  if (error != std::errc() || job == 0) return std::nullopt;
  const auto rest = id.substr(static_cast<std::size_t>(end - id.data()));
  // Not '.': that is a program of a user, whose name may be a number.
  return rest.empty() || rest.find_first_of(":@_-/ ") == 0 ? std::optional(job) : std::nullopt;
}

bool is_cache_agent(std::string_view id) {
  return id.starts_with("atlas-cache-age");  // the kernel keeps 15 letters of it
}

}  // namespace atlas::ctl
