// stage-jobs NODES DATASETS JOBS POLLS SUBMITS: what the controller's own staging takes of a CPU at a large site: each
// look at Slurm's queue while so many jobs wait, and the decision when one more is submitted. Prints JSON.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/bench/large_site.h"

namespace atlas::bench {
namespace {

using namespace std::chrono_literals;

void print(const char* name, std::vector<double> took) {
  std::sort(took.begin(), took.end());
  double sum = 0;
  for (const double ms : took) sum += ms;
  std::printf("\"%s\": {\"count\": %zu, \"mean_ms\": %.3f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}", name,
              took.size(), sum / static_cast<double>(took.size()), took[took.size() / 2], took[took.size() * 99 / 100],
              took.back());
}

int run(const SiteSize& size, std::size_t polls, std::size_t submits) {
  LargeSite site(size);
  std::vector<double> filling, decisions, cycles;
  const auto a_second = [&] {
    const double took = site.pass(1s);
    site.finish_warmups();
    return took;
  };
  while (site.pending() < size.pending) {
    filling.push_back(site.submit());
    if (filling.size() % 100 == 0) a_second();
  }
  for (int i = 0; i < 5; ++i) a_second();  // what was asked for all at once settles
  for (std::size_t i = 0; i < polls; ++i) {
    site.churn(size.nodes / 1000);
    cycles.push_back(a_second());
    while (site.pending() < size.pending) decisions.push_back(site.submit());
  }
  while (decisions.size() < submits) {
    decisions.push_back(site.submit());
    if (decisions.size() % 100 == 0) a_second();
  }
  std::printf("{");
  print("submit_while_filling", filling);
  std::printf(", ");
  print("submit", decisions);
  std::printf(", ");
  print("poll", cycles);
  std::printf(", \"phases\": {");
  const char* comma = "";
  for (const auto& [phase, count] : site.phases())
    std::printf("%s\"%s\": %zu", std::exchange(comma, ", "), phase.c_str(), count);
  std::printf("}}\n");
  return 0;
}

}  // namespace
}  // namespace atlas::bench

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fputs("usage: stage-jobs NODES DATASETS JOBS POLLS SUBMITS\n", stderr);
    return 2;
  }
  const auto count = [&](int i) { return std::max<std::size_t>(1, std::strtoull(argv[i], nullptr, 10)); };
  return atlas::bench::run({count(1), count(2), count(3)}, count(4), count(5));
}
