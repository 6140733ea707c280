#include "sim/generate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace atlas::sim {

std::uint64_t Random::next() {
  std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}
double Random::uniform() {
  return static_cast<double>(next() >> 11) * 0x1.0p-53;
}
double Random::uniform(double low, double high) {
  return low + (high - low) * uniform();
}
double Random::exponential(double mean) {
  return -mean * std::log1p(-uniform());
}
double Random::lognormal(double median, double sigma) {
  const double radius = std::sqrt(-2 * std::log1p(-uniform()));
  return median * std::exp(sigma * radius * std::cos(2 * std::numbers::pi * uniform()));
}
std::uint64_t Random::below(std::uint64_t bound) {
  return std::min(static_cast<std::uint64_t>(uniform() * static_cast<double>(bound)), bound - 1);
}

Zipf::Zipf(std::uint32_t n, double exponent) {
  double sum = 0;
  for (std::uint32_t rank = 1; rank <= std::max(1U, n); ++rank)
    cumulative_.push_back(sum += 1 / std::pow(static_cast<double>(rank), exponent));
}
std::uint32_t Zipf::draw(Random& random) const {
  const double at = random.uniform() * cumulative_.back();
  const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end(), at);
  return static_cast<std::uint32_t>(
      std::min<std::ptrdiff_t>(found - cumulative_.begin(), static_cast<std::ptrdiff_t>(cumulative_.size()) - 1));
}

Bytes model_size(Random& random) {
  const double middle = random.uniform() < 0.5 ? 183e9 : 125e9;
  return Bytes{static_cast<std::uint64_t>(middle * random.uniform(0.5, 1.5))};
}

namespace {

std::uint32_t nodes_of(Random& random, double multi_node) {
  if (random.uniform() >= multi_node) return 1;
  const double which = random.uniform();
  return which < 0.6 ? 2 : which < 0.9 ? 4 : 8;
}

}  // namespace

Workload generate(const Recipe& recipe, const Site& site) {
  // Each question has its own stream: another answer to one does not change the others'.
  Random sizes(recipe.seed * 8 + 1), shapes(recipe.seed * 8 + 2), arrivals(recipe.seed * 8 + 3),
      choices(recipe.seed * 8 + 4);
  Workload out;
  for (std::uint32_t i = 0; i < recipe.users; ++i) out.users.push_back("user" + std::to_string(i + 1));
  const Zipf whom(recipe.users, 0.8);
  const Zipf which(recipe.datasets, recipe.zipf);
  for (std::uint32_t i = 0; i < recipe.datasets; ++i)
    out.datasets.push_back({"set" + std::to_string(i + 1), model_size(sizes)});
  double node_seconds = 0;
  for (std::uint32_t i = 0; i < recipe.jobs; ++i) {
    SimJob job;
    job.id = std::to_string(i + 1);
    job.user = whom.draw(shapes);
    job.nodes = std::min(nodes_of(shapes, recipe.multi_node), site.nodes);
    const bool half = job.nodes == 1 && shapes.uniform() < recipe.half_node;
    job.cpus = half ? std::max(1U, site.cpus / 2) : site.cpus;
    constexpr double kSigma = 0.8;
    const double runtime = shapes.lognormal(recipe.mean_runtime.count() / std::exp(kSigma * kSigma / 2), kSigma);
    job.runtime = Time(std::clamp(runtime, 60.0, 24 * 3600.0));
    job.limit = job.runtime * shapes.uniform(1.2, 4);
    if (choices.uniform() >= recipe.without_data) {
      if (recipe.datasets == 0) {
        out.datasets.push_back({"own" + job.id, model_size(sizes)});
        job.datasets.push_back(static_cast<std::uint32_t>(out.datasets.size() - 1));
      } else {
        job.datasets.push_back(which.draw(choices));
      }
    }
    node_seconds += job.runtime.count() * job.nodes * job.cpus / site.cpus;
    out.jobs.push_back(std::move(job));
  }
  const double span = node_seconds / (recipe.load * site.nodes);
  double at = 0;
  for (auto& job : out.jobs) job.submit = Time(at += arrivals.exponential(span / recipe.jobs));
  return out;
}

Result<Recipe> preset(std::string_view name) {
  Recipe recipe;
  recipe.name = name;
  if (name == "zipf") {
    recipe.load = 1.0;
    return recipe;
  }
  if (name == "partial") {
    // Each dataset is read by two or three jobs: what is read the first time can hit nowhere.
    recipe.datasets = 1400;
    recipe.zipf = 0.5;
    recipe.load = 0.95;
    return recipe;
  }
  if (name == "none") {
    recipe.datasets = 0;
    recipe.load = 0.9;
    return recipe;
  }
  return fail(Code::not_found, "no workload '" + std::string(name) + "': zipf, partial or none");
}

}  // namespace atlas::sim
