#pragma once
#include <cstdint>
#include <string_view>

#include "sim/cluster.h"
#include "sim/workload.h"

namespace atlas::sim {

/// Random numbers that are the same on every machine for a seed (the standard's distributions are not).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();                     ///< splitmix64
  double uniform();                         ///< in [0, 1)
  double uniform(double low, double high);  ///< in [low, high)
  double exponential(double mean);          ///< above 0
  double lognormal(double median, double sigma);
  std::uint64_t below(std::uint64_t bound);  ///< in [0, bound), bound > 0

 private:
  std::uint64_t state_;
};

/// Ranks 0..n-1, rank r with a weight of 1/(r+1)^exponent.
class Zipf {
 public:
  Zipf(std::uint32_t n, double exponent);
  [[nodiscard]] std::uint32_t draw(Random& random) const;

 private:
  std::vector<double> cumulative_;
};

/// A dataset's size as at the model site: a tree of small files of about 183 GB, or one LMDB file of about 125 GB.
[[nodiscard]] Bytes model_size(Random& random);

/// What generate() makes.
struct Recipe {
  std::string_view name;
  std::uint32_t jobs = 3000;
  std::uint32_t datasets = 100;  ///< 0 = each job its own: no reuse
  double zipf = 1.1;
  double load = 0.9;  ///< node time asked for / node time there is, data being no hindrance
  Time mean_runtime{3600};
  double without_data = 0.1;  ///< share of jobs that read no dataset
  double multi_node = 0.15;   ///< share of jobs on 2, 4 or 8 nodes
  double half_node = 0.3;     ///< share of single-node jobs that take half of one
  std::uint32_t users = 40;
  std::uint64_t seed = 1;
};

/// Jobs arrive by Poisson's law at such a rate that `load` holds for the site. Time limits are 1.2 to 4 times run
/// times.
[[nodiscard]] Workload generate(const Recipe& recipe, const Site& site);

/// The three fixed workloads of the figures: "zipf", "partial", "none". not_found for other names.
[[nodiscard]] Result<Recipe> preset(std::string_view name);

}  // namespace atlas::sim
