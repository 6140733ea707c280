// place-jobs NODES DATASETS JOBS [explain]: what one placement takes of a CPU at a large site, by the cost model,
// without or with the list of all candidates. Prints JSON.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "controller/placement/placement.h"

namespace atlas {
namespace {

using namespace std::chrono_literals;

std::string name_of(std::size_t i) {
  char text[32];
  std::snprintf(text, sizeof text, "node%05zu", i);
  return text;
}

/// Of this thread: other programs on the machine do not count.
double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

/// What the controller shows place() for one job: every node, and of its cache what the job reads.
ClusterSnapshot site(std::size_t nodes, std::mt19937_64& random) {
  ClusterSnapshot out;
  for (std::size_t i = 0; i < nodes; ++i) {
    NodeView view;
    view.name = name_of(i);
    view.usable = view.cache = true;
    view.state = "mixed";
    view.cpus = 64;
    view.room = Bytes{1000 * kGiB.count};
    const auto busy = static_cast<std::uint32_t>(random() % 65);
    view.cpus_busy = busy;
    view.ahead = {{0ms, 64 - busy}};
    const std::chrono::milliseconds half(random() % 3600000), all(random() % 36000000);
    view.ahead.push_back({half, 64 - busy / 2});
    view.ahead.push_back({half + all, 64});
    out.nodes.push_back(std::move(view));
  }
  out.cost = CostModel{};
  out.cost->origin_rate["lustre"] = Bytes{500 * kMiB.count};
  out.cost->peer_rate = Bytes{1000 * kMiB.count};
  out.cost->node_rate = Bytes{2000 * kMiB.count};
  return out;
}

int run(std::size_t nodes, std::size_t datasets, std::size_t jobs, bool explain) {
  std::mt19937_64 random(1);  // NOLINT: the same every time
  auto cluster = site(nodes, random);
  std::vector<std::vector<std::size_t>> holders(datasets);
  for (auto& list : holders)
    for (std::size_t i = 0; i < nodes / 50 + 1; ++i) list.push_back(random() % nodes);
  std::vector<std::string> partition;
  for (std::size_t i = 0; i < nodes; ++i) partition.push_back(name_of(i));
  std::vector<double> took;
  std::size_t chosen = 0;
  for (std::size_t i = 0; i < jobs; ++i) {
    const auto which = random() % datasets;
    PlacementRequest request;
    request.datasets = {{{"lustre", "set" + std::to_string(which)}, Bytes{150 * kGiB.count}}};
    request.nodes = 1U << (random() % 5);
    request.cpus = request.nodes * 32;
    request.warm = WarmMode::wait;
    request.patience = 30min;
    request.duration = 10h;
    request.partition_nodes = partition;
    request.explain = explain;
    for (const auto node : holders[which])
      cluster.nodes[node].holdings[request.datasets[0].id] = {Bytes{150 * kGiB.count}, true, false};
    const double from = cpu_ms();
    const auto decision = place(cluster, request);
    took.push_back(cpu_ms() - from);
    chosen += decision.nodes.size();
    for (const auto node : holders[which]) cluster.nodes[node].holdings.clear();
  }
  std::sort(took.begin(), took.end());
  std::printf("{\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, \"nodes_chosen\": %zu}\n", took[took.size() / 2],
              took[took.size() * 99 / 100], took.back(), chosen);
  return 0;
}

}  // namespace
}  // namespace atlas

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) {
    std::fputs("usage: place-jobs NODES DATASETS JOBS [explain]\n", stderr);
    return 2;
  }
  const auto count = [&](int i) { return std::max<std::size_t>(1, std::strtoull(argv[i], nullptr, 10)); };
  return atlas::run(count(1), count(2), count(3), argc == 5);
}
