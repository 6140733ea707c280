#pragma once
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "controller/placement/placement.h"

// What placement.cc and cost.cc share.
namespace atlas::placement {

[[nodiscard]] inline bool contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

/// "n1, n2, n3, n4 and 6 more".
[[nodiscard]] inline std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i == 4 && names.size() > 5) return out + " and " + std::to_string(names.size() - 4) + " more";
    (out += i == 0 ? "" : ", ") += names[i];
  }
  return out;
}

/// A node seen with one request's eyes.
struct Scored {
  const NodeView* view = nullptr;
  std::string refused;     ///< why the job cannot run there; empty = it can
  std::string not_cached;  ///< why it can run there but not be warmed there
  Bytes resident;
  bool complete = false;
  bool warming = false;
  bool free_now = false;
  bool crowded = false;
  bool required = false;
  const std::vector<Switch>* switches = nullptr;  ///< null: Slurm knows none
  // By the cost model, in seconds.
  double start = std::numeric_limits<double>::infinity();  ///< infinity = not known
  double transfer = 0;                                     ///< what it misses, at the rate to expect
  bool fixed = false;  ///< nothing can be moved there ahead, or kept: it reads all it misses when the job runs

  [[nodiscard]] bool runnable() const { return refused.empty(); }
  [[nodiscard]] bool cacheable() const { return runnable() && not_cached.empty(); }
  [[nodiscard]] bool holder() const { return runnable() && view->cache && complete; }
  [[nodiscard]] double load() const {
    return view->cpus == 0 ? 1.0 : static_cast<double>(view->cpus_busy + view->cpus_promised) / view->cpus;
  }
};

}  // namespace atlas::placement
