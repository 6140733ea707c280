#include "controller/slurm/job_lists.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <string>

namespace atlas::slurm {

std::uint32_t count_array_tasks(std::string_view ids, std::uint32_t most) {
  constexpr std::uint32_t kMany = 1U << 20;
  std::uint64_t count = 0;
  const std::string_view list = ids.substr(0, ids.find('%'));
  for (std::size_t from = 0; from < list.size();) {
    const auto end = std::min(list.find(',', from), list.size());
    const std::string_view item = list.substr(from, end - from);
    from = end + 1;
    unsigned first = 0, last = 0, step = 1;
    const int found = std::sscanf(std::string(item).c_str(), "%u-%u:%u", &first, &last, &step);
    if (found < 1 || item.find("...") != std::string_view::npos) {
      count = kMany;
      break;
    }
    count += found == 1 || last < first ? 1 : (last - first) / std::max(1U, step) + 1;
  }
  count = std::clamp<std::uint64_t>(count, 1, kMany);
  return most == 0 ? static_cast<std::uint32_t>(count) : std::min(most, static_cast<std::uint32_t>(count));
}

std::vector<std::uint32_t> followed_jobs(std::string_view dependency) {
  std::vector<std::uint32_t> out;
  for (std::size_t at = dependency.find(':'); at != std::string_view::npos; at = dependency.find(':', at + 1)) {
    std::uint32_t id = 0;
    const char* const end = dependency.data() + dependency.size();
    if (std::from_chars(dependency.data() + at + 1, end, id).ec != std::errc() || id == 0) continue;
    if (std::find(out.begin(), out.end(), id) == out.end()) out.push_back(id);
  }
  return out;
}

}  // namespace atlas::slurm
